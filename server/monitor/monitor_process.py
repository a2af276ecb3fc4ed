"""The monitor as a process: its page served over HTTP until told to stop.

Werkzeug's threaded server takes it: it is installed with Dash, serves on a socket that is already
listening, and a few people's browsers are all it has to bear. (uvicorn's own WSGI interface is deprecated.)
Dash is imported only when serving starts.
"""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

__all__ = ["serve_monitor"]

IDLE_SECONDS = 60


def serve_monitor(
    api_url: str, host: str, fd: int | None, port: int, stop: threading.Event, *, patience: float = 1.0
) -> None:
    """Serve the monitor of the API at ``api_url`` until ``stop`` is set or SIGTERM or SIGINT comes.

    Parameters
    ----------
    api_url
        Where the Millrace API answers, for instance ``http://127.0.0.1:8000``.
    host, port
        Where to listen, when ``fd`` is None.
    fd
        A socket that already listens; it is duplicated, and stays open.
    stop
        Set it to end serving. Signals are taken only when called in the main thread, and then
        set it too.
    patience
        How much of the pauses between costly questions to the API is kept: 0 asks at each look.
    """
    from server.monitor.monitor_app import build_app

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = listen(build_app(api_url, patience=patience).server, host, fd, port)
    previous = take_signals(stop)
    watcher = threading.Thread(target=shut_down, args=(server, stop), name="monitor-stop", daemon=True)
    watcher.start()
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        stop.set()
        for number, handler in previous.items():
            signal.signal(number, handler)


def listen(application: Any, host: str, fd: int | None, port: int) -> Any:
    """A threaded server that logs no request and closes connections left idle."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        """Quiet, and not for ever."""

        timeout = IDLE_SECONDS

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Log nothing: a page asks every second."""

    return make_server(host, port, application, threaded=True, request_handler=Handler, fd=fd)


def take_signals(stop: threading.Event) -> dict[int, Any]:
    """End serving at SIGTERM and SIGINT; the handlers that were there before are returned."""
    if threading.current_thread() is not threading.main_thread():
        return {}

    def on_signal(number: int, frame: object) -> None:
        stop.set()

    return {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}


def shut_down(server: Any, stop: threading.Event) -> None:
    """Wait for the word, then end the server's loop (never from the loop's own thread)."""
    stop.wait()
    server.shutdown()
