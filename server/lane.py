"""The fast lane: plain JSON for ``POST /predict`` and ``POST /learn`` is answered before Litestar.

Bringing a request to a handler and its reply back takes uvicorn and Litestar ten times as long as scoring a
row. So what goes well is answered here, once uvicorn has parsed it (:mod:`server.protocol`): one row for
``/predict`` at once, labels for ``/learn`` when they are durable. Whatever does not go well, or is not plain,
is handed on to Litestar's own routes, which do the same in full, with their problems, media types and
documentation.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from litestar import Litestar
from litestar.types import Receive, Send

from online.errors import MillraceError
from online.intake import Outcome
from server.logs import RequestIds
from server.routes.learn import source_of, summary
from server.routes.predict import single
from server.service import Service

__all__ = ["LEARN", "PATH", "FastLane", "ordinary", "plain"]

PATH = "/predict"
LEARN = "/learn"
PLAIN = {
    b"content-type": (b"application/json", b"application/json; charset=utf-8"),
    b"accept": (b"*/*", b"application/json"),
    b"connection": (b"keep-alive",),
    b"content-encoding": (),
    b"transfer-encoding": (),
    b"expect": (),
    b"upgrade": (),
    b"origin": (),
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

    @functools.cached_property
    def _service(self) -> Service:
        service: Service = self._app.state.service
        return service

    @functools.cached_property
    def _requests(self) -> RequestIds:
        requests: RequestIds = self._app.state.requests
        return requests

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Hand a request on to Litestar."""
        await self._app(got(scope), receive, send)

    def reply(self, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes | None:
        """The last headers of a reply with status 200 and its body; None when Litestar has to answer."""
        began = time.perf_counter()
        service = self._service
        if len(body) > service.config.server.max_body_bytes:
            return None
        content = predicted(service, body)
        if content is None:
            return None
        return self._ending(PATH, "200", headers, content, began)

    def learn(self, scope: Any, body: bytes | bytearray, answer: Callable[[bytes | None], None]) -> bool:
        """Take in labels; False when Litestar has to.

        Once they are durable, ``answer`` is given the last headers of a reply with status 202 and its body;
        None when none was kept, and Litestar has to answer.
        """
        began = time.perf_counter()
        service = self._service
        rows = labels(service, body)
        if rows is None or (service.config.quarantine.labels_per_minute and forwarded(scope)):
            return False
        try:
            service.teach(rows, sender(scope), functools.partial(self._learned, scope, answer, began))
        except MillraceError:
            return False
        return True

    def _learned(
        self, scope: Any, answer: Callable[[bytes | None], None], began: float, outcome: Outcome
    ) -> None:
        if isinstance(outcome, MillraceError):
            answer(None)
        else:
            answer(self._ending(LEARN, "202", scope["headers"], encode(summary(outcome)), began))

    def _ending(
        self, route: str, code: str, headers: Iterable[tuple[bytes, bytes]], content: bytes, began: float
    ) -> bytes:
        """The last headers of a reply and its body; the request is counted."""
        name = self._requests.name(headers).encode()
        self._service.metrics.count_request(route, code, time.perf_counter() - began)
        return REPLY % (len(content), name, content)


def got(scope: Any) -> Any:
    """A HEAD as the GET it stands for: the HTTP server leaves the body out."""
    return {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope


def plain(scope: Any) -> bool:
    """Whether a request is a POST that asks for nothing special."""
    return scope["method"] == "POST" and not scope["query_string"] and ordinary(scope["headers"])


def labels(service: Service, body: bytes | bytearray) -> list[dict[str, Any]] | None:
    """The rows of a body; None when there are none, too many, or others than objects."""
    limits = service.config.server
    if len(body) > limits.max_body_bytes:
        return None
    try:
        content = decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    rows = [content] if type(content) is dict else content
    if type(rows) is not list or len(rows) > limits.max_batch_rows or set(map(type, rows)) - {dict}:
        return None
    return rows


def forwarded(scope: Any) -> bool:
    """Whether a request came by a proxy: uvicorn tells Litestar for whom."""
    return any(name == b"x-forwarded-for" for name, _ in scope["headers"])


def sender(scope: Any) -> str | None:
    """Who sends labels."""
    named = next((value for name, value in scope["headers"] if name == b"x-label-source"), b"")
    client = scope["client"]
    return source_of(named.decode("latin-1"), client[0] if client else None)


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
