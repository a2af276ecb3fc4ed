"""The roles a process can have: scorer, label worker, learner, watcher, monitor."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from online.core.config import Config
from online.core.errors import FormatError, LockError, MillraceError
from online.core.gc_tuning import tune_gc
from online.core.home import Home

__all__ = [
    "end_with_parent",
    "run_label_worker",
    "run_learner",
    "run_monitor",
    "run_scorer",
    "run_watcher",
    "stopped_by_signals",
]

log = logging.getLogger(__name__)

NICENESS = {"label-worker": 5, "monitor": 5, "learner": 10, "watcher": 15}  # scoring goes first
AUTOGROUP, AUTOGROUP_TRIES, AUTOGROUP_SECONDS = Path("/proc/self/autogroup"), 10, 0.1
SWITCH_SECONDS = 0.0003  # a thread that works behind the replies lets them go on after so long
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, LOOK_SECONDS = 1.0, 60.0, 0.05


def run_scorer(home: Home, config: Config, listener: socket.socket) -> None:
    """Serve the API on a bound socket until SIGTERM; requests under way are finished."""
    # Litestar would import pydantic where it is installed, Numba looks for BLAS in SciPy: nothing here
    # needs either, and they are a quarter of the time it takes to start
    for unneeded in ("pydantic", "scipy"):
        sys.modules.setdefault(unneeded, None)  # type: ignore[arg-type]
    import uvicorn  # only this role needs it

    from server.http.app import create_app
    from server.http.uvicorn_protocol import ShortcutProtocol
    from server.processes.startup import check_plan

    check_plan(home, config)
    settings = uvicorn.Config(
        create_app(home, config), log_level="warning", access_log=False, lifespan="on",
        http=ShortcutProtocol, timeout_graceful_shutdown=10, server_header=False,
    )  # fmt: skip
    tune_gc()
    sys.setswitchinterval(SWITCH_SECONDS)
    uvicorn.Server(settings).run(sockets=[listener])


def run_label_worker(home: Home, config: Config, fd: int) -> None:
    """Take in labels from the scorer at the other end of a socket, until it closes that: no signal does."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wanted = os.getpriority(os.PRIO_PROCESS, os.getppid()) + NICENESS["label-worker"]
    os.nice(max(0, wanted - os.nice(0)))  # the scorer's thread that started this one may be nice already
    make_session_nice("label-worker")
    from server.processes.label_worker import serve_scorer

    tune_gc()
    serve_scorer(home, config, fd)


def run_learner(home: Home, config: Config) -> None:
    """Learn until SIGTERM, then snapshot; what somebody has to mend first is told and tried again.

    Raises LockError when another learner is at work in this home.
    """
    os.nice(NICENESS["learner"])
    from online.learning.learner import Learner  # River takes a while to import

    tune_gc()
    stopped = stopped_by_signals()
    delay = FIRST_RETRY_SECONDS
    while not stopped():
        began = time.monotonic()
        try:
            with Learner(home, config) as learner:
                make_session_nice("learner")  # not before: where much else runs it would take long to start
                log.info("learning from seq %d, model_v%d", learner.seq, learner.version)
                learner.run(stopped)
        except LockError:
            raise
        except (MillraceError, sqlite3.Error, OSError) as exc:
            steady = time.monotonic() - began > LONGEST_RETRY_SECONDS
            delay = FIRST_RETRY_SECONDS if steady else min(2 * delay, LONGEST_RETRY_SECONDS)
            log.error("learning has stopped, predictions go on: %s (next try in %g s)", exc, delay)
            tell_stopped(home, str(exc))
            wait(delay, stopped)


def tell_stopped(home: Home, error: str) -> None:
    """Leave word for GET /model and GET /health/ready why nothing is learned."""
    from online.storage.metrics_store import MetricsStore  # the monitor's image has no numpy

    words = {"alive": False, "updated_at": time.time(), "pid": os.getpid(), "error": error}
    with contextlib.suppress(FormatError, sqlite3.Error, OSError):
        history = MetricsStore(home.history)
        try:
            history.write([], [], {"learner": words})
        finally:
            history.close()


def wait(seconds: float, stopped: Callable[[], bool]) -> None:
    """Sleep, but not through a signal to stop."""
    deadline = time.monotonic() + seconds
    while not stopped() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def run_watcher(home: Home, config: Config) -> None:
    """Watch for drift until SIGTERM."""
    os.nice(NICENESS["watcher"])  # before it imports anything
    make_session_nice("watcher")
    from server.processes.drift_watcher import watch_until

    watch_until(home, config, stopped_by_signals())


def run_monitor(api_url: str, listener: socket.socket) -> None:
    """Serve the monitor on a bound socket until SIGTERM."""
    os.nice(NICENESS["monitor"])
    make_session_nice("monitor")
    from server.monitor.monitor_process import ListenAddress, serve_monitor

    host, port = listener.getsockname()[:2]
    serve_monitor(api_url, ListenAddress(host, port, listener.fileno()), threading.Event())


def make_session_nice(role: str) -> None:
    """Let other sessions go first, those of roles that answer requests.

    Linux may share a processor between sessions, whatever the niceness of their processes (sched(7),
    "The autogroup feature"), and the supervisor gives each role a session of its own.
    """
    for _ in range(AUTOGROUP_TRIES if os.getsid(0) == os.getpid() else 0):
        try:
            AUTOGROUP.write_text(str(NICENESS[role]))
        except BlockingIOError:  # all users together may do so ten times a second
            time.sleep(AUTOGROUP_SECONDS)
        except OSError:  # another kernel
            return
        else:
            return


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
