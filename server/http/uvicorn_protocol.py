"""uvicorn's HTTP protocol, with a shortcut for requests whose head has come before.

A client sends the same request line and headers again and again. So the heads of plain requests for
``/predict`` and ``/learn`` are remembered by their very bytes. The next request with the same head, when it
comes whole and in one piece, is not parsed and gets no ASGI scope, task and messages, which take longer than
scoring its row: with this shortcut a worker answers about twice as many requests a second.

This is the one module that uses what uvicorn does not document; pyproject.toml bounds uvicorn's version, and
tests/test_uvicorn_protocol.py holds the contract.

States of a connection
----------------------
IDLE
    Between two requests: the parser waits for one to begin, and uvicorn's last one has been answered.
UVICORN
    uvicorn has a request: it is being parsed, or its reply is not complete, or others wait behind it.
SHORTCUT
    The fast path has a request with a known head. uvicorn knows nothing of it; its bytes are kept.

========= ============================== ======== ==========================================================
from      what happens                   to       what is done
========= ============================== ======== ==========================================================
IDLE      a whole request, its head      SHORTCUT the fast path is given its body
          known, writing not paused
IDLE      any other bytes                UVICORN  uvicorn takes them; a head fit for it is remembered
UVICORN   bytes                          UVICORN  uvicorn takes them
UVICORN   the last reply is complete     IDLE     nothing: it is seen when bytes come
SHORTCUT  the reply is there             IDLE     it is written
SHORTCUT  there is no reply              UVICORN  uvicorn takes the kept bytes; the scope says why there is
                                                  none, and Litestar's route answers
SHORTCUT  bytes                          SHORTCUT they are kept until the reply is written, and no more read:
                                                  replies leave in the order of their requests
SHORTCUT  the server shuts down          SHORTCUT uvicorn is told after the reply is written
SHORTCUT  the connection is lost         SHORTCUT row or labels are taken in all the same, the reply dropped
SHORTCUT  the keep-alive timer fires     SHORTCUT it is set anew
========= ============================== ======== ==========================================================
"""

from __future__ import annotations

import enum
import time
from typing import Any, ClassVar, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.http.fast_path import FALLBACK_KEY, LEARN, PREDICT, FastPath
from server.http.plain_requests import is_plain, sender_of

__all__ = ["ConnectionState", "KnownHead", "KnownHeads", "ShortcutProtocol"]

MAX_REQUEST_BYTES = 65536  # of one that comes in one piece
MAX_HEADS = 4096  # remembered, with MAX_HEAD_BYTES 8 MB at most
MAX_HEAD_BYTES = 2048
ROUTES = {route.encode(): route for route in (PREDICT, LEARN)}
HEAD_END = b"\r\n\r\n"
STATUS_LINES = {PREDICT: b"HTTP/1.1 200 OK\r\n", LEARN: b"HTTP/1.1 202 Accepted\r\n"}
REPLY_FORMAT = b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n\r\n%b"


class ConnectionState(enum.Enum):
    """What a connection is at, as the module's docstring has it."""

    IDLE = enum.auto()
    UVICORN = enum.auto()
    SHORTCUT = enum.auto()


class KnownHead(NamedTuple):
    """What was found in a head."""

    route: str
    body_bytes: int
    request_id: str | None  # as the client named it
    sender: str | None  # of labels, where the head names one


class ShortcutRequest(NamedTuple):
    """The request of a connection in state SHORTCUT."""

    data: bytes  # as it came
    head: KnownHead
    began: float


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
        self._request: ShortcutRequest | None = None
        self._early = b""  # what came after it
        self._shutting_down = False
        self._active_at = 0.0  # when the last reply was written here, by the loop's clock
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._default_header_lines = b""

    @property
    def state(self) -> ConnectionState:
        """What the connection is at."""
        if self._request is not None:
            return ConnectionState.SHORTCUT
        if self._parsing or not (self.cycle is None or self.cycle.response_complete):
            return ConnectionState.UVICORN
        return ConnectionState.IDLE

    def data_received(self, data: bytes) -> None:
        """Take in what came."""
        state = self.state
        if state is ConnectionState.SHORTCUT:
            self._early += data
            self.flow.pause_reading()
        elif state is ConnectionState.UVICORN or self.flow.write_paused or len(data) > MAX_REQUEST_BYTES:
            super().data_received(data)
        else:
            head, _, body = data.partition(HEAD_END)
            known = self.known_heads.get(head)
            if known is not None and len(body) == known.body_bytes:
                self._request = ShortcutRequest(data, known, time.perf_counter())
                sender = known.sender or (self.client[0] if self.client else None)
                self._fast_path.submit(known.route, body, sender, self._settle)
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
            and self.url in ROUTES
            and self.scope["method"] == "POST"
            and is_plain(self.headers)
            # it may say who sends labels, as far as uvicorn trusts who says so
            and not any(name.startswith(b"x-forwarded-") for name, _ in self.headers)
        ):
            request_id = self._fast_path.request_ids.given(self.headers)
            sender = sender_of(self.headers, None)
            self.known_heads.remember(head, KnownHead(ROUTES[self.url], len(body), request_id, sender))

    def _settle(self, outcome: bytes | Exception) -> None:
        """End the state SHORTCUT."""
        request, self._request = self._request, None
        early, self._early = self._early, b""
        if request is None or self.transport.is_closing():
            return
        if isinstance(outcome, Exception):
            super().data_received(request.data)
            scope: Any = self.scope
            scope[FALLBACK_KEY] = outcome  # its task has not begun: the event loop starts it later
        else:
            self._write(request, outcome)
        if early:
            self.flow.resume_reading()
            self.data_received(early)
        if self._shutting_down:
            self.shutdown()  # what came early may be in the fast path by now

    def _write(self, request: ShortcutRequest, content: bytes) -> None:
        route, request_id = request.head.route, request.head.request_id or self._fast_path.request_ids.new()
        self._fast_path.count(route, request.began)
        self.transport.write(
            REPLY_FORMAT
            % (STATUS_LINES[route], self._header_lines(), len(content), request_id.encode(), content)
        )
        if self.timeout_keep_alive_task is None:
            self.on_response_complete()
        else:  # it does the same, but sets the timer anew each time: a fifth of a request's processor time
            self.server_state.total_requests += 1
            self._active_at = self.loop.time()

    def _header_lines(self) -> bytes:
        """The headers that uvicorn gives every reply."""
        defaults = self.server_state.default_headers
        if defaults is not self._default_headers:  # a new list every second, with the date
            self._default_headers = defaults
            self._default_header_lines = b"".join(b"%b: %b\r\n" % header for header in defaults)
        return self._default_header_lines

    def on_message_begin(self) -> None:
        """The parser is within a request."""
        self._parsing = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The parser is between requests."""
        self._parsing = False
        super().on_message_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless it is being answered or was active since the timer was set."""
        if self._request is not None:
            self._active_at = self.loop.time()
        seconds = self._active_at + self.timeout_keep_alive - self.loop.time()
        if seconds > 0.0:
            self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """Begin to shut down, once what the fast path has is answered."""
        if self._request is not None:
            self._shutting_down = True
        else:
            super().shutdown()
