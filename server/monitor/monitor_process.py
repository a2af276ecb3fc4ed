"""The monitor as a process: its page served over HTTP until told to stop.

Werkzeug's threaded server takes it: it is installed with Dash, serves on a socket that already listens, and a
few people's browsers are all it has to bear. (uvicorn's own WSGI interface is deprecated.) Dash is imported
only when serving starts, since it takes a second.
"""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any, NamedTuple

__all__ = ["ListenAddress", "serve_monitor"]

IDLE_SECONDS = 60  # a browser keeps its connections open for good otherwise, a thread each
STOP_POLL_SECONDS = 0.1


class ListenAddress(NamedTuple):
    """Where to listen: on ``host`` and ``port``, or on the socket ``fd``.

    The supervisor opens the socket, so that the port stays taken while a monitor that died is started again.
    Such a socket is duplicated, and stays open; ``host`` still tells its address family.
    """

    host: str
    port: int
    fd: int | None = None


def serve_monitor(
    api_url: str, address: ListenAddress, stop: threading.Event, *, patience: float = 1.0
) -> None:
    """Serve the monitor of the API at ``api_url`` until ``stop`` is set or SIGTERM or SIGINT comes.

    Parameters
    ----------
    api_url
        Where the Millrace API answers, for instance ``http://127.0.0.1:8000``.
    address
        Where to listen.
    stop
        Set it to end serving. Signals are taken only when called in the main thread, and then
        set it too.
    patience
        Factor on the pauses between costly questions to the API: 0 asks at each update.
    """
    from server.monitor.monitor_app import build_app

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = listen(build_app(api_url, patience=patience).server, address)
    previous = take_signals(stop)
    watcher = threading.Thread(target=shut_down, args=(server, stop), name="monitor-stop", daemon=True)
    watcher.start()
    try:
        server.serve_forever(poll_interval=STOP_POLL_SECONDS)
    finally:
        stop.set()
        for number, handler in previous.items():
            signal.signal(number, handler)


def listen(application: Any, address: ListenAddress) -> Any:
    """A threaded server that logs no request and closes connections left idle."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        """Quiet, and with a limit on idle connections."""

        timeout = IDLE_SECONDS

        def log_request(self, *_: object) -> None:
            """Log nothing: a page asks every second."""

    host, port, fd = address
    return make_server(host, port, application, threaded=True, request_handler=Handler, fd=fd)


def take_signals(stop: threading.Event) -> dict[int, Any]:
    """End serving at SIGTERM and SIGINT; the handlers that were there before are returned."""
    if threading.current_thread() is not threading.main_thread():
        return {}  # Python lets no other thread set handlers

    def on_signal(*_: object) -> None:
        stop.set()

    return {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}


def shut_down(server: Any, stop: threading.Event) -> None:
    """Wait until ``stop`` is set, then end the server's loop: its own thread would wait for itself."""
    stop.wait()
    server.shutdown()
