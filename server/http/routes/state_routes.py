"""What people and the monitor read: model, snapshots, alarms, outcomes, health and metrics."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.params import Parameter
from prometheus_client import CONTENT_TYPE_LATEST

from server.http.bodies import reply
from server.http.service import Service
from server.observability.state_report import report
from server.processes.health import learner_state

__all__ = [
    "alarms",
    "drift",
    "errors",
    "live",
    "metrics",
    "model",
    "outcomes",
    "ready",
    "snapshots",
    "weights",
]

Points = Annotated[int, Parameter(ge=1, le=5000, description="Bins at most.")]
Last = Annotated[int, Parameter(ge=1, le=200_000, description="How many outcomes back.")]


@get("/model", tags=["state"], sync_to_thread=True)
def model(request: Request[Any, Any, Any], service: Service) -> Response[bytes]:
    """The model now served, what it has learned, and how well it predicts."""
    return reply(request, report(service))


# a coroutine: Litestar 2.25 wraps a sync_to_thread handler twice when a later one shares its path
@get("/snapshots", tags=["state"])
async def snapshots(request: Request[Any, Any, Any], service: Service) -> Response[bytes]:
    """The versions there are, newest first, with their metrics; `active` is the one now served."""
    listed = []
    pinned = await asyncio.to_thread(service.store.pinned)
    for manifest in await asyncio.to_thread(service.store.manifests):
        shown = msgspec.to_builtins(manifest) | {"pinned": manifest.version in pinned}
        del shown["schema"], shown["probe"]
        listed.append(shown)
    return reply(request, {"active": service.scorer.plan.info.version, "snapshots": listed})


@get("/alarms", tags=["state"], sync_to_thread=True)
def alarms(request: Request[Any, Any, Any], service: Service) -> Response[bytes]:
    """Drift alarms, newest first."""
    with service.history() as history:
        return reply(request, {"alarms": history.alarms()})


@get("/drift", tags=["state"], sync_to_thread=True)
def drift(request: Request[Any, Any, Any], service: Service, points: Points = 200) -> Response[bytes]:
    """How far each feature and the predictions lie from what is usual, over time; 1 is where drift begins."""
    with service.drift_scores() as store:
        return reply(request, store.scores(points))


@get("/outcomes", tags=["state"], sync_to_thread=True)
def outcomes(
    request: Request[Any, Any, Any], service: Service, points: Points = 500, last: Last = 20_000
) -> Response[bytes]:
    """Served predictions with their labels and rolling errors, as columns, averaged into bins."""
    with service.history() as history:
        return reply(request, history.outcomes(points, last))


@get("/weights", tags=["state"], sync_to_thread=True)
def weights(
    request: Request[Any, Any, Any], service: Service, points: Points = 300, last: Last = 20_000
) -> Response[bytes]:
    """The experts' weights over the last labels: a row an expert, a column a journal seq."""
    with service.history() as history:
        return reply(request, history.weights(points, last))


@get("/errors", tags=["state"], sync_to_thread=True)
def errors(request: Request[Any, Any, Any], service: Service, last: Last = 20_000) -> Response[bytes]:
    """Where the last predictions were wrong, by key and slot, and how late their labels came."""
    segments = service.segments
    with service.history() as history:
        found = history.errors(last, len(segments.keys), len(segments.slots))
    named = {"key": segments.key, "keys": segments.keys, "slot": segments.slot, "slots": segments.slots}
    return reply(request, named | msgspec.structs.asdict(found))


@get("/health/live", tags=["health"], sync_to_thread=False)
def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


@get("/health/ready", tags=["health"], sync_to_thread=True)
def ready(request: Request[Any, Any, Any], service: Service) -> Response[bytes]:
    """Predictions can be served and labels accepted; whether the learner is at work is told beside."""
    info = service.scorer.plan.info
    with service.journal() as journal:
        journal.last_seq()
    with service.history() as history:
        learner = learner_state(history.status())
    return reply(request, {"status": "ready", "model_version": info.version, "learner": learner})


@get(
    "/metrics",
    tags=["state"],
    media_type=CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8"),
    sync_to_thread=True,
)
def metrics(service: Service) -> bytes:
    """Metrics for Prometheus."""
    return service.metrics.exposition(lambda: report(service))
