"""uvicorn's HTTP protocol with the fast lane in it.

A plain ``POST /predict`` whose body is small is held back until it is whole, and answered in the same turn of
the event loop: without an ASGI scope, task or messages, which cost more than all the rest. A plain ``POST
/learn`` whose body is small is one of uvicorn's requests, but starts no task: it is answered when its labels
are durable. Any other request, and one that the lane does not answer, goes uvicorn's own way.

Clients send the same headers again and again. So what the parser found in those of a ``/predict`` that was
answered here is kept by their very bytes; the next request with the same ones, when it comes whole and in
one piece, is not parsed at all, and answered together with those of other connections.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.http.fast_path import LEARN, PATH, FastLane, ordinary, plain

__all__ = ["LaneProtocol"]

Headers = list[tuple[bytes, bytes]]

MOST_BYTES = 65536  # of a body that is held back
MOST_HEADS = 4096  # kept
MOST_HEAD_BYTES = 2048  # of one that is kept
URL = PATH.encode()
END = b"\r\n\r\n"
STATUS = b"HTTP/1.1 200 OK\r\n"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\n"
LAST = b"connection: close\r\n"


class LaneProtocol(HttpToolsProtocol):
    """One connection; uvicorn's app must be a :class:`~server.http.fast_path.FastLane`."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._lane: FastLane = config.app
        self._held: bytes | None = None  # the body so far of a request that may be answered here
        self._labels: RequestResponseCycle | None = None  # a request whose labels are not all there yet
        self._between = True  # whether the parser waits for a request to begin
        self._asked = b""  # a request with known headers that is being answered
        self._last = b""  # the body of the last request that was parsed and answered here
        self._active_at = 0.0
        self._common, self._common_of = b"", Headers()  # the headers that every reply has

    def data_received(self, data: bytes) -> None:
        """Take in what came: answer a request with known headers, parse anything else."""
        if self._asked:
            self._lane.answer()  # replies leave in the order of their requests
        if not self._between or len(data) > MOST_BYTES:
            super().data_received(data)
            return
        head, _, body = data.partition(END)
        known = HEADS.get(head)
        if known is not None and len(body) == known.length and self._free():
            self._asked = data
            self._lane.ask(known.headers, body, self._told)
            return
        self._last = b""
        super().data_received(data)
        if self._between and body and body == self._last:
            remember(head, self.headers, len(body))

    def _told(self, reply: bytes | None) -> None:
        """Answer the request with known headers, or parse it after all."""
        asked, self._asked = self._asked, b""
        if reply is None:
            super().data_received(asked)
        elif not self.transport.is_closing():
            self.transport.write(self._whole(STATUS, reply))
            self._answered()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless it is in use or was since the timer was set."""
        if self._asked:
            self._active_at = self.loop.time()
        left = self._active_at + self.timeout_keep_alive - self.loop.time()
        if left > 0.0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def on_message_begin(self) -> None:
        """Begin to take in a request."""
        self._between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hold a request back, or let it go its way."""
        if self.url == URL and self._plain():
            self._held = b""
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body."""
        if self._held is None:
            super().on_body(body)
            if self._labels is not None and len(self._labels.body) > MOST_BYTES:
                self._leave_labels()
            return
        self._held += body
        if len(self._held) > MOST_BYTES:
            self._hand_on()

    def on_message_complete(self) -> None:
        """Answer a request that was held back."""
        self._between = True
        if self._held is not None:
            reply = self._reply(self.headers, self._held)
            if reply is not None:
                self._last, self._held = self._held, None
                self.transport.write(reply)
                self.on_response_complete()
                return
            self._hand_on()
        super().on_message_complete()
        self._learn()

    def shutdown(self) -> None:
        """Begin to shut down: what has begun to arrive is still answered."""
        if self._asked:
            self._lane.answer()
        if self._held is not None:
            self._hand_on()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell of a client that went away before its request's end."""
        if self._asked:
            self._lane.answer()
        if self._held is not None:
            self._hand_on()
        super().connection_lost(exc)
        self._leave_labels()

    def _plain(self) -> bool:
        """Whether a request asks for nothing special, and nothing is before it."""
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self._free()
            and ordinary(self.headers)
        )

    def _free(self) -> bool:
        """Whether nothing is before a request."""
        return (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _answered(self) -> None:
        """Count an answer; the timer that closes an idle connection goes on, if there is one."""
        if self.timeout_keep_alive_task is None:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self._active_at = self.loop.time()

    def _reply(self, headers: Headers, body: bytes) -> bytes | None:
        reply = self._lane.reply(headers, body)
        return None if reply is None else self._whole(STATUS, reply)

    def _whole(self, status: bytes, ending: bytes) -> bytes:
        """A reply with the headers that every one has."""
        ours = self.server_state.default_headers
        if ours is not self._common_of:  # a new list every second, with the date
            self._common_of, self._common = ours, b"".join(b"%b: %b\r\n" % header for header in ours)
        return b"%b%b%b" % (status, self._common, ending)

    def _hand_on(self) -> None:
        """Let a request that was held back go uvicorn's way, with as much of its body as there is."""
        body, self._held = self._held, None
        super().on_headers_complete()
        if body:
            super().on_body(body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start a request, or have it wait for its labels."""
        if (
            app is self.app and cycle.scope["path"] == LEARN and plain(cycle.scope)
            and not self.flow.write_paused
        ):  # fmt: skip
            self._labels = cycle
            self._learn()
        else:
            super()._start_asgi_task(cycle, app)

    def _learn(self) -> None:
        """Take in labels that are all there."""
        cycle = self._labels
        if cycle is None or cycle.more_body:
            return
        try:
            taken = self._lane.learn(cycle.scope, cycle.body, functools.partial(self._answer, cycle))
        except Exception:  # noqa: BLE001 - Litestar meets it again, answers 500 and logs it
            taken = False
        if taken:
            self._labels = None
        else:
            self._leave_labels()

    def _answer(self, cycle: RequestResponseCycle, ending: bytes | None) -> None:
        """Answer a request whose labels were taken in, or have it answered."""
        if ending is None:
            super()._start_asgi_task(cycle, self.app)
        elif not cycle.disconnected:
            cycle.response_complete = True
            self.transport.write(self._whole(ACCEPTED if cycle.keep_alive else ACCEPTED + LAST, ending))
            if not cycle.keep_alive:
                self.transport.close()
            self.on_response_complete()

    def _leave_labels(self) -> None:
        """Let a request with labels go uvicorn's way."""
        cycle, self._labels = self._labels, None
        if cycle is not None:
            super()._start_asgi_task(cycle, self.app)


class Known(NamedTuple):
    """What was found in a request's headers, and how long the body is that they tell of."""

    headers: Headers
    length: int


HEADS: dict[bytes, Known] = {}


def remember(head: bytes, headers: Headers, length: int) -> None:
    """Keep what was found in a request's head; with too many kept, all are forgotten."""
    if len(head) <= MOST_HEAD_BYTES:
        if len(HEADS) >= MOST_HEADS:
            HEADS.clear()
        HEADS[head] = Known(headers, length)
