"""Who may change what is served."""

from __future__ import annotations

import hmac
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from server.http.origin import is_foreign_origin, is_loopback, is_loopback_host

__all__ = ["admin_only", "same_origin"]


def admin_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Let in the holder of the admin key; without a key set, callers on this machine. A guard of Litestar's.

    Parameters
    ----------
    connection
        The call.
    _
        Its route, which Litestar gives every guard.

    Raises
    ------
    NotAuthorizedException
        The key is missing or wrong.
    PermissionDeniedException
        The call is from another machine or origin.
    """
    same_origin(connection, _)
    key = connection.app.state.service.config.server.admin_key
    if key:
        given = connection.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode("latin-1"), key.encode()):  # a header's bytes as they came
            raise NotAuthorizedException("an admin call needs 'Authorization: Bearer <server.admin_key>'")
    elif not on_this_machine(connection):
        raise PermissionDeniedException(
            "admin calls are taken from this machine only: set server.admin_key to allow them from elsewhere"
        )
    elif not is_loopback_host(connection.headers.get("host")):
        raise PermissionDeniedException(  # a page of a site whose name was made to point to this machine
            "admin calls go to localhost or a loopback address: set server.admin_key to use another name"
        )


def same_origin(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuse calls from pages of another site, which a browser shows: they are not clients of ours.

    Parameters
    ----------
    connection
        The call.
    _
        Its route, which Litestar gives every guard.

    Raises
    ------
    PermissionDeniedException
        The call's origin is not the address it goes to.
    """
    if is_foreign_origin(connection.headers.get("origin"), connection.headers.get("host")):
        raise PermissionDeniedException("this call is not taken from pages of another origin")


def on_this_machine(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """Whether the caller's address is a loopback one."""
    return connection.client is not None and is_loopback(connection.client.host)
