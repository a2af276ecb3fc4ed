"""A plan that learns nothing, beside the model that does: what it would have said of each label's row."""

from __future__ import annotations

import math
from collections.abc import Sequence

from online.plan import ScoringPlan
from online.records import Record

__all__ = ["Bystander"]


class Bystander:
    """Scores the rows of labels; many at once take little longer than a few.

    Parameters
    ----------
    plan
        What scores.
    as_served
        Whether rows have the context that they were served with, and not the plan's own.
    """

    def __init__(self, plan: ScoringPlan, *, as_served: bool) -> None:
        self.plan = plan
        self._as_served = as_served
        self._said: dict[int, float] = {}

    def meet(self, records: Sequence[Record]) -> None:
        """Score the rows of all those records that it may be asked about next."""
        met = [one for one in records if one.kind in ("label", "release") and one.prediction is not None]
        said = self._score(met) if met else ()
        self._said = dict(zip((one.seq for one in met), said, strict=True))

    def says(self, record: Record) -> float:
        """The prediction for a label's row, in target units."""
        said = self._said.get(record.seq)
        return self._score([record])[0] if said is None else said

    def _score(self, records: Sequence[Record]) -> list[float]:
        rows, _ = self.plan.encode([one.features for one in records])
        if self._as_served:
            names = self.plan.context_names
            rows[:, len(self.plan.encoder.columns) :] = [
                [one.context.get(name, math.nan) for name in names] for one in records
            ]
        predictions: list[float] = self.plan.score(rows)[0].tolist()
        return predictions
