"""Replay: what the model would be had other labels been learned, or another pipeline learned them.

A replay applies journal records again, without the labels that are left out. It also predicts every served
row anew, at the moment when the replayed model has learned as many records as the plan that served the row.
So both models know the same labels when they predict.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import msgspec
import numpy as np
from river import compose

from online.learning.fold import Fold, row_as_served
from online.learning.prequential import errors
from online.model.pipeline import ENCODER, IMPUTER, POOL
from online.storage.journal import Journal
from online.storage.records import LABELS, Record

__all__ = ["Comparison", "Replay"]

REPLAY_RECORDS = 200  # read at once, and between two signs of progress


class Comparison(msgspec.Struct, frozen=True):
    """Errors over the same labels: of the predictions as served, and of the replayed model.

    ``served`` and ``replayed`` hold mae, rmse and r2 in target units, None where there is nothing to
    compare; ``left_out`` labels were neither learned nor compared.
    """

    labels: int
    left_out: int
    served: dict[str, float | None]
    replayed: dict[str, float | None]


class Replay:
    """Moves a fold along the journal.

    Parameters
    ----------
    fold
        The model to begin from, changed in place; it has learned up to its state's seq.
    journal
        The records.
    without
        Seqs of labels that are not learned.
    changed
        Whether the model is to differ from the one that lived: then its experts' outputs are its own, not
        those served, and rollbacks on the way are left out, as they would bring the old model back.
    """

    def __init__(
        self, fold: Fold, journal: Journal, without: Collection[int] = (), *, changed: bool = False
    ) -> None:
        self.fold = fold
        self._journal = journal
        self._without = frozenset(without)
        self._changed = changed
        self._scored: dict[int, tuple[float, tuple[float, ...]]] = {}
        self._pairs: list[tuple[float, float, float]] = []
        self.left_out: list[int] = []

    def run(self, until: int) -> Iterator[int]:
        """Fold the records up to a seq; yields the seq reached now and then.

        Raises
        ------
        JournalError
            A record is missing, damaged, or cut by retention.
        """
        # (seq of the plan that served it, seq of its label), the earliest served last: to be popped
        due = self._journal.labels_by_plan(self.fold.state.seq, until)[::-1]
        while (seq := self.fold.state.seq) < until:
            for record in self._journal.read(seq, min(REPLAY_RECORDS, until - seq)):
                self._score(due)
                self._apply(record)
            yield self.fold.state.seq

    def comparison(self) -> Comparison:
        """The errors so far."""
        truth, served, replayed = np.array(self._pairs).reshape(-1, 3).T
        if not len(truth):
            empty: dict[str, float | None] = dict.fromkeys(("mae", "rmse", "r2"))
            return Comparison(0, len(self.left_out), empty, empty)
        return Comparison(len(truth), len(self.left_out), errors(truth, served), errors(truth, replayed))

    def _score(self, due: list[tuple[int, int]]) -> None:
        """Score what was served from a plan that had learned no more than the model has by now."""
        while due and due[-1][0] <= self.fold.state.seq:
            _, seq = due.pop()
            (record,) = self._journal.read(seq - 1, 1)
            row = row_as_served(record)
            outputs = expert_outputs(self.fold.pipeline, row) if self._changed else record.experts
            self._scored[seq] = (self.fold.pipeline.predict_one(row), outputs)

    def _apply(self, record: Record) -> None:
        stale = record.kind == "refresh" and self.left_out  # trained on what is left out, too
        if stale or (self._changed and record.kind in ("rollback", "replay")):
            self.fold.skip(record)
            return
        scored = self._scored.pop(record.seq, None)
        if record.seq in self._without and record.kind in LABELS:
            self.left_out.append(record.seq)
            self.fold.apply(record, learn=False)
            return
        if scored is not None and record.target is not None and record.prediction is not None:
            prediction = scored[0] if math.isfinite(scored[0]) else record.prediction
            self._pairs.append((record.target, record.prediction, prediction))
            record = msgspec.structs.replace(record, experts=scored[1])
        elif self._changed:
            record = msgspec.structs.replace(record, experts=())
        self.fold.apply(record)


def expert_outputs(pipeline: compose.Pipeline, row: dict[str, Any]) -> tuple[float, ...]:
    """Predict a raw row with each expert of a pipeline.

    Parameters
    ----------
    pipeline
        Left as it is.
    row
        The raw row.

    Returns
    -------
    tuple of float
        The experts' outputs, in the pool's order and in target units.
    """
    encoded = pipeline[IMPUTER].transform_one(pipeline[ENCODER].transform_one(row))
    return tuple(pipeline[POOL].expert_outputs(encoded).values())
