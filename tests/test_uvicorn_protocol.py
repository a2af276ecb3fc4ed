"""The shortcut in uvicorn's protocol: what a connection does in each of its states.

Bytes go in and out of a protocol on a real event loop; the transport and the scoring are stand-ins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from server.http.fast_path import FALLBACK_KEY
from server.http.row_batcher import Settle
from server.http.uvicorn_protocol import ConnectionState, KnownHead, KnownHeads, ShortcutProtocol
from server.observability.logs import RequestIds

BODY = b'{"x": 1}'


def request(body: bytes = BODY, *, path: str = "/predict", headers: str = "") -> bytes:
    """A request as it is sent."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self, client: tuple[str, int] | None) -> None:
        super().__init__({"peername": client, "sockname": ("127.0.0.1", 80)})
        self.written = b""
        self.reading = True
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Submission(NamedTuple):
    """What the shortcut gave the app."""

    route: str
    body: bytes
    source: str | None
    settle: Settle


class App:
    """In place of the fast path: echoes what uvicorn brings; the test answers what the shortcut submits."""

    def __init__(self) -> None:
        self.request_ids = RequestIds()
        self.submitted: list[Submission] = []
        self.counted: list[str] = []
        self.at_once: bytes | Exception | None = None
        self.came: list[bytes] = []
        self.failures: list[Exception | None] = []  # of what came, why the shortcut had no reply

    def submit(self, route: str, body: bytes, source: str | None, settle: Settle) -> None:
        self.submitted.append(Submission(route, body, source, settle))
        if self.at_once is not None:
            settle(self.at_once)

    def count(self, route: str, began: float) -> None:  # noqa: ARG002 - the signature that is called
        self.counted.append(route)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.came.append(body)
        self.failures.append(scope.get(FALLBACK_KEY))
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Connection:
    """A protocol with its transport and app."""

    def __init__(self, client: tuple[str, int] | None = None, **settings: Any) -> None:
        self.app = App()
        config = uvicorn.Config(
            self.app, lifespan="off", access_log=False, log_level="error", proxy_headers=False, **settings
        )
        config.load()
        self.server_state = ServerState()
        self.protocol = ShortcutProtocol(config, self.server_state, {})
        self.transport = Transport(client)
        self.protocol.connection_made(self.transport)

    def at(self, state: ConnectionState) -> bool:
        """Whether the connection is at a state."""
        return self.protocol.state is state

    async def turn(self) -> None:
        """Let what was scheduled run."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def know(self, data: bytes = b"") -> None:
        """Have uvicorn answer a request, after which its head is known."""
        self.protocol.data_received(data or request())
        await self.turn()
        self.transport.written = b""
        self.app.came.clear()
        self.app.failures.clear()


@pytest.fixture(autouse=True)
def no_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShortcutProtocol, "known_heads", KnownHeads())


Test = Callable[[], Coroutine[Any, Any, None]]


def on_a_loop(test: Test) -> Callable[[], None]:
    """Run a coroutine as a test."""

    def run() -> None:
        asyncio.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@on_a_loop
async def test_a_new_connection_is_idle_and_an_unknown_head_goes_to_uvicorn() -> None:
    one = Connection()
    assert one.at(ConnectionState.IDLE)
    one.protocol.data_received(request())
    assert one.at(ConnectionState.UVICORN)
    await one.turn()
    assert one.at(ConnectionState.IDLE)
    assert one.app.came == [BODY] and one.app.submitted == []


@on_a_loop
async def test_a_known_head_is_scored_and_answered_with_uvicorns_default_headers() -> None:
    one = Connection()
    await one.know()
    one.server_state.default_headers = [(b"date", b"today")]
    one.protocol.data_received(request(b'{"x": 2}'))
    assert one.at(ConnectionState.SHORTCUT)
    ((route, body, _, settle),) = one.app.submitted
    assert route == "/predict" and body == b'{"x": 2}'
    settle(b'{"y": 3}')
    await one.turn()
    assert one.at(ConnectionState.IDLE)
    head, _, content = one.transport.written.partition(b"\r\n\r\n")
    assert content == b'{"y": 3}' and one.app.came == []
    assert head.startswith(b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-type: application/json\r\n")
    assert b"content-length: 8" in head and b"x-request-id: " in head
    assert one.app.counted == ["/predict"]
    assert one.server_state.total_requests == 2


@on_a_loop
async def test_a_reply_that_is_there_at_once_is_written_at_once() -> None:
    one = Connection()
    await one.know()
    one.app.at_once = b"{}"
    one.protocol.data_received(request())
    assert one.at(ConnectionState.IDLE)
    assert one.transport.written.endswith(b"\r\n\r\n{}")


@on_a_loop
async def test_the_callers_request_id_is_part_of_what_is_known() -> None:
    one = Connection()
    named = request(headers="X-Request-Id: mine\r\n")
    await one.know(named)
    one.app.at_once = b"{}"
    one.protocol.data_received(named)
    assert b"x-request-id: mine\r\n" in one.transport.written


@pytest.mark.parametrize("at_once", [True, False])
def test_what_has_no_reply_is_brought_to_uvicorn_as_it_came_with_the_reason(at_once: bool) -> None:
    async def test() -> None:
        one = Connection()
        await one.know()
        failure = ValueError("wrong")
        one.app.at_once = failure if at_once else None
        one.protocol.data_received(request(b'{"x": 3}'))
        if not at_once:
            one.app.submitted[0].settle(failure)
        await one.turn()
        assert one.app.came == [b'{"x": 3}'] and one.app.failures == [failure]
        assert one.transport.written.endswith(b'{"x": 3}')
        assert one.at(ConnectionState.IDLE)
        one.protocol.data_received(request(b"[]"))  # the next request knows nothing of it
        await one.turn()
        assert one.app.failures == [failure, None]

    asyncio.run(test())


@on_a_loop
async def test_labels_are_answered_accepted_and_sent_by_whom_the_head_or_the_connection_says() -> None:
    one = Connection(client=("10.0.0.7", 4711))
    await one.know(request(path="/learn"))
    await one.know(request(path="/learn", headers="X-Label-Source: meter\r\n"))
    one.app.at_once = b"{}"
    one.protocol.data_received(request(path="/learn"))
    one.protocol.data_received(request(path="/learn", headers="X-Label-Source: meter\r\n"))
    assert [(sent.route, sent.source) for sent in one.app.submitted] == [
        ("/learn", "10.0.0.7"),
        ("/learn", "meter"),
    ]
    assert one.transport.written.count(b"HTTP/1.1 202 Accepted\r\n") == 2
    assert one.app.counted == ["/learn", "/learn"]


@on_a_loop
async def test_bytes_that_come_while_scoring_wait_for_the_reply() -> None:
    one = Connection()
    await one.know()
    one.protocol.data_received(request(b'{"x": 1}'))
    one.protocol.data_received(request(b'{"x": 2}') + request(b'{"x": 33}'))
    assert len(one.app.submitted) == 1 and one.app.came == [] and not one.transport.reading
    one.app.submitted[0].settle(b"first")
    await one.turn()
    assert one.app.came == [b'{"x": 2}', b'{"x": 33}'] and one.transport.reading
    written = one.transport.written
    assert written.index(b"first") < written.index(b'{"x": 2}') < written.index(b'{"x": 33}')
    assert one.at(ConnectionState.IDLE)


@on_a_loop
async def test_known_heads_are_left_to_uvicorn_while_it_has_a_request_or_cannot_write() -> None:
    one = Connection()
    await one.know()
    one.protocol.data_received(request()[:30])
    assert one.at(ConnectionState.UVICORN)
    one.protocol.data_received(request()[30:])
    one.protocol.data_received(request())
    await one.turn()
    assert one.app.came == [BODY, BODY] and one.app.submitted == []
    one.protocol.pause_writing()
    one.protocol.data_received(request())
    assert one.at(ConnectionState.UVICORN) and one.app.submitted == []
    one.protocol.resume_writing()
    await one.turn()
    assert one.at(ConnectionState.IDLE)


@on_a_loop
async def test_a_connection_lost_while_scoring_gets_no_reply_and_raises_nothing() -> None:
    for failure in (None, ValueError("wrong")):
        one = Connection()
        await one.know()
        one.protocol.data_received(request())
        one.protocol.connection_lost(None)
        if failure is None:
            one.app.submitted[0].settle(b"{}")
        else:
            one.app.submitted[0].settle(failure)
        await one.turn()
        assert one.transport.written == b"" and one.app.came == []


@on_a_loop
async def test_a_shutdown_while_scoring_waits_for_the_reply() -> None:
    one = Connection()
    await one.know()
    one.protocol.data_received(request())
    one.protocol.shutdown()
    assert not one.transport.closed
    one.app.submitted[0].settle(b"{}")
    await one.turn()
    assert one.transport.written.endswith(b"{}") and one.transport.closed


@on_a_loop
async def test_a_shutdown_waits_for_what_came_early_too() -> None:
    one = Connection()
    await one.know()
    one.protocol.data_received(request())
    one.protocol.data_received(request(b'{"x": 2}'))
    one.protocol.shutdown()
    one.app.submitted[0].settle(b"first")
    assert one.at(ConnectionState.SHORTCUT) and not one.transport.closed
    one.app.submitted[1].settle(b"second")
    await one.turn()
    assert one.transport.written.endswith(b"second") and one.transport.closed


@on_a_loop
async def test_the_keep_alive_timer_closes_a_connection_that_is_idle_and_no_other() -> None:
    one = Connection(timeout_keep_alive=0.2)
    await one.know()
    one.protocol.data_received(request())
    await asyncio.sleep(0.3)
    assert one.at(ConnectionState.SHORTCUT) and not one.transport.closed
    one.app.submitted[0].settle(b"{}")
    await one.turn()
    answered = asyncio.get_running_loop().time()
    while not one.transport.closed:
        await asyncio.sleep(0.01)
    assert asyncio.get_running_loop().time() - answered >= 0.15


@pytest.mark.parametrize(
    "data",
    [
        request(path="/model"),
        request(path="/predict?record=false"),
        request(path="/learn?wait=1"),
        request(path="/learn", headers="X-Forwarded-For: 10.0.0.8\r\n"),
        request(headers="Accept: application/msgpack\r\n"),
        request(headers="Connection: close\r\n"),
        request(headers=f"X-Long: {'x' * 3000}\r\n"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request().replace(b"POST", b"GET"),
        request(b""),
        request() + request(),
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n"
        + BODY
        + b"\r\n0\r\n\r\n",
    ],
    ids=[
        "route",
        "query",
        "wait",
        "forwarded",
        "media",
        "close",
        "long",
        "1.0",
        "method",
        "empty",
        "two",
        "chunked",
    ],
)
def test_a_head_is_remembered_only_of_a_plain_request_that_came_whole_and_alone(data: bytes) -> None:
    async def test() -> None:
        one = Connection()
        one.protocol.data_received(data)
        await one.turn()
        assert len(ShortcutProtocol.known_heads) == 0

    asyncio.run(test())


@on_a_loop
async def test_a_cut_request_and_bytes_that_are_no_request_are_not_remembered() -> None:
    one = Connection()
    one.protocol.data_received(request()[:-3])
    one.protocol.data_received(request()[-3:])
    await one.turn()
    one.protocol.data_received(b"no request\r\n\r\n" + BODY)
    assert len(ShortcutProtocol.known_heads) == 0 and one.transport.closed


def known(number: int) -> KnownHead:
    return KnownHead("/predict", number, None, None)


def test_the_memory_of_heads_is_bounded() -> None:
    heads = KnownHeads(max_heads=3, max_head_bytes=10)
    heads.remember(b"x" * 11, known(1))
    assert len(heads) == 0
    for number in range(100):
        heads.remember(b"%d" % number, known(number))
        assert len(heads) <= 3
        assert heads.get(b"%d" % number) == known(number)


def test_uvicorn_has_the_private_parts_that_the_shortcut_uses() -> None:
    overridden = {"data_received", "on_message_begin", "on_message_complete", "timeout_keep_alive_handler"}
    assert overridden | {"on_response_complete", "shutdown"} <= set(vars(HttpToolsProtocol))
    of_protocol = HttpToolsProtocol.__init__.__code__.co_names
    assert {"cycle", "flow", "loop", "server_state", "headers", "scope"} <= set(of_protocol)
    assert "timeout_keep_alive_task" in of_protocol
    of_cycle = RequestResponseCycle.__init__.__code__.co_names
    assert {"body", "keep_alive", "response_complete"} <= set(of_cycle)
    assert {"pause_reading", "resume_reading"} <= set(vars(FlowControl))
