"""uvicorn's HTTP protocol with the fast lane in it.

A plain ``POST /predict`` whose body is small is held back until it is whole, and answered in the same turn of
the event loop: without an ASGI scope, task or messages, which cost more than all the rest. Any other request,
and one that the lane does not answer, goes uvicorn's own way, from its headers on.

Clients send the same headers again and again. So what the parser found in those of a request that was
answered here is kept by their very bytes; the next request with the same ones, when it comes whole and in
one piece, is not parsed at all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.lane import PATH, FastLane, ordinary

__all__ = ["LaneProtocol"]

Headers = list[tuple[bytes, bytes]]

MOST_BYTES = 65536  # of a body that is held back
MOST_HEADS = 4096  # kept
MOST_HEAD_BYTES = 2048  # of one that is kept
URL = PATH.encode()
END = b"\r\n\r\n"
STATUS = b"HTTP/1.1 200 OK\r\n"


class LaneProtocol(HttpToolsProtocol):
    """One connection. uvicorn's configuration must name a :class:`~server.lane.FastLane` as its app."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._lane: FastLane = config.app
        self._held: bytes | None = None  # the body so far of a request that may be answered here

        self._between = True  # whether the parser waits for a request to begin
        self._whole = b""  # the body of the last request answered here
        self._active_at = 0.0

    def data_received(self, data: bytes) -> None:
        """Take in what came: answer a request with known headers, parse anything else."""
        if not self._between or len(data) > MOST_BYTES:
            super().data_received(data)
            return
        head, _, body = data.partition(END)
        known = HEADS.get(head)
        if known is not None and len(body) == known.length and self._free():
            reply = self._reply(known.headers, body)
            if reply is not None:
                self.transport.write(reply)
                self._answered()
                return
        self._whole = b""
        super().data_received(data)
        if self._between and body and body == self._whole:
            remember(head, self.headers, len(body))

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless it was used since the timer was set."""
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
                self._whole, self._held = self._held, None
                self.transport.write(reply)
                self.on_response_complete()
                return
            self._hand_on()
        super().on_message_complete()

    def shutdown(self) -> None:
        """Begin to shut down: what has begun to arrive is still answered."""
        if self._held is not None:
            self._hand_on()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell of a client that went away before its request's end."""
        if self._held is not None:
            self._hand_on()
        super().connection_lost(exc)

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
        try:
            reply = self._lane.reply(headers, body)
        except Exception:  # noqa: BLE001 - Litestar meets it again, answers 500 and logs it
            return None
        if reply is None:
            return None
        ours = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        return b"".join((STATUS, *ours, reply))

    def _hand_on(self) -> None:
        """Let a request that was held back go uvicorn's way, with as much of its body as there is."""
        body, self._held = self._held, None
        super().on_headers_complete()
        if body:
            super().on_body(body)


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
