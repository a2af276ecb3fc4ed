"""uvicorn's HTTP protocol, with a shortcut for requests whose head has come before.

A client sends the same request line and headers again and again. So the heads of plain ``POST /predict``
requests are remembered by their very bytes. The next request with the same head, when it comes whole and in
one piece, is not parsed and gets no ASGI scope, task and messages, which take longer than scoring its row:
with this shortcut a worker answers about twice as many requests a second.

This is the one module that uses what uvicorn does not document; pyproject.toml bounds uvicorn's version, and
tests/test_uvicorn_protocol.py holds the contract.

States of a connection
----------------------
IDLE
    Between two requests: the parser waits for one to begin, and uvicorn's last one has been answered.
UVICORN
    uvicorn has a request: it is being parsed, or its reply is not complete, or others wait behind it.
SCORING
    A request with a known head is being scored. uvicorn knows nothing of it; its bytes are kept.

========= ============================== ======== ==========================================================
from      what happens                   to       what is done
========= ============================== ======== ==========================================================
IDLE      a whole request, its head      SCORING  its row is submitted
          known, writing not paused
IDLE      any other bytes                UVICORN  uvicorn takes them; a head fit for it is remembered
UVICORN   bytes                          UVICORN  uvicorn takes them
UVICORN   the last reply is complete     IDLE     nothing: it is seen when bytes come
SCORING   the reply is there             IDLE     it is written
SCORING   there is no reply: no row, or  UVICORN  uvicorn takes the kept bytes, so that the app meets the
          it was refused                          fault again and says so
SCORING   bytes                          SCORING  they are kept until the reply is written, and no more read:
                                                  replies leave in the order of their requests
SCORING   the server shuts down          SCORING  uvicorn is told after the reply is written
SCORING   the connection is lost         SCORING  the row is scored and recorded, the reply dropped
SCORING   the keep-alive timer fires     SCORING  it is set anew
========= ============================== ======== ==========================================================
"""

from __future__ import annotations

import asyncio
import enum
import time
from typing import Any, ClassVar, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.http.fast_path import PREDICT, FastPath, is_plain

__all__ = ["ConnectionState", "KnownHeads", "ShortcutProtocol"]

MAX_REQUEST_BYTES = 65536  # of one that comes in one piece
MAX_HEADS = 4096  # remembered, with MAX_HEAD_BYTES 8 MB at most
MAX_HEAD_BYTES = 2048
URL = PREDICT.encode()
HEAD_END = b"\r\n\r\n"
STATUS = b"HTTP/1.1 200 OK\r\n"
REPLY_FORMAT = b"%bcontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n\r\n%b"


class ConnectionState(enum.Enum):
    """What a connection is at, as the module's docstring has it."""

    IDLE = enum.auto()
    UVICORN = enum.auto()
    SCORING = enum.auto()


class ScoringRequest(NamedTuple):
    """The request of a connection in state SCORING."""

    data: bytes  # as it came
    reply: asyncio.Future[bytes]
    request_id: str | None
    began: float


class KnownHead(NamedTuple):
    """What was found in a head."""

    body_bytes: int
    request_id: str | None  # as the client named it


class KnownHeads:
    """Heads of requests that take the shortcut; with too many, all are forgotten.

    Parameters
    ----------
    max_heads, max_head_bytes
        How many are remembered, and how long one may be: together the bound on their memory.
    """

    def __init__(self, max_heads: int = MAX_HEADS, max_head_bytes: int = MAX_HEAD_BYTES) -> None:
        self._known: dict[bytes, KnownHead] = {}
        self._max_heads = max_heads
        self._max_head_bytes = max_head_bytes
        self.get = self._known.get

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._known)

    def remember(self, head: bytes, found: KnownHead) -> None:
        """Keep what was found in a head.

        Parameters
        ----------
        head
            The request line and headers, without the empty line after them.
        found
            What the parser found in it.
        """
        if len(head) > self._max_head_bytes:
            return
        if len(self._known) >= self._max_heads:
            self._known.clear()
        self._known[head] = found


class ShortcutProtocol(HttpToolsProtocol):
    """One connection; uvicorn's app must be a :class:`~server.http.fast_path.FastPath`."""

    known_heads: ClassVar[KnownHeads] = KnownHeads()  # of all connections

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._fast_path: FastPath = config.app
        self._parsing = False  # whether the parser is within a request
        self._scoring: ScoringRequest | None = None
        self._early = b""  # what came while scoring
        self._active_at = 0.0  # when the last reply was written here, by the loop's clock
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._status_and_defaults = STATUS

    @property
    def state(self) -> ConnectionState:
        """What the connection is at."""
        if self._scoring is not None:
            return ConnectionState.SCORING
        if self._parsing or not (self.cycle is None or self.cycle.response_complete):
            return ConnectionState.UVICORN
        return ConnectionState.IDLE

    def data_received(self, data: bytes) -> None:
        """Take in what came."""
        state = self.state
        if state is ConnectionState.SCORING:
            self._early += data
            self.flow.pause_reading()
        elif state is ConnectionState.UVICORN or self.flow.write_paused or len(data) > MAX_REQUEST_BYTES:
            super().data_received(data)
        else:
            head, _, body = data.partition(HEAD_END)
            known = self.known_heads.get(head)
            if known is not None and len(body) == known.body_bytes:
                self._score(data, body, known.request_id)
            else:
                self._parse(data, head, body)

    def _parse(self, data: bytes, head: bytes, body: bytes) -> None:
        """Let uvicorn take in bytes, and remember the head of a request that came whole, alone and plain."""
        before = self.cycle
        super().data_received(data)
        cycle = self.cycle
        if (
            cycle is not before
            and not self._parsing
            and body
            and cycle.body == body  # all that followed the head, so it was one request
            and cycle.keep_alive
            and self.url == URL
            and self.scope["method"] == "POST"
            and is_plain(self.headers)
        ):
            request_id = self._fast_path.request_ids.given(self.headers)
            self.known_heads.remember(head, KnownHead(len(body), request_id))

    def _score(self, data: bytes, body: bytes, request_id: str | None) -> None:
        """Have a request with a known head scored."""
        began = time.perf_counter()
        reply = self._fast_path.submit(body)
        if reply is None:
            super().data_received(data)
            return
        self._scoring = ScoringRequest(data, reply, request_id, began)
        if reply.done():
            self._answer(reply)  # a callback would be called a turn of the event loop later
        else:
            reply.add_done_callback(self._answer)

    def _answer(self, reply: asyncio.Future[bytes]) -> None:
        """End the state SCORING."""
        request, self._scoring = self._scoring, None
        early, self._early = self._early, b""
        failed = reply.exception() is not None  # asked for, so that asyncio does not log it as unnoticed
        if request is None or self.transport.is_closing():
            return
        if failed:
            super().data_received(request.data)
        else:
            self._write(request, reply.result())
        if early:
            self.flow.resume_reading()
            self.data_received(early)

    def _write(self, request: ScoringRequest, content: bytes) -> None:
        request_id = request.request_id or self._fast_path.request_ids.new()
        self._fast_path.count(PREDICT, 200, request.began)
        self.transport.write(REPLY_FORMAT % (self._start(), len(content), request_id.encode(), content))
        if self.timeout_keep_alive_task is None:
            self.on_response_complete()
        else:  # it does the same, but sets the timer anew each time: a fifth of a request's processor time
            self.server_state.total_requests += 1
            self._active_at = self.loop.time()

    def _start(self) -> bytes:
        """The status line and the headers that uvicorn gives every reply."""
        defaults = self.server_state.default_headers
        if defaults is not self._default_headers:  # a new list every second, with the date
            self._default_headers = defaults
            self._status_and_defaults = STATUS + b"".join(b"%b: %b\r\n" % header for header in defaults)
        return self._status_and_defaults

    def on_message_begin(self) -> None:
        """The parser is within a request."""
        self._parsing = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The parser is between requests."""
        self._parsing = False
        super().on_message_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless it is scoring or was active since the timer was set."""
        if self._scoring is not None:
            self._active_at = self.loop.time()
        seconds = self._active_at + self.timeout_keep_alive - self.loop.time()
        if seconds > 0.0:
            self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """Begin to shut down, once what is being scored is answered."""
        if self._scoring is not None:
            self._scoring.reply.add_done_callback(lambda _: self.shutdown())
        else:
            super().shutdown()
