"""A plan that learns nothing, beside the model that does: what it would have said of each label's row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from online.scoring.plan import ScoringPlan
from online.storage.records import Record

__all__ = ["Bystander", "Floats"]

Floats = npt.NDArray[np.float64]


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

    def meet(self, records: Sequence[Record], values: Floats) -> None:
        """Score the rows of labels that it may be asked about next, by their encoded values (n, columns)."""
        asked = [
            at
            for at, one in enumerate(records)
            if one.kind in ("label", "release") and one.prediction is not None
        ]
        met = [records[at] for at in asked]
        said = self._score(met, values[asked]) if met else ()
        self._said = dict(zip((one.seq for one in met), said, strict=True))

    def says(self, record: Record) -> float:
        """The prediction for a label's row, in target units."""
        said = self._said.get(record.seq)
        if said is None:
            said = self._score([record], np.array([self.plan.encoder.encode(record.features).values]))[0]
        return said

    def _score(self, records: Sequence[Record], values: Floats) -> list[float]:
        if not self._as_served:
            return self.plan.score_values(values)
        names = self.plan.context_names
        served = np.array([[one.context.get(name, math.nan) for name in names] for one in records])
        predictions: list[float] = self.plan.score(np.hstack((values, served)))[0].tolist()
        return predictions
