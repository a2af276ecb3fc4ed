"""Requests that ask for nothing special, as the fast path takes them: their ASGI messages and headers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from litestar.types import Receive, Send

from server.http.routes.learn_routes import source_of
from server.observability.logs import HEADER

__all__ = ["Fallback", "body_of", "is_plain", "replayed", "require_plain", "send_json", "sender_of"]

PLAIN_VALUES = {
    b"content-type": (b"application/json", b"application/json; charset=utf-8"),
    b"accept": (b"*/*", b"application/json"),
    b"connection": (b"keep-alive",),
    b"content-encoding": (),
    b"transfer-encoding": (),
    b"expect": (),
    b"upgrade": (),
    b"origin": (),
}  # what these headers of a plain request may say, when they are there

Headers = Iterable[tuple[bytes, bytes]]


class Fallback(Exception):
    """Litestar has to answer; ``reason`` is one of :data:`server.http.fast_path.FALLBACK_REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def require_plain(scope: Any) -> None:
    """Raise Fallback for a request that asks for something special."""
    if scope["query_string"]:
        raise Fallback("query")
    if not is_plain(scope["headers"]):
        raise Fallback("headers")


def is_plain(headers: Headers) -> bool:
    """Whether headers ask for nothing special."""
    return not any(name in PLAIN_VALUES and value not in PLAIN_VALUES[name] for name, value in headers)


def sender_of(headers: Headers, host: str | None) -> str | None:
    """Who sends labels.

    Parameters
    ----------
    headers
        The request's.
    host
        The caller's address.

    Returns
    -------
    str or None
        What the header ``X-Label-Source`` says, cut, else the address.
    """
    named = next((value for name, value in headers if name == b"x-label-source"), b"")
    return source_of(named.decode("latin-1"), host)


async def body_of(receive: Receive, received: list[Any], limit: int) -> bytes:
    """A request's body.

    Parameters
    ----------
    receive
        ASGI's.
    received
        The messages that the body came in are appended to it.
    limit
        The most bytes that are read.

    Returns
    -------
    bytes
        The whole body.

    Raises
    ------
    Fallback
        It is longer than the limit, or the client went away.
    """
    size = 0
    while True:
        message: Any = await receive()
        received.append(message)
        if message["type"] != "http.request":
            raise Fallback("disconnected")
        size += len(message["body"])
        if size > limit:
            raise Fallback("size")
        if not message["more_body"]:
            return b"".join(part["body"] for part in received)


def replayed(received: list[Any], receive: Receive) -> Receive:
    """Give what was received once more, then what comes after it.

    Parameters
    ----------
    received
        Messages.
    receive
        ASGI's, for what comes after them.

    Returns
    -------
    Receive
        ASGI's.
    """
    messages = iter(received)

    async def receive_again() -> Any:
        for message in messages:
            return message
        return await receive()

    return receive_again


async def send_json(send: Send, status: int, content: bytes, request_id: bytes) -> None:
    """Reply with JSON.

    Parameters
    ----------
    send
        ASGI's.
    status, content
        Of the reply.
    request_id
        The value of its header ``X-Request-Id``.
    """
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (HEADER, request_id),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})
