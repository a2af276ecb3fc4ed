"""uvicorn's HTTP protocol with the fast lane in it.

A plain ``POST /predict`` whose body is small is held back until it is whole, and answered in the same turn of
the event loop: without an ASGI scope, task or messages, which cost more than all the rest. A plain ``POST
/learn`` whose body is small is one of uvicorn's requests, but starts no task: it is answered when its labels
are durable. Any other request, and one that the lane does not answer, goes uvicorn's own way.
"""

from __future__ import annotations

import functools
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.lane import LEARN, PATH, FastLane, ordinary, plain

__all__ = ["LaneProtocol"]

MOST_BYTES = 65536  # of a body that is held back
URL = PATH.encode()
STATUS = b"HTTP/1.1 200 OK\r\n"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\n"
LAST = b"connection: close\r\n"


class LaneProtocol(HttpToolsProtocol):
    """One connection. uvicorn's configuration must name a :class:`~server.lane.FastLane` as its app."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._lane: FastLane = config.app
        self._held: bytes | None = None  # the body so far of a request that may be answered here
        self._labels: RequestResponseCycle | None = None  # a request whose labels are not all there yet

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
        if self._held is not None:
            reply = self._reply(self._held)
            if reply is not None:
                self._held = None
                self.transport.write(reply)
                self.on_response_complete()
                return
            self._hand_on()
        super().on_message_complete()
        self._learn()

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
        self._leave_labels()

    def _plain(self) -> bool:
        """Whether a request asks for nothing special, and nothing is before it."""
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and ordinary(self.headers)
        )

    def _reply(self, body: bytes) -> bytes | None:
        try:
            reply = self._lane.reply(self.headers, body)
        except Exception:  # noqa: BLE001 - Litestar meets it again, answers 500 and logs it
            return None
        if reply is None:
            return None
        return self._whole(STATUS, reply)

    def _whole(self, status: bytes, ending: bytes) -> bytes:
        """A reply with the headers that every one has."""
        ours = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        return b"".join((status, *ours, ending))

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
        except Exception:  # noqa: BLE001 - as above
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
