"""The ASGI app of a worker: plain JSON for ``/predict`` and ``/learn`` is answered before Litestar.

Bringing a request to a Litestar handler and its reply back takes several times as long as scoring a row. So
what is plain and goes well is answered here: rows as soon as they are scored, those of one turn of the event
loop together (:mod:`server.http.row_batcher`), and labels as soon as they are durable. Everything else is
handed on to Litestar's own routes, which do the same in full, with their problems, media types and
documentation. Each hand-over is a :class:`~server.http.plain_requests.Fallback`, counted with its reason:

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

import asyncio
import functools
import time
from typing import Any

import msgspec
from litestar import Litestar
from litestar.types import Receive, Send

from online.core.errors import MillraceError
from online.scoring.plan import FEW
from server.http.plain_requests import Fallback, body_of, replayed, require_plain, send_json, sender_of
from server.http.routes.learn_routes import REFUSED, summary
from server.http.routes.predict_routes import columns, singles
from server.http.row_batcher import Row, RowBatcher, Settle
from server.http.service import Service
from server.observability.logs import RequestIds

__all__ = ["FALLBACK_KEY", "FALLBACK_REASONS", "LEARN", "PREDICT", "STATUS", "FastPath"]

PREDICT = "/predict"
LEARN = "/learn"
STATUS = {PREDICT: 200, LEARN: 202}  # of a request that is answered here
FALLBACK_KEY = (
    "millrace.fallback"  # a key of a request's scope: why it was not answered here when it was asked
)
FALLBACK_REASONS = ("query", "headers", "size", "disconnected", "content", "refused", "failed")

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


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
        self._commits: set[asyncio.Task[None]] = set()  # the event loop itself keeps no tasks alive

    @functools.cached_property
    def _service(self) -> Service:
        service: Service = self._app.state.service
        return service

    @functools.cached_property
    def _max_body_bytes(self) -> int:
        return self._service.config.server.max_body_bytes

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
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in STATUS:
            await self._app(as_get(scope), receive, send)
            return
        began = time.perf_counter()
        received: list[Any] = []
        route, content, failure = scope["path"], b"", scope.get(FALLBACK_KEY)
        if failure is None:
            try:
                require_plain(scope)
                body = await body_of(receive, received, self._max_body_bytes)
                content = await self._answered(route, body, scope)
            except Exception as exc:  # noqa: BLE001 - whatever it is, Litestar's route meets it and says so
                failure = exc
        if failure is None:
            self.count(route, began)
            request_id = self.request_ids.name(scope["headers"])
            await send_json(send, STATUS[route], content, request_id.encode())
            return
        self._service.metrics.count_fallback(route, reason_of(failure))
        if not isinstance(failure, Fallback):
            scope[REFUSED] = failure  # labels are not taken in again: it is only said why
        await self._app(scope, replayed(received, receive), send)

    async def _answered(self, route: str, body: bytes, scope: Any) -> bytes:
        """A reply's content. Raises what :meth:`submit` tells."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        client = scope["client"]
        source = sender_of(scope["headers"], client and client[0]) if route == LEARN else None
        self.submit(route, body, source, functools.partial(settle_future, future))
        return await future

    def submit(self, route: str, body: bytes, source: str | None, settle: Settle) -> None:
        """Score rows or take in labels.

        Parameters
        ----------
        route
            ``/predict`` or ``/learn``.
        body
            Of a plain request.
        source
            Who sends it, for labels.
        settle
            Called in the event loop, perhaps before this returns, with the content of the reply; or with what
            was raised, when Litestar has to answer: a Fallback for what is not taken here, a MillraceError
            for what was refused, or whatever went wrong.
        """
        try:
            content = self._decoded(body)
            if route == LEARN:
                self._commit(self._rows(content), source, settle)
                return
            if type(content) is dict:
                self._batcher.submit(content, settle)
                return
            reply = encode(columns(self._service.predict(self._rows(content))))
        except Exception as exc:  # noqa: BLE001 - the caller is told
            settle(exc)
        else:
            settle(reply)

    def count(self, route: str, began: float) -> None:
        """Count a request that was answered here.

        Parameters
        ----------
        route
            Which one.
        began
            When it came, by ``time.perf_counter``.
        """
        self._service.metrics.count_request(route, str(STATUS[route]), time.perf_counter() - began)

    def _commit(self, rows: list[Row], source: str | None, settle: Settle) -> None:
        """Settle with the reply to labels once they are durable."""
        task = asyncio.get_running_loop().create_task(self._committed(rows, source, settle))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)

    async def _committed(self, rows: list[Row], source: str | None, settle: Settle) -> None:
        try:
            reply = encode(summary(await self._service.learn(rows, source)))
        except Exception as exc:  # noqa: BLE001 - the caller is told
            settle(exc)
        else:
            settle(reply)

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
        """What a body holds as JSON, not too long. Raises Fallback."""
        if len(body) > self._max_body_bytes:
            raise Fallback("size")
        began = time.perf_counter()
        try:
            return decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Fallback("content") from None
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


def reason_of(failure: Exception) -> str:
    """Which of FALLBACK_REASONS an exception is."""
    if isinstance(failure, Fallback):
        return failure.reason
    return "refused" if isinstance(failure, MillraceError) else "failed"


def settle_future(future: asyncio.Future[bytes], outcome: bytes | Exception) -> None:
    """Give whoever awaits a reply its content, or raise there why there is none."""
    if future.done():  # it was cancelled: nobody waits
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
