"""Where a call comes from: this machine or another, a page of this site or of another one.

The API and the monitor both ask. The monitor's image has neither NumPy nor River, so nothing is imported here
but the standard library.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

__all__ = ["is_foreign_origin", "is_loopback", "is_loopback_host"]


def is_loopback(address: str | None) -> bool:
    """Whether an IP address, or the name ``localhost``, is this machine's own."""
    try:
        return address == "localhost" or ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


def is_loopback_host(host: str | None) -> bool:
    """Whether a ``Host`` header, with or without a port, names this machine by a loopback address.

    A site whose name was made to point to this machine sends its own name (DNS rebinding), so another name is
    not taken even when the call arrives on a loopback address.
    """
    try:
        return is_loopback(urlsplit(f"//{host or ''}").hostname)
    except ValueError:  # a bracket that is not closed
        return False


def is_foreign_origin(origin: str | None, host: str | None) -> bool:
    """Whether a browser sent a call from a page of another site.

    Parameters
    ----------
    origin
        The ``Origin`` header; programs other than browsers send none.
    host
        The ``Host`` header.

    Returns
    -------
    bool
        True when there is an origin and it is not the host.
    """
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc != host
    except ValueError:
        return True
