"""The fast lane: one plain JSON row for ``POST /predict`` is answered before Litestar's routing.

Litestar 2.25 takes about 80 microseconds to bring a request to a handler and its reply back, scoring a row
takes a few. So what goes well is answered here, and whatever does not, or is no plain JSON object, or asks
for anything special, is handed on unread to Litestar's own ``/predict``, which does the same in full, with
its problems, media types and documentation.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec
from litestar import Litestar
from litestar.types import Receive, Send

from online.errors import MillraceError
from server.logs import HEADER
from server.routes.predict import single
from server.service import Service

__all__ = ["FastLane"]

PATH = "/predict"
PLAIN = {
    b"content-type": (b"application/json", b"application/json; charset=utf-8"),
    b"accept": (b"*/*", b"application/json"),
    b"content-encoding": (),
}  # what these headers may say, when they are there

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


class FastLane:
    """An ASGI app in front of the Litestar app.

    Parameters
    ----------
    app
        Answers everything else.
    """

    def __init__(self, app: Litestar) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer the request, or hand it on."""
        if scope["type"] != "http" or scope["path"] != PATH or not plain(scope):
            await self._app(got(scope), receive, send)
            return
        began = time.perf_counter()
        message = await receive()
        service: Service = self._app.state.service
        body = predicted(service, message)
        if body is None:
            await self._app(scope, again(message, receive), send)
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (HEADER, self._app.state.requests.name(scope["headers"]).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})
        service.metrics.count_request(PATH, "200", time.perf_counter() - began)


def got(scope: Any) -> Any:
    """A HEAD as the GET it stands for: the HTTP server leaves the body out."""
    return {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope


def plain(scope: Any) -> bool:
    """Whether a request is a POST that asks for nothing special."""
    return scope["method"] == "POST" and not scope["query_string"] and ordinary(scope["headers"])


def ordinary(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether headers say what is taken for granted."""
    return all(name not in PLAIN or value in PLAIN[name] for name, value in headers)


def predicted(service: Service, message: Any) -> bytes | None:
    """The reply to a message that holds one whole row; None when it does not, or scoring refuses it."""
    if message.get("more_body") or message["type"] != "http.request":
        return None
    try:
        if service.metrics.sampled():
            return timed(service, message["body"])
        row = decode(message["body"])
        return encode(single(service.predict((row,)))) if type(row) is dict else None
    except (msgspec.DecodeError, RecursionError, MillraceError):
        return None


def timed(service: Service, body: bytes) -> bytes | None:
    """The same, timed stage by stage. Raises as its stages do."""
    began = time.perf_counter()
    row = decode(body)
    if type(row) is not dict:
        return None
    decoded = time.perf_counter()
    served = service.predict((row,))
    scored = time.perf_counter()
    reply = encode(single(served))
    ended = time.perf_counter()
    service.metrics.count_stages(
        (("decode", decoded - began), ("score", scored - decoded), ("encode", ended - scored))
    )
    return reply


def again(message: Any, receive: Receive) -> Receive:
    """What receives a message once more, then goes on."""
    taken = [message]

    async def replayed() -> Any:
        return taken.pop() if taken else await receive()

    return replayed
