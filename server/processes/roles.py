"""What each process of a server does: scorer, label worker, learner, watcher, monitor."""

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

from online.core.config import Config
from online.core.errors import FormatError, LockError, MillraceError
from online.core.gc_tuning import tune_gc
from online.core.home import Home
from server.processes.priority import ROLE_NICENESS, make_session_nice
from server.processes.stopping import sleep_until_stopped, stopped_by_signals

__all__ = ["run_label_worker", "run_learner", "run_monitor", "run_scorer", "run_watcher"]

log = logging.getLogger(__name__)

# Python hands the interpreter over every 5 ms: a reply would wait so long for a background thread.
SWITCH_SECONDS = 0.0003
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 60.0


def run_scorer(home: Home, config: Config, listener: socket.socket) -> None:
    """Serve the API until SIGTERM; requests under way are finished.

    Parameters
    ----------
    home, config
        What is served.
    listener
        A bound socket that listens; all scorers of a server share it.

    Raises
    ------
    SchemaError
        millrace.toml has not the schema of the plan that is served.
    """
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
        create_app(home, config),
        log_level="warning",
        access_log=False,
        lifespan="on",
        http=ShortcutProtocol,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
    tune_gc()
    sys.setswitchinterval(SWITCH_SECONDS)
    uvicorn.Server(settings).run(sockets=[listener])


def run_label_worker(home: Home, config: Config, fd: int) -> None:
    """Take labels from a scorer until it closes its end of a socket.

    Parameters
    ----------
    home, config
        Whose labels.
    fd
        This end of the socket.
    """
    # A Ctrl-C or SIGTERM may reach both processes. The scorer still takes requests to their end then, and
    # their labels need this process: it ends when the scorer does, which closes the socket.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Counted from the scorer's own niceness: the thread that started this process may be a background one,
    # and children inherit the niceness of the thread.
    wanted = os.getpriority(os.PRIO_PROCESS, os.getppid()) + ROLE_NICENESS["label-worker"]
    os.nice(max(0, wanted - os.nice(0)))
    make_session_nice("label-worker")
    from server.processes.label_worker import serve_scorer

    tune_gc()
    serve_scorer(home, config, fd)


def run_learner(home: Home, config: Config) -> None:
    """Learn until SIGTERM, then snapshot.

    Where somebody has to mend something first, this is logged and shown as the learner's error, and tried
    again: a process that ended would be started again by the supervisor, and log the same every few seconds.

    Parameters
    ----------
    home, config
        What is learned.

    Raises
    ------
    LockError
        Another learner is at work in this home.
    """
    os.nice(ROLE_NICENESS["learner"])
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
            record_error(home, str(exc))
            sleep_until_stopped(delay, stopped)


def record_error(home: Home, error: str) -> None:
    """Write why nothing is learned, for GET /model and GET /health/ready."""
    from online.storage.metrics_store import MetricsStore  # the monitor's image has no numpy

    status = {"alive": False, "updated_at": time.time(), "pid": os.getpid(), "error": error}
    try:
        with contextlib.closing(MetricsStore(home.history)) as store:
            store.write([], [], {"learner": status})
    except (FormatError, sqlite3.Error, OSError) as exc:
        log.warning("the learner's state cannot be written either: %s", exc)


def run_watcher(home: Home, config: Config) -> None:
    """Watch for drift until SIGTERM.

    Parameters
    ----------
    home, config
        What is watched.
    """
    os.nice(ROLE_NICENESS["watcher"])  # before its imports, which take seconds of a processor
    make_session_nice("watcher")
    from server.processes.drift_watcher import watch_until

    watch_until(home, config, stopped_by_signals())


def run_monitor(api_url: str, listener: socket.socket) -> None:
    """Serve the monitor until SIGTERM.

    Parameters
    ----------
    api_url
        Where the API is.
    listener
        A bound socket that listens.
    """
    os.nice(ROLE_NICENESS["monitor"])
    make_session_nice("monitor")
    from server.monitor.monitor_process import ListenAddress, serve_monitor

    host, port = listener.getsockname()[:2]
    serve_monitor(api_url, ListenAddress(host, port, listener.fileno()), threading.Event())
