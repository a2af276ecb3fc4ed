"""Which server a command talks to."""

from __future__ import annotations

from online.core.home import Home
from server.processes.discovery import find_server

__all__ = ["server_url"]

DEFAULT_URL = "http://127.0.0.1:8000"  # where 'millrace serve' listens unless told otherwise


def server_url(home: Home, url: str | None) -> str:
    """The address to ask.

    Parameters
    ----------
    home
        The home whose running server is meant when no address is given.
    url
        The address that was given, if one was.

    Returns
    -------
    str
        The address given, else that of the server running in the home, else the default one.
    """
    return (url or find_server(home) or DEFAULT_URL).rstrip("/")
