"""The servers that Millrace is measured beside: started on free ports, stopped afterwards."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.support.running import until

__all__ = ["Peer", "page_is_there", "peer"]

PROGRAM = Path(__file__).with_name("speed_peers.py")
PEER_SECONDS = 120.0  # FastAPI's model learns its rows before it answers
LISTEN_BACKLOG = 2048  # as uvicorn's own


class Peer(NamedTuple):
    """A server at work: where it is asked, and its process."""

    url: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def peer(app: str, python: str, rows: Path | None = None) -> Iterator[Peer]:
    """One of the servers of ``speed_peers.py``.

    Parameters
    ----------
    app
        Its name there.
    python
        The Python that runs it.
    rows
        A JSON file of rows and labels that it learns first, where it learns.

    Yields
    ------
    Peer
        The server, answering; it is stopped afterwards.

    Raises
    ------
    RuntimeError
        It did not start.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(LISTEN_BACKLOG)
        listener.set_inheritable(True)
        command = [python, str(PROGRAM), app, "--fd", str(listener.fileno())]
        command += ["--rows", str(rows)] if rows else []
        process = subprocess.Popen(command, pass_fds=[listener.fileno()])  # noqa: S603 - our own script
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/predict"
    try:
        until(lambda: process.poll() is not None or answers(url), f"{app} to answer", PEER_SECONDS)
        if process.poll() is not None:
            raise RuntimeError(f"{app} did not start")
        yield Peer(url, process)
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    """Whether a POST is answered."""
    with contextlib.suppress(httpx.TransportError):
        return bool(httpx.post(url, content=b"{}", timeout=PEER_SECONDS).status_code)
    return False


def page_is_there(url: str) -> bool:
    """Whether a GET succeeds."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url).is_success
    return False
