"""A model that learns nothing, beside the one that does: what it would have predicted for a label's row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from online.features.row_encoder import Floats
from online.scoring.plan import ScoringPlan
from online.storage.records import Record

__all__ = ["ReferenceModel"]


class ReferenceModel:
    """Scores the rows of labels by a plan that stays as it is.

    Parameters
    ----------
    plan
        What scores.
    as_served
        Whether rows have the context they were served with; else they have the plan's own, as if no label
        had come since the plan was made.
    """

    def __init__(self, plan: ScoringPlan, *, as_served: bool) -> None:
        self.plan = plan
        self._as_served = as_served
        self._predictions: dict[int, float] = {}

    def prepare_batch(self, records: Sequence[Record], values: Floats) -> None:
        """Score the rows of the labels that come next, together: many take little longer than a few.

        Parameters
        ----------
        records
            Labels; only those that had a served prediction are scored, as no other is asked about.
        values
            Their encoded rows, (n, columns).
        """
        indexes = [
            index
            for index, record in enumerate(records)
            if record.kind in ("label", "release") and record.prediction is not None
        ]
        labels = [records[index] for index in indexes]
        predictions = self._score(labels, values[indexes]) if labels else ()
        self._predictions = dict(zip((label.seq for label in labels), predictions, strict=True))

    def predict(self, record: Record) -> float:
        """The prediction for a label's row, in target units; scored now if it was not prepared."""
        prediction = self._predictions.get(record.seq)
        if prediction is None:
            values = self.plan.encoder.encode(record.features).values
            prediction = self._score([record], np.array([values]))[0]
        return prediction

    def _score(self, records: Sequence[Record], values: Floats) -> list[float]:
        if not self._as_served:
            return self.plan.score_values(values)
        names = self.plan.context_names
        context = np.array([[record.context.get(name, math.nan) for name in names] for record in records])
        predictions: list[float] = self.plan.score(np.hstack((values, context)))[0].tolist()
        return predictions
