"""Replies of the Millrace API as the monitor reads them.

They hold no more than the page shows, and every field has a default, so that a monitor of this release reads
a server of another one. ``docs/reference.md`` says what each route answers in full.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "AlarmReply",
    "AlarmsReply",
    "Column",
    "DriftReply",
    "ErrorsReply",
    "FeatureReply",
    "IntervalReply",
    "LearnerReply",
    "ModelReply",
    "OutcomesReply",
    "PrequentialReply",
    "QuarantineReply",
    "QuarantinedLabelReply",
    "SnapshotReply",
    "SnapshotsReply",
    "Timestamp",
    "WeightsReply",
]

Column = tuple[float | None, ...]
Timestamp = float | str | None  # unix seconds, or ISO 8601 text


class LearnerReply(msgspec.Struct, frozen=True):
    """Whether the learner runs, and when it last said so (unix seconds)."""

    alive: bool | None = None
    updated_at: float | None = None


class PrequentialReply(msgspec.Struct, frozen=True):
    """Error of the predictions as served, over the last ``window`` labels."""

    window: int = 1000
    n: int = 0
    mae: float | None = None
    baseline_mae: float | None = None
    naive_mae: float | None = None
    coverage: float | None = None
    delay_seconds: float | None = None


class FeatureReply(msgspec.Struct, frozen=True):
    """One input column as the model knows it."""

    name: str = ""
    kind: str = ""
    used: bool = True
    values: tuple[str, ...] = ()
    period: float | None = None
    low: float | None = None
    high: float | None = None


class IntervalReply(msgspec.Struct, frozen=True):
    """What the intervals served aim at."""

    coverage: float | None = None


class ModelReply(msgspec.Struct, frozen=True):
    """``GET /model``: what is served now, and how well."""

    stream: str = ""
    target: str = ""
    model_version: int | str | None = None
    learned_seq: int | None = None
    labels_waiting: int | None = None
    learner: LearnerReply = LearnerReply()
    prequential: PrequentialReply = PrequentialReply()
    interval: IntervalReply = IntervalReply()
    features: tuple[FeatureReply, ...] = ()


class OutcomesReply(msgspec.Struct, frozen=True):
    """``GET /outcomes``: scored predictions as columns, oldest first."""

    seq: Column = ()
    received_at: Column = ()
    truth: Column = ()
    prediction: Column = ()
    lower: Column = ()
    upper: Column = ()
    mae: Column = ()
    baseline_mae: Column = ()
    naive_mae: Column = ()
    coverage: Column = ()
    delay_seconds: Column = ()


class WeightsReply(msgspec.Struct, frozen=True):
    """``GET /weights``: each expert's weight over the journal."""

    seq: tuple[int, ...] = ()
    experts: tuple[str, ...] = ()
    weights: tuple[Column, ...] = ()


class ErrorsReply(msgspec.Struct, frozen=True):
    """``GET /errors``: error by key and slot, and how late labels came."""

    key: str = ""
    keys: tuple[str, ...] = ()
    slot: str = ""
    slots: tuple[str, ...] = ()
    mae: tuple[Column, ...] = ()
    bias: tuple[Column, ...] = ()
    n: tuple[tuple[int, ...], ...] = ()
    delay_edges: tuple[float, ...] = ()
    delay_counts: tuple[int, ...] = ()


class DriftReply(msgspec.Struct, frozen=True):
    """``GET /drift``: how far each subject lies from what is usual, over time; 1 is where drift begins."""

    at: tuple[float, ...] = ()
    scores: dict[str, Column] = {}


class AlarmReply(msgspec.Struct, frozen=True):
    """One drift alarm."""

    seq: int | None = None
    at: Timestamp = None
    detector: str = ""
    subject: str = ""
    before: float | None = None
    after: float | None = None
    message: str = ""
    since: Timestamp = None
    cost: float | None = None
    cost_labels: int | None = None
    also: tuple[str, ...] = ()
    muted: bool = False
    ended_at: Timestamp = None


class AlarmsReply(msgspec.Struct, frozen=True):
    """``GET /alarms``, newest first."""

    alarms: tuple[AlarmReply, ...] = ()


class SnapshotReply(msgspec.Struct, frozen=True):
    """One version of the model."""

    version: int | str | None = None
    parent: int | str | None = None
    seq: int | None = None
    created_at: Timestamp = None
    reason: str = ""
    metrics: dict[str, Any] = {}

    @property
    def mae(self) -> float | None:
        """The rolling error at that moment, when it was known."""
        return self.metric("mae")

    def metric(self, name: str) -> float | None:
        """One figure of that moment, when it was known."""
        value = self.metrics.get(name)
        return float(value) if isinstance(value, int | float) else None


class SnapshotsReply(msgspec.Struct, frozen=True):
    """``GET /snapshots``, newest first, and which one is served."""

    active: int | str | None = None
    snapshots: tuple[SnapshotReply, ...] = ()


class QuarantinedLabelReply(msgspec.Struct, frozen=True):
    """One label set aside; ``released_as`` is its journal seq once it was released."""

    seq: int | None = None
    reason: str = ""
    record: dict[str, Any] = {}
    released_as: int | None = None


class QuarantineReply(msgspec.Struct, frozen=True):
    """``GET /quarantine``, newest first."""

    quarantined: tuple[QuarantinedLabelReply, ...] = ()
