"""Processor time of what one ``/predict`` goes through, stage by stage, without a socket."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from online import config as configuration
from online.home import Home
from online.ledger import as_json
from server.lane import FastLane
from server.metrics import Metrics
from server.routes.predict import single
from server.service import Service

__all__ = ["measure"]

REPEATS = 2000
ROUNDS = 7


def measure(home: Home, bodies: list[bytes]) -> dict[str, Any]:
    """Microseconds a row of every stage: medians of rounds, in this thread's processor time."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Home(Path(shutil.copytree(home.root, Path(folder) / "home")))
        service = Service(copy, configuration.load(copy.config), Metrics(CollectorRegistry()))
        try:
            return {"stages": {name: microseconds(call) for name, call in calls(service, bodies).items()}}
        finally:
            service.close()


def calls(service: Service, bodies: list[bytes]) -> dict[str, Callable[[], Any]]:
    """The stages, each as a call for one row."""
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    body = bodies[0]
    row = decode(body)
    plan = service.scorer.plan
    scored = service.scorer.serve((row,))
    lane = FastLane(Stand(service))  # type: ignore[arg-type]
    return {
        "decode": lambda: decode(body),
        "encode the row": lambda: plan.encoder.encode(row),
        "score": lambda: service.scorer.serve((row,)),
        "reply": lambda: encode(single(scored)),
        "all of the fast lane": lambda: asyncio_free(lane, body),
        "behind it: a ledger row": lambda: as_json([scored]),
    }


class Stand:
    """What stands in for the Litestar app: only its service is asked for."""

    def __init__(self, service: Service) -> None:
        self.state = self
        self.service = service


SCOPE = {
    "type": "http", "path": "/predict", "method": "POST", "query_string": b"",
    "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"150")],
}  # fmt: skip


def asyncio_free(lane: FastLane, body: bytes) -> None:
    """Run a request through the lane; nothing in it waits, so no loop is needed."""

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(_: Any) -> None:
        return None

    try:
        lane(SCOPE, receive, send).send(None)
    except StopIteration:
        return
    raise asyncio.InvalidStateError("the lane waited for something")


def microseconds(call: Callable[[], Any]) -> float:
    """Processor time of a call: the median of rounds."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.thread_time()
        for _ in range(REPEATS):
            call()
        taken.append((time.thread_time() - begun) / REPEATS * 1e6)
    return statistics.median(taken)
