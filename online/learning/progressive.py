"""Rows predicted before they are learned, their labels coming some rows later: many rows at a time."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from online.features.row_encoder import CONTEXT
from online.learning.fold import Fold, Guess
from online.model.micro_batch import QueuedRow
from online.model.pipeline import ENCODER, IMPUTER, POOL

__all__ = ["Progressive", "Visit"]

Array = npt.NDArray[np.float64]
Row = tuple[dict[str, Any], float]


NO_GUESS = Guess(0.0, (), {})


class Visit(msgspec.Struct):
    """A row on its way: predicted, and learned some labels later."""

    features: dict[str, Any]  # as it came, with its encoded values
    target: float
    line: list[float]  # encoded values, then context features, NaN where there is none
    groups: list[int | None]  # of its context features
    columns: Mapping[str, float | None]  # the line by name
    guess: Guess = NO_GUESS
    width: float = 0.0  # of its interval, in target units
    age: int = 0  # how many labels later it is learned


class Progressive:
    """Progressive validation with late labels, by a fold's pipeline and interval.

    Each row is predicted and its label learned ``delay`` rows later, as by the fold's ``predict``, ``reach``,
    ``widen`` and ``learn`` row by row, to the last bit. But of the rows handed over together, first all are
    encoded, standardised and taken into the context, which needs no expert; then each expert goes through
    them by itself, its arrays and code at hand; and then their outputs are combined and judged.

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
        self._waiting: collections.deque[Visit] = collections.deque()

    def run(self, rows: Sequence[Row]) -> Iterator[tuple[Visit, bool]]:
        """Each row when it was predicted, and again, with True, when it was learned; to be exhausted."""
        encoder = self._fold.pipeline[ENCODER]
        values = encoder.encode_many([features for features, _ in rows])
        moves = []
        for row, encoded, groups in zip(rows, values.tolist(), encoder.groups_of(values), strict=True):
            visit = self._visit(row, encoded, groups)
            moves.append((visit, self._ask(visit)))
            self._waiting.append(visit)
            if len(self._waiting) > self._delay:
                moves.append(self._admit())
        yield from self._follow(moves)

    def finish(self) -> Iterator[tuple[Visit, bool]]:
        """As :meth:`run`, those rows whose labels still wait."""
        yield from self._follow([self._admit() for _ in range(len(self._waiting))])

    def _visit(self, row: Row, values: list[float], groups: list[int | None]) -> Visit:
        """A row, looked up in the context as it is now."""
        features, target = row
        encoder = self._fold.pipeline[ENCODER]
        line = values + encoder.look_up(groups)
        return Visit(self._fold.encoded(features, values), target, line, groups, encoder.to_dict(line))

    def _ask(self, visit: Visit) -> QueuedRow:
        pipeline = self._fold.pipeline
        queued: QueuedRow = pipeline[POOL].row_to_predict(pipeline[IMPUTER].transform_one(visit.columns))
        return queued

    def _admit(self) -> tuple[Visit, QueuedRow]:
        """Take the label that has waited longest into all but the experts."""
        visit, pipeline = self._waiting.popleft(), self._fold.pipeline
        visit.age = len(self._waiting)
        pipeline[ENCODER].learn_groups(visit.groups, visit.target)
        pipeline[IMPUTER].learn_one(visit.columns)
        row = pipeline[IMPUTER].transform_one(visit.columns)
        return visit, pipeline[POOL].row_to_learn(row, visit.target)

    def _follow(self, moves: Sequence[tuple[Visit, QueuedRow]]) -> Iterator[tuple[Visit, bool]]:
        """Have the experts go through it all, then combine and judge in order."""
        answers = iter(self._fold.pipeline[POOL].learn_predict_many([queued for _, queued in moves]))
        for visit, queued in moves:
            if queued.target is None:
                self._predict(visit, queued, next(answers))
                yield visit, False
            else:
                self._learn(visit, queued)
                yield visit, True

    def _predict(self, visit: Visit, queued: QueuedRow, outputs: Array) -> None:
        """Predict a row from what the experts answered."""
        pipeline = self._fold.pipeline
        prediction = pipeline[POOL].combine(outputs, queued.target_stats)
        context = pipeline[ENCODER].context_of(visit.columns)
        guess = Guess(prediction, tuple(outputs.tolist()), context)
        below, above = self._fold.reach(visit.features, guess.outputs)
        visit.guess, visit.width = guess, below + above

    def _learn(self, visit: Visit, queued: QueuedRow) -> None:
        """Take a label into the interval and the experts' weights."""
        fold, guess = self._fold, visit.guess
        fold.widen(visit.features, guess.outputs, visit.target - guess.prediction, visit.age, visit.width)
        if queued.target_stats.is_known:
            fold.pipeline[POOL].update_weights(guess.outputs, visit.target, visit.age)
        fold.count(visit.features | {CONTEXT: guess.context})
