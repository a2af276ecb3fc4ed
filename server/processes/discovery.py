"""Where the server of a home is found, by commands and scripts beside it: ``data/server.json``."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import msgspec

from online.core.home import Home, write_atomically

__all__ = ["ServerInfo", "find_server", "server_info"]

log = logging.getLogger(__name__)


class ServerInfo(msgspec.Struct, frozen=True):
    """Where a running server is found: what ``data/server.json`` holds."""

    pid: int
    url: str
    monitor_url: str


@contextlib.contextmanager
def server_info(home: Home, info: ServerInfo) -> Iterator[None]:
    """Keep ``data/server.json`` while the server of the block runs.

    Parameters
    ----------
    home
        The server's.
    info
        Where it is found.

    Yields
    ------
    None
        Once the file is there.
    """
    write_atomically(home.server, msgspec.json.encode(info))
    try:
        yield
    finally:
        home.server.unlink(missing_ok=True)


def find_server(home: Home) -> str | None:
    """The address of the server running in a home, if one answers."""
    import httpx  # takes a tenth of a second, which the supervisor has no use for

    try:
        info = msgspec.json.decode(home.server.read_bytes(), type=ServerInfo)
        # A server that was killed leaves its file behind, and its port may be another program's by now:
        # the process has to be there, and to answer.
        os.kill(info.pid, 0)
        httpx.get(f"{info.url}/health/live", timeout=5.0)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, httpx.TransportError, httpx.InvalidURL) as exc:
        log.debug("%s names no running server: %s", home.server, exc)
        return None
    return info.url
