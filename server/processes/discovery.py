"""Where the server of a home is found, by scripts beside it."""

from __future__ import annotations

import os

import httpx
import msgspec

from online.core.home import Home

__all__ = ["running"]


def running(home: Home) -> str | None:
    """The address of the server running in a home, if one answers; a dead one's may be another's by now."""
    try:
        advert = msgspec.json.decode(home.server.read_bytes())
        os.kill(advert["pid"], 0)
        url: str = advert["url"]
        httpx.get(f"{url}/health/live", timeout=5.0)
    except (OSError, LookupError, TypeError, msgspec.DecodeError, httpx.TransportError, httpx.InvalidURL):
        return None
    return url
