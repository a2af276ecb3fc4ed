"""The fast lane: plain JSON for ``POST /predict`` and ``POST /learn`` is answered before Litestar.

Bringing a request to a handler and its reply back takes uvicorn and Litestar ten times as long as scoring a
row. So what goes well is answered here, once uvicorn has parsed it (:mod:`server.http.uvicorn_protocol`): one
row for ``/predict`` at once, labels for ``/learn`` when they are durable. Rows that come by several
connections in one turn of the event loop are scored together, as in Clipper's adaptive batching (Crankshaw
and others 2017, section 4.3) but for its delay. Whatever does not go well, or is not plain, is handed on to
Litestar's own routes, which do the same in full, with their problems, media types and documentation. Labels
that were refused here are not taken in again there: it is only said why.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from litestar import Litestar
from litestar.types import Receive, Send

from online.core.errors import MillraceError
from online.labels.ingest import Outcome
from online.scoring.plan import FEW
from server.http.routes.learn_routes import REFUSED, source_of, summary
from server.http.routes.predict_routes import singles
from server.http.service import Service
from server.observability.logs import RequestIds

__all__ = ["LEARN", "PATH", "FastLane", "ordinary", "plain"]

PATH = "/predict"
LEARN = "/learn"
NEAR_SECONDS = 0.00005  # from a reply to a request that comes right after it
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

log = logging.getLogger(__name__)

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode

Headers = Iterable[tuple[bytes, bytes]]


class Asked(msgspec.Struct, gc=False):
    """A request for one prediction, when it came, and the reply, once there is one."""

    headers: Headers
    body: bytes
    began: float
    reply: bytes | None = None


class FastLane:
    """The ASGI app of a worker, and a shorter way to it.

    Parameters
    ----------
    app
        Answers everything that is not answered here.
    """

    def __init__(self, app: Litestar) -> None:
        self._app = app
        self._asked: list[tuple[Asked, Callable[[bytes | None], None]]] = []
        self._crowded = False  # whether several were answered together the last time
        self._answered_at = 0.0

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

    def ask(self, headers: Headers, body: bytes, tell: Callable[[bytes | None], None]) -> None:
        """Have a row scored and ``tell`` what :meth:`reply` returns.

        At once, unless requests come one right after the other: then together with all that come in the same
        turn of the event loop, which takes less than half as long for each.
        """
        one = Asked(headers, body, time.perf_counter())
        if self._asked:
            self._asked.append((one, tell))
        elif self._crowded or one.began - self._answered_at < NEAR_SECONDS:
            self._asked = [(one, tell)]
            asyncio.get_running_loop().call_soon(self.answer)
        else:
            self._reply([one])
            tell(one.reply)
            self._answered_at = time.perf_counter()

    def answer(self) -> None:
        """Answer what was asked."""
        if not self._asked:
            return
        asked, self._asked = self._asked, []
        for first in range(0, len(asked), FEW):
            few = asked[first : first + FEW]
            self._reply([one for one, _ in few])
            for one, tell in few:
                try:
                    tell(one.reply)
                except Exception:  # the others are still to be told
                    log.exception("a reply could not be sent")
        self._crowded = len(asked) > 1
        self._answered_at = time.perf_counter()

    def reply(self, headers: Headers, body: bytes) -> bytes | None:
        """The last headers of a reply with status 200 and its body; None when Litestar has to answer."""
        one = Asked(headers, body, time.perf_counter())
        self._reply([one])
        return one.reply

    def _reply(self, asked: Sequence[Asked]) -> None:
        """Reply to a few requests, one by one when that fails for all."""
        try:
            self._together(asked)
        except Exception:  # noqa: BLE001 - Litestar meets it again, answers 500 and logs it
            if len(asked) > 1:
                for one in asked:
                    self._reply([one])

    def _together(self, asked: Sequence[Asked]) -> None:
        """Reply to requests, their rows being scored together. Raises as scoring does."""
        service, clock = self._service, time.perf_counter
        began = clock()
        few: list[Asked] = []
        rows: list[dict[str, Any]] = []
        for one in asked:
            row = content_of(service, one.body)
            if type(row) is dict:
                few.append(one)
                rows.append(row)
        if not few:
            return
        decoded = clock()
        served = service.predict_each(rows)
        scored = clock()
        contents = list(map(encode, singles(served)))
        ended = clock()
        if service.metrics.sampled():
            stages = ("decode", decoded - began), ("score", scored - decoded), ("encode", ended - scored)
            service.metrics.count_stages((name, seconds / len(rows)) for name, seconds in stages)
        for one, content in zip(few, contents, strict=True):
            one.reply = self._ending(PATH, "200", one.headers, content, one.began)

    def learn(self, scope: Any, body: bytes | bytearray, answer: Callable[[bytes | None], None]) -> bool:
        """Take in labels; False when Litestar has to.

        Once they are durable, ``answer`` is given the last headers of a reply with status 202 and its body;
        None when they were refused, and Litestar has to say so.
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
            scope[REFUSED] = outcome
            answer(None)
        else:
            answer(self._ending(LEARN, "202", scope["headers"], encode(summary(outcome)), began))

    def _ending(self, route: str, code: str, headers: Headers, content: bytes, began: float) -> bytes:
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
    content, most = content_of(service, body), service.config.server.max_batch_rows
    rows = [content] if type(content) is dict else content
    if type(rows) is not list or len(rows) > most or set(map(type, rows)) - {dict}:
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


def ordinary(headers: Headers) -> bool:
    """Whether headers say what is taken for granted."""
    return not any(name in PLAIN and value not in PLAIN[name] for name, value in headers)


def content_of(service: Service, body: bytes | bytearray) -> Any:
    """What a body holds as JSON; None when it holds none, or is too long."""
    if len(body) > service.config.server.max_body_bytes:
        return None
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
