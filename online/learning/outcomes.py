"""The outcome of a label: how far the prediction that was served for its row was off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from online.features.segments import OTHER_SEGMENT
from online.storage.metrics_store import Outcome
from online.storage.records import Record

__all__ = ["OutcomeBuilder"]


class OutcomeBuilder:
    """Makes the outcomes of labels.

    Parameters
    ----------
    baseline
        What the frozen first model predicts for a label's row, in target units; None to leave it out.
    segment_of
        Gives the key and slot of a raw row; None puts every row into no segment.
    """

    def __init__(
        self,
        baseline: Callable[[Record], float] | None = None,
        segment_of: Callable[[Mapping[str, Any]], tuple[int, int]] | None = None,
    ) -> None:
        self._baseline = baseline
        self._segment_of = segment_of

    def build(self, record: Record) -> Outcome | None:
        """The outcome of a label; None for one that had no served prediction.

        Nor has a correction one: its prediction was measured when the label came first, and would count
        twice.
        """
        if record.kind == "correction" or record.prediction is None or record.target is None:
            return None
        key, slot = self._segment_of(record.features) if self._segment_of else (OTHER_SEGMENT, OTHER_SEGMENT)
        served_at = record.served_at or record.received_at
        return Outcome(
            seq=record.seq,
            received_at=record.received_at,
            truth=record.target,
            prediction=record.prediction,
            lower=record.prediction if record.lower is None else record.lower,
            upper=record.prediction if record.upper is None else record.upper,
            baseline=self._baseline(record) if self._baseline else None,
            delay_seconds=max(0.0, record.received_at - served_at),
            known_seq=record.plan_seq or 0,
            key=key,
            slot=slot,
        )
