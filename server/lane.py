"""The fast lane: one plain JSON row for ``POST /predict`` is answered before Litestar, and before ASGI.

Bringing a request to a handler and its reply back takes uvicorn and Litestar ten times as long as scoring a
row. So what goes well is answered here, as soon as uvicorn has parsed it (:mod:`server.protocol`), and
whatever does not, or is no plain JSON object, or asks for anything special, is handed on to Litestar's own
``/predict``, which does the same in full, with its problems, media types and documentation.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec
from litestar import Litestar
from litestar.types import Receive, Send

from online.errors import MillraceError
from server.routes.predict import single
from server.service import Service

__all__ = ["PATH", "FastLane", "ordinary"]

PATH = "/predict"
PLAIN = {
    b"content-type": (b"application/json", b"application/json; charset=utf-8"),
    b"accept": (b"*/*", b"application/json"),
    b"connection": (b"keep-alive",),
    b"content-encoding": (),
    b"transfer-encoding": (),
    b"expect": (),
    b"upgrade": (),
}  # what these headers may say, when they are there
REPLY = b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n\r\n%b"

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


class FastLane:
    """The ASGI app of a worker, and a shorter way to it.

    Parameters
    ----------
    app
        Answers everything that is not answered here.
    """

    def __init__(self, app: Litestar) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Hand a request on to Litestar."""
        await self._app(got(scope), receive, send)

    def reply(self, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes | None:
        """The last headers of a reply with status 200 and its body; None when Litestar has to answer."""
        began = time.perf_counter()
        state = self._app.state
        service: Service = state.service
        content = predicted(service, body)
        if content is None:
            return None
        name = state.requests.name(headers).encode()
        service.metrics.count_request(PATH, "200", time.perf_counter() - began)
        return REPLY % (len(content), name, content)


def got(scope: Any) -> Any:
    """A HEAD as the GET it stands for: the HTTP server leaves the body out."""
    return {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope


def ordinary(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether headers say what is taken for granted."""
    return not any(name in PLAIN and value not in PLAIN[name] for name, value in headers)


def predicted(service: Service, body: bytes) -> bytes | None:
    """The reply to a body that holds one row; None when it does not, or scoring refuses it."""
    try:
        if service.metrics.sampled():
            return timed(service, body)
        row = decode(body)
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
