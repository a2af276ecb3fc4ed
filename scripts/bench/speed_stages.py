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

from online.core import config as configuration
from online.core.home import Home
from online.scoring.plan import FEW
from online.storage.prediction_log import as_blocks, joined
from server.http.fast_path import PREDICT, FastPath
from server.http.routes.predict_routes import singles
from server.http.service import Service
from server.observability.logs import RequestIds
from server.observability.metrics import Metrics

__all__ = ["measure"]

REPEATS = 2000
ROUNDS = 7


def measure(home: Home, bodies: list[bytes]) -> dict[str, Any]:
    """Microseconds a row of every stage: medians of rounds, in this thread's processor time.

    Parameters
    ----------
    home
        A bootstrapped home; it is copied, never changed.
    bodies
        Bodies of ``POST /predict``, one row each.

    Returns
    -------
    dict
        Microseconds by stage, under ``stages``.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Home(Path(shutil.copytree(home.root, Path(folder) / "home")))
        service = Service(copy, configuration.load(copy.config), Metrics(CollectorRegistry()))
        try:
            stages = {name: microseconds(call) for name, call in calls(service, bodies).items()}
            stages["all of the fast path"] = asyncio.run(together(service, bodies, 1))
            stages[f"the same, {FEW} requests together"] = asyncio.run(together(service, bodies, FEW))
            return {"stages": stages | {"behind it, a ledger row": behind(service, bodies)}}
        finally:
            service.close()


def calls(service: Service, bodies: list[bytes]) -> dict[str, Callable[[], Any]]:
    """The stages, each as a call for one row."""
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    body = bodies[0]
    row = decode(body)
    plan = service.scorer.plan
    scored = service.scorer.serve((row,))
    return {
        "decode": lambda: decode(body),
        "encode the row": lambda: plan.encoder.encode(row),
        "score": lambda: service.scorer.serve((row,)),
        "reply": lambda: encode(singles(scored)[0]),
    }


async def together(service: Service, bodies: list[bytes], count: int) -> float:
    """Microseconds a request, from its body to its reply's content, of so many that come at once."""
    fast_path = FastPath(Stand(service))  # type: ignore[arg-type]
    rounds = []
    for _ in range(ROUNDS):
        begun = time.thread_time()
        for _ in range(REPEATS // count):
            replies: list[bytes | Exception] = []
            for body in bodies[:count]:
                fast_path.submit(PREDICT, body, None, replies.append)
            while len(replies) < count:
                await asyncio.sleep(0)
        rounds.append((time.thread_time() - begun) / (REPEATS // count * count) * 1e6)
    return statistics.median(rounds)


def behind(service: Service, bodies: list[bytes]) -> float:
    """Microseconds a row to hand the ledger's rows to SQLite, a hundred requests together."""
    together = [service.scorer.serve((msgspec.json.decode(body),)) for body in bodies]
    fields = service.scorer.plan.fields
    return microseconds(lambda: as_blocks(joined(together), fields), REPEATS // len(bodies)) / len(bodies)


class Stand:
    """What stands in for the Litestar app: only its service and the names of requests are asked for."""

    def __init__(self, service: Service) -> None:
        self.state = self
        self.service = service
        self.request_ids = RequestIds()


def microseconds(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Processor time of a call: the median of rounds."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.thread_time()
        for _ in range(repeats):
            call()
        taken.append((time.thread_time() - begun) / repeats * 1e6)
    return statistics.median(taken)
