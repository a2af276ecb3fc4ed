"""Progressive validation with labels that come some rows late: many rows at a time."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from online.features.row_encoder import CONTEXT
from online.learning.fold import Fold, PredictionDetails
from online.model.micro_batch import QueuedRow
from online.model.pipeline import ENCODER, IMPUTER, POOL

__all__ = ["DelayedRow", "Progressive"]

Array = npt.NDArray[np.float64]
Row = tuple[dict[str, Any], float]

NOT_PREDICTED = PredictionDetails(0.0, (), {})


class DelayedRow(msgspec.Struct):
    """A row that is predicted, and learned some labels later.

    Parameters
    ----------
    features
        The raw row, with its encoded values.
    target
        Its label.
    values
        Encoded values, then context features; NaN where there is none.
    groups
        The groups of its context features, None where it has none.
    columns
        ``values`` by name.
    details
        The prediction, once it is made.
    width
        The width of the prediction's interval, in target units.
    delay
        How many labels later it is learned.
    """

    features: dict[str, Any]
    target: float
    values: list[float]
    groups: list[int | None]
    columns: Mapping[str, float | None]
    details: PredictionDetails = NOT_PREDICTED
    width: float = 0.0
    delay: int = 0


class Progressive:
    """Progressive validation with late labels, by a fold's pipeline and interval.

    Each row is predicted and its label learned ``delay`` rows later, as by the fold's ``predict``,
    ``interval_bounds``, ``update_interval`` and ``learn`` row by row, to the last bit. But of the rows handed
    over together, first all are encoded, standardised and taken into the context, which needs no expert; then
    each expert goes through them by itself, its arrays and code in the cache; and then their outputs are
    combined and judged.

    Parameters
    ----------
    fold
        What predicts and learns.
    delay
        How many rows later a label comes.
    """

    def __init__(self, fold: Fold, delay: int) -> None:
        self._fold = fold
        self._delay = delay
        self._waiting: collections.deque[DelayedRow] = collections.deque()

    def run(self, rows: Sequence[Row]) -> Iterator[tuple[DelayedRow, bool]]:
        """Predict rows and learn those whose time has come; the iterator has to be exhausted.

        Yields
        ------
        tuple of DelayedRow and bool
            Each row with False when it was predicted, and again with True when it was learned.
        """
        encoder = self._fold.pipeline[ENCODER]
        values = encoder.encode_many([features for features, _ in rows])
        steps = []
        for row, encoded, groups in zip(rows, values.tolist(), encoder.groups_of(values), strict=True):
            delayed = self._delayed_row(row, encoded, groups)
            steps.append((delayed, self._query_step(delayed)))
            self._waiting.append(delayed)
            if len(self._waiting) > self._delay:
                steps.append(self._learning_step())
        yield from self._run_steps(steps)

    def finish(self) -> Iterator[tuple[DelayedRow, bool]]:
        """Learn the rows whose labels still wait; yields as :meth:`run` does."""
        yield from self._run_steps([self._learning_step() for _ in range(len(self._waiting))])

    def _delayed_row(self, row: Row, encoded: list[float], groups: list[int | None]) -> DelayedRow:
        """A row with the context as it is now."""
        features, target = row
        encoder = self._fold.pipeline[ENCODER]
        values = encoded + encoder.look_up(groups)
        with_encoded = self._fold.with_encoded(features, encoded)
        return DelayedRow(with_encoded, target, values, groups, encoder.to_dict(values))

    def _query_step(self, row: DelayedRow) -> QueuedRow:
        pipeline = self._fold.pipeline
        queued: QueuedRow = pipeline[POOL].row_to_predict(pipeline[IMPUTER].transform_one(row.columns))
        return queued

    def _learning_step(self) -> tuple[DelayedRow, QueuedRow]:
        """Teach the label that has waited longest to all but the experts."""
        row, pipeline = self._waiting.popleft(), self._fold.pipeline
        row.delay = len(self._waiting)
        pipeline[ENCODER].learn_groups(row.groups, row.target)
        pipeline[IMPUTER].learn_one(row.columns)
        imputed = pipeline[IMPUTER].transform_one(row.columns)
        return row, pipeline[POOL].row_to_learn(imputed, row.target)

    def _run_steps(self, steps: Sequence[tuple[DelayedRow, QueuedRow]]) -> Iterator[tuple[DelayedRow, bool]]:
        """Have the experts go through all steps, then combine and judge in order."""
        outputs = iter(self._fold.pipeline[POOL].learn_predict_many([queued for _, queued in steps]))
        for row, queued in steps:
            if queued.target is None:
                self._predict(row, queued, next(outputs))
                yield row, False
            else:
                self._learn(row, queued)
                yield row, True

    def _predict(self, row: DelayedRow, queued: QueuedRow, outputs: Array) -> None:
        """Predict a row from the experts' outputs."""
        pipeline = self._fold.pipeline
        prediction = pipeline[POOL].combine(outputs, queued.target_stats)
        context = pipeline[ENCODER].context_of(row.columns)
        row.details = PredictionDetails(prediction, tuple(outputs.tolist()), context)
        below, above = self._fold.interval_bounds(row.features, row.details.outputs)
        row.width = below + above

    def _learn(self, row: DelayedRow, queued: QueuedRow) -> None:
        """Teach a label to the interval and the pool's weights."""
        fold, details = self._fold, row.details
        residual = row.target - details.prediction
        fold.update_interval(row.features, details.outputs, residual, delay=row.delay, width=row.width)
        if queued.target_stats.is_known:
            fold.pipeline[POOL].update_weights(details.outputs, row.target, row.delay)
        fold.count_label(row.features | {CONTEXT: details.context})
