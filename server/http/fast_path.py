"""The ASGI app of a worker: plain JSON for ``/predict`` and ``/learn`` is answered before Litestar.

Bringing a request to a Litestar handler and its reply back takes several times as long as scoring a row. So
what is plain and goes well is answered here: rows as soon as they are scored, those of one turn of the event
loop together (:mod:`server.http.row_batcher`), and labels as soon as they are durable. Everything else is
handed on to Litestar's own routes, which do the same in full, with their problems, media types and
documentation. Each hand-over is a :class:`Fallback`, counted with its reason:

=============  =====================================================================================
query          the request has a query string, as ``?record=false`` or ``?wait=1``
headers        a header asks for something special: another media type, a coding, an origin
size           the body is longer than ``server.max_body_bytes``
disconnected   the client went away before the body's end
content        the body is no JSON object and no array of at most ``server.max_batch_rows`` objects
refused        a row or a label was refused: Litestar's route says why
failed         something unforeseen was raised: Litestar's route meets it again, answers 500 and logs it
=============  =====================================================================================
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import msgspec
from litestar import Litestar
from litestar.types import Receive, Send

from online.core.errors import MillraceError
from online.scoring.plan import FEW
from server.http.routes.learn_routes import REFUSED, source_of, summary
from server.http.routes.predict_routes import columns, singles
from server.http.row_batcher import Row, RowBatcher
from server.http.service import Service
from server.observability.logs import HEADER, RequestIds

__all__ = ["FALLBACK_REASONS", "LEARN", "PREDICT", "FastPath", "is_plain"]

PREDICT = "/predict"
LEARN = "/learn"
FALLBACK_REASONS = ("query", "headers", "size", "disconnected", "content", "refused", "failed")
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

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode

Headers = Iterable[tuple[bytes, bytes]]
Reply = tuple[int, bytes]  # a status and a body
Answer = Callable[[Any, bytes], Coroutine[Any, Any, Reply]]


class Fallback(Exception):
    """Litestar has to answer; ``reason`` is one of FALLBACK_REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FastPath:
    """Answers plain requests itself and hands on all others.

    Parameters
    ----------
    app
        Answers what is handed on.
    """

    def __init__(self, app: Litestar) -> None:
        self._app = app
        self._batcher = RowBatcher(self._replies, FEW)
        self._decode_seconds = 0.0  # of the rows of the next batch
        self._answers: dict[str, Answer] = {PREDICT: self._predict, LEARN: self._learn}

    @functools.cached_property
    def _service(self) -> Service:
        service: Service = self._app.state.service
        return service

    @functools.cached_property
    def request_ids(self) -> RequestIds:
        """Names the requests of this worker."""
        request_ids: RequestIds = self._app.state.request_ids
        return request_ids

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it.

        Parameters
        ----------
        scope, receive, send
            ASGI's.
        """
        posted = scope["type"] == "http" and scope["method"] == "POST"
        answer = self._answers.get(scope["path"]) if posted else None
        if answer is None:
            await self._app(as_get(scope), receive, send)
            return
        began = time.perf_counter()
        received: list[Any] = []
        try:
            require_plain(scope)
            body = await body_of(receive, received, self._service.config.server.max_body_bytes)
            status, content = await answer(scope, body)
        except Fallback as fallback:
            self._service.metrics.count_fallback(scope["path"], fallback.reason)
            await self._app(scope, again(received, receive), send)
        else:
            request_id = self.request_ids.name(scope["headers"])
            self.count(scope["path"], status, began)
            await send_json(send, status, content, request_id.encode())

    def submit(self, body: bytes) -> Any:
        """Have the row of a body scored with those that come now; a future of the reply's content.

        None when the body is no JSON object.
        """
        row = self._decoded(body)
        return self._batcher.submit(row) if type(row) is dict else None

    def count(self, route: str, status: int, began: float) -> None:
        """Count an answered request.

        Parameters
        ----------
        route
            Which one.
        status
            Of the reply.
        began
            When it came, by ``time.perf_counter``.
        """
        self._service.metrics.count_request(route, str(status), time.perf_counter() - began)

    async def _predict(self, _: Any, body: bytes) -> Reply:
        content = self._decoded(body)
        try:
            if type(content) is dict:
                return 200, await self._batcher.submit(content)
            return 200, encode(columns(self._service.predict(self._rows(content))))
        except MillraceError as exc:
            raise Fallback("refused") from exc
        except Fallback:
            raise
        except Exception as exc:
            raise Fallback("failed") from exc

    async def _learn(self, scope: Any, body: bytes) -> Reply:
        rows = self._rows(self._decoded(body))
        try:
            return 202, encode(summary(await self._service.learn(rows, sender(scope))))
        except MillraceError as exc:
            scope[REFUSED] = exc  # they are not taken in again: it is only said why
            raise Fallback("refused") from exc
        except Exception as exc:
            scope[REFUSED] = exc  # nor are these: nobody knows whether they were kept
            raise Fallback("failed") from exc

    def _replies(self, rows: list[Row]) -> list[bytes]:
        """The reply to each of a few rows that came in requests of their own."""
        clock = time.perf_counter
        decode_seconds, self._decode_seconds = self._decode_seconds, 0.0
        began = clock()
        served = self._service.predict(rows, independent=True)
        scored = clock()
        contents = list(map(encode, singles(served)))
        ended = clock()
        if self._service.metrics.sampled():
            stages = ("decode", decode_seconds), ("score", scored - began), ("encode", ended - scored)
            self._service.metrics.count_stages((name, seconds / len(rows)) for name, seconds in stages)
        return contents

    def _decoded(self, body: bytes) -> Any:
        """What a body holds as JSON; None when it holds none."""
        began = time.perf_counter()
        try:
            return decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        finally:
            self._decode_seconds += time.perf_counter() - began

    def _rows(self, content: Any) -> list[Row]:
        """The rows of a decoded body, not too many of them. Raises Fallback."""
        rows = [content] if type(content) is dict else content
        limit = self._service.config.server.max_batch_rows
        if type(rows) is not list or len(rows) > limit or set(map(type, rows)) - {dict}:
            raise Fallback("content")
        return rows


def as_get(scope: Any) -> Any:
    """A HEAD as the GET it stands for: the HTTP server leaves the body out."""
    return {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope


def require_plain(scope: Any) -> None:
    """Raise Fallback for a request that asks for something special."""
    if scope["query_string"]:
        raise Fallback("query")
    if not is_plain(scope["headers"]):
        raise Fallback("headers")


def is_plain(headers: Headers) -> bool:
    """Whether headers ask for nothing special."""
    return not any(name in PLAIN_VALUES and value not in PLAIN_VALUES[name] for name, value in headers)


async def body_of(receive: Receive, received: list[Any], limit: int) -> bytes:
    """A request's body; the messages that it came in are appended to ``received``. Raises Fallback."""
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


def again(received: list[Any], receive: Receive) -> Receive:
    """Give what was received once more, then what comes after it."""
    messages = iter(received)

    async def receive_again() -> Any:
        for message in messages:
            return message
        return await receive()

    return receive_again


async def send_json(send: Send, status: int, content: bytes, request_id: bytes) -> None:
    """Reply with JSON."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (HEADER, request_id),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})


def sender(scope: Any) -> str | None:
    """Who sends labels."""
    named = next((value for name, value in scope["headers"] if name == b"x-label-source"), b"")
    client = scope["client"]
    return source_of(named.decode("latin-1"), client[0] if client else None)
