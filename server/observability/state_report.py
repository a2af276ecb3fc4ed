"""The state of a server as one report: for ``GET /model``, readiness and metrics."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from online.core.errors import SnapshotError
from online.core.schema import Feature
from online.storage.snapshot import SnapshotStore
from server.http.service import Service
from server.processes.health import learner_state

__all__ = ["report"]


def report(service: Service) -> dict[str, Any]:
    """Everything ``GET /model`` tells. Reads files: call it in a thread. Raises PlanError without a plan."""
    plan = service.scorer.plan
    info = plan.info
    with service.journal() as journal:
        journal_seq = journal.last_seq()
        waiting = journal.read(info.seq, 1)
    with service.history() as history:
        status, naive, alarms = history.status(), history.naive_mae(), history.alarm_counts()
    maes = status.get("experts") or [None] * len(info.experts)
    return {
        "stream": info.schema.stream,
        "target": info.schema.target.name,
        "model_version": info.version,
        "learned_seq": info.seq,
        "journal_seq": journal_seq,
        "labels_waiting": max(0, journal_seq - info.seq),
        "oldest_waiting_at": waiting[0].received_at if waiting else None,
        "learner": learner_state(status),
        "busy_seconds": status.get("busy_seconds", {}),
        "alarms": alarms,
        "snapshot": newest_snapshot(service.store),
        "prequential": status.get("prequential", {}) | {"naive_mae": naive},
        "labels": {"learned": status.get("learned", {}).get("labels", 0)},
        "experts": [
            {"name": name, "mae": mae, "weight": weight}
            for name, mae, weight in zip(info.experts, maes, plan.weights, strict=False)
        ],
        "interval": {
            "coverage": service.config.model.coverage,
            "below": info.interval.below * info.interval.level,
            "above": info.interval.above * info.interval.level,
        },
        "features": [described(feature) for feature in info.schema.features],
        "schema_hash": info.schema.hash,
        "river_version": info.river,
        "millrace_version": importlib.metadata.version("millrace"),
        "plan_loaded_at": service.watch.loaded_at,
    }


def newest_snapshot(store: SnapshotStore) -> dict[str, Any]:
    """Version, time and size of the newest snapshot; empty when there is none to be read."""
    try:
        manifest = store.manifest(max(store.versions(), default=0))
    except SnapshotError:
        return {}
    return {
        "version": manifest.version,
        "created_at": manifest.created_at,
        "size_bytes": manifest.size_bytes,
    }


def described(feature: Feature) -> dict[str, Any]:
    """A feature as ``GET /model`` tells it; what it has not, it leaves out."""
    about = {"values": feature.values, "period": feature.period, "low": feature.low, "high": feature.high}
    known = {name: value for name, value in about.items() if value not in (None, ())}
    return {"name": feature.name, "kind": feature.kind, "used": feature.kind != "dropped"} | known
