"""The roles a process can have: scorer, learner, watcher, monitor."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable

from online.config import Config
from online.home import Home

__all__ = ["end_with_parent", "run_learner", "run_monitor", "run_scorer", "run_watcher", "stopped_by_signals"]

log = logging.getLogger(__name__)

NICENESS = 5  # of the watcher, which scoring and learning go before


def run_scorer(home: Home, config: Config, listener: socket.socket) -> None:
    """Serve the API on a bound socket until SIGTERM; requests under way are finished."""
    import uvicorn  # only this role needs it

    from server.app import create_app
    from server.startup import check_plan

    check_plan(home, config)
    settings = uvicorn.Config(
        create_app(home, config), log_level="warning", access_log=False, lifespan="on",
        timeout_graceful_shutdown=10, server_header=False,
    )  # fmt: skip
    uvicorn.Server(settings).run(sockets=[listener])


def run_learner(home: Home, config: Config) -> None:
    """Learn until SIGTERM, then snapshot."""
    from online.learner import Learner  # River takes a while to import

    stopped = stopped_by_signals()
    with Learner(home, config) as learner:
        log.info("learning from seq %d, model_v%d", learner.seq, learner.version)
        learner.run(stopped)


def run_watcher(home: Home, config: Config) -> None:
    """Watch for drift until SIGTERM."""
    os.nice(NICENESS)  # before it imports anything
    from server.watcher import watch_until

    watch_until(home, config, stopped_by_signals())


def run_monitor(api_url: str, listener: socket.socket) -> None:
    """Serve the monitor on a bound socket until SIGTERM."""
    from server.monitor.process import serve_monitor

    host, port = listener.getsockname()[:2]
    serve_monitor(api_url, host, listener.fileno(), port, threading.Event())


def stopped_by_signals() -> Callable[[], bool]:
    """Take SIGTERM, SIGINT and SIGHUP; whether one has come.

    No threading.Event: a handler that sets one can meet its own thread holding the event's lock.
    """
    came: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _: came.append(got))
    return lambda: bool(came)


def end_with_parent(fd: int) -> None:
    """Terminate this process when the other end of a pipe closes: when its supervisor is gone."""

    def wait() -> None:
        os.read(fd, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
