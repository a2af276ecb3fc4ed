"""uvicorn's HTTP protocol with the fast lane in it.

A plain ``POST /predict`` whose body is small is held back until it is whole, and answered in the same turn of
the event loop: without an ASGI scope, task or messages, which cost more than all the rest. Any other request,
and one that the lane does not answer, goes uvicorn's own way, from its headers on.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.lane import PATH, FastLane, ordinary

__all__ = ["LaneProtocol"]

MOST_BYTES = 65536  # of a body that is held back
URL = PATH.encode()
STATUS = b"HTTP/1.1 200 OK\r\n"


class LaneProtocol(HttpToolsProtocol):
    """One connection. uvicorn's configuration must name a :class:`~server.lane.FastLane` as its app."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._lane: FastLane = config.app
        self._held: bytes | None = None  # the body so far of a request that may be answered here

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
        if self._held is not None:
            reply = self._reply(self._held)
            if reply is not None:
                self._held = None
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
        ours = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        return b"".join((STATUS, *ours, reply))

    def _hand_on(self) -> None:
        """Let a request that was held back go uvicorn's way, with as much of its body as there is."""
        body, self._held = self._held, None
        super().on_headers_complete()
        if body:
            super().on_body(body)
