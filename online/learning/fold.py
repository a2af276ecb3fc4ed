"""The fold: what record after record makes of the model. Deterministic, without clock or files."""

from __future__ import annotations

import base64
import bisect
import contextlib
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from river import compose

from online.core.config import Config
from online.features.encoder import clean
from online.features.error_scale import disagreement_of_row, error_scale_columns
from online.features.row_encoder import CONTEXT, ENCODED, Floats
from online.features.segments import OTHER_SEGMENT
from online.learning.e_detector import EDetector
from online.learning.prequential import Prequential
from online.model.intervals import BOUNDS_KEPT, ConformalInterval
from online.model.pipeline import BOOSTED_RECENT, ENCODER, IMPUTER, POOL
from online.storage.metrics_store import Alarm, Outcome
from online.storage.records import LABELS, Record
from online.storage.served_predictions import encoded_values

__all__ = ["Fold", "FoldState", "Guess", "Learned", "as_served"]


class Learned(msgspec.Struct, frozen=True):
    """What one record showed."""

    outcome: Outcome | None = None
    alarm: Alarm | None = None


class Guess(msgspec.Struct, frozen=True):
    """A prediction with the context and the experts' outputs behind it, in target units."""

    prediction: float
    outputs: tuple[float, ...]
    context: dict[str, float]


class FoldState:
    """All the fold needs beside the pipeline; pickled with it.

    Parameters
    ----------
    config
        Coverage of the intervals comes from here.
    """

    def __init__(self, config: Config) -> None:
        self.seq = 0
        self.learned = 0
        self.skipped: list[int] = []  # seqs of the last records that taught nothing, ascending
        self.interval = ConformalInterval(config.model.coverage, error_scale_columns(config.schema))
        self.prequential = Prequential()
        self.last: dict[str, Any] = {}  # the row learned last
        self.guard = EDetector()

    @property
    def probe(self) -> dict[str, Any]:
        """The row learned last, as a JSON file takes it: every snapshot is tried on one when it is loaded."""
        return clean(self.last, frozenset(self.last) - {CONTEXT, ENCODED})

    def configure(self, config: Config) -> None:
        """Take on settings that were edited since the state was pickled."""
        self.interval.coverage = config.model.coverage


class Fold:
    """A pipeline and its state, moved on record by record.

    Parameters
    ----------
    pipeline
        The model; learned in place.
    state
        The rest; changed in place.
    restore
        Gives the pipeline of an older version, for a rollback record.
    baseline
        What the frozen first model says of a label's row, in target units.
    between
        Gives the records after one seq and before another, which a replayed model has yet to learn.
    locate
        Tells the key and slot of a raw row, which go with its outcome.
    schema_hash
        Which stored encoded values are the pipeline's own: rows that come with them are not encoded again.
        Empty for none.
    """

    def __init__(
        self,
        pipeline: compose.Pipeline,
        state: FoldState,
        restore: Callable[[int], compose.Pipeline],
        baseline: Callable[[Record], float] | None = None,
        between: Callable[[int, int], Iterable[Record]] = lambda after, before: (),
        locate: Callable[[Mapping[str, Any]], tuple[int, int]] = lambda row: (OTHER_SEGMENT, OTHER_SEGMENT),
        schema_hash: str = "",
    ) -> None:
        self.pipeline = pipeline
        self.state = state
        self._restore = restore
        self._baseline = baseline
        self._between = between
        self._locate = locate
        self._schema_hash = schema_hash
        self._met: dict[int, list[float]] = {}

    def prepare_batch(self, records: Sequence[Record]) -> Floats:
        """The encoded rows of records that are about to be taken in, (n, columns).

        As they were stored with the records, else encoded now, at once.
        """
        values: Floats = encoded_values(records, self.pipeline[ENCODER], self._schema_hash)
        self._met = dict(zip((one.seq for one in records), values.tolist(), strict=True))
        return values

    @contextlib.contextmanager
    def batched(self) -> Iterator[None]:
        """Take in the records of the block faster, with the same result; it is whole when the block ends."""
        with self.pipeline[POOL].batched():
            yield

    def apply(self, record: Record, *, learn: bool = True) -> Learned:
        """Take in the next record; measured only with ``learn=False``.

        Raises SnapshotError when a rollback's version cannot be loaded; nothing was changed then.
        """
        learned, taught = Learned(), False
        if record.kind in LABELS and record.target is not None:
            features = self.encoded(as_served(record), self._met.pop(record.seq, None))
            learned = self._measure(record, features, record.target)
            if learn:
                self.learn(features, record.target, record.experts, self._age(record))
                taught = True
        else:
            self.apply_command(record)
        self._passed(record.seq, taught)
        return learned

    def apply_command(self, record: Record) -> None:
        """Do what a record orders."""
        self.pipeline[POOL].flush()
        if record.kind in ("rollback", "replay"):
            self._exchange(record)
        elif record.kind == "refresh":
            self.refresh(base64.b64decode(record.payload["model"]), BOOSTED_RECENT)

    def skip(self, record: Record) -> None:
        """Pass a record without taking anything from it."""
        self._passed(record.seq, taught=False)

    def _passed(self, seq: int, taught: bool) -> None:
        self.state.seq = seq
        if not taught:
            self.state.skipped.append(seq)
            del self.state.skipped[:-BOUNDS_KEPT]

    def _age(self, record: Record) -> int:
        """How many labels were learned between a prediction and its label."""
        skipped, plan_seq = self.state.skipped, record.plan_seq or 0
        return max(0, record.seq - 1 - plan_seq - (len(skipped) - bisect.bisect_right(skipped, plan_seq)))

    def _exchange(self, record: Record) -> None:
        """Go on with another pipeline; a replayed one first learns what came while it was made."""
        pipeline = self._restore(record.payload["version"])
        missed = list(self._between(record.payload.get("learned", record.seq), record.seq))
        self.pipeline, learned = pipeline, self.state.learned
        for one in missed:
            if one.kind in LABELS and one.target is not None:
                self.learn(as_served(one), one.target, one.experts, self._age(one))
        self.state.learned = learned  # they were counted when they came

    def predict(self, features: dict[str, Any]) -> Guess:
        """What the pipeline says of a row, and what a server would note of it."""
        encoder = self.pipeline[ENCODER]
        row = encoder.transform_one(features)
        prediction, outputs = self.pipeline[POOL].predict_with_outputs(
            self.pipeline[IMPUTER].transform_one(row)
        )
        return Guess(prediction, tuple(outputs.tolist()), encoder.context_of(row))

    def encoded(self, features: dict[str, Any], values: list[float] | None = None) -> dict[str, Any]:
        """A raw row that carries its encoded values, for what is asked of it several times."""
        return features | {ENCODED: self.pipeline[ENCODER].encode_one(features) if values is None else values}

    def learn(
        self, features: dict[str, Any], target: float, outputs: Sequence[float] = (), age: int = 0
    ) -> None:
        """Teach the pipeline one label.

        With the experts' outputs as they were served, where they were, ``age`` labels before.
        """
        if outputs:
            self.pipeline[POOL].set_served_outputs(outputs, age)
        self.pipeline.learn_one(features, target)
        self.count(features)

    def count(self, features: dict[str, Any]) -> None:
        """Note that the label of a row has been learned."""
        self.state.learned += 1
        self.state.last = features

    def warm_up(self) -> None:
        """Learn a row on a copy, so that no label waits for kernels that have to be compiled or loaded."""
        pipeline, state = pickle.loads(pickle.dumps((self.pipeline, self.state)))  # noqa: S301 - our own bytes
        copy = Fold(pipeline, state, self._restore)
        for _ in range(2):  # some parts begin with the second row
            guess = copy.predict(state.probe)
            copy.widen(state.probe, guess.outputs, 1.0, 0, 1.0)
            copy.learn(state.probe, pipeline[POOL].target_mean, guess.outputs)
        with copy.batched():
            for _ in range(2):
                copy.learn(state.probe, pipeline[POOL].target_mean, guess.outputs)

    def refresh(self, model: bytes, *names: str) -> None:
        """Give these experts a newly trained model, those of them that the pool has."""
        experts = self.pipeline[POOL].experts
        for name in names:
            if name in experts:
                experts[name].replace(model)

    def widen(
        self, features: dict[str, Any], outputs: Sequence[float], residual: float, delay: int, width: float
    ) -> None:
        """Let the interval know how far a prediction was off, ``delay`` labels later.

        With the width of its interval as it was served, 0 for none; both in target units.
        """
        values = self.pipeline[ENCODER].encode_one(features)
        self.state.interval.update(values, self._spread(outputs), residual, delay, width)

    def reach(self, features: dict[str, Any], outputs: Sequence[float]) -> tuple[float, float]:
        """How far the interval reaches below and above a row's prediction, in target units."""
        return self.state.interval.get(self.pipeline[ENCODER].encode_one(features), self._spread(outputs))

    def _spread(self, outputs: Sequence[float]) -> float:
        """How far experts' outputs stand apart, in target units; 0 where some are missing."""
        shares = self.pipeline[POOL].absolute_weights()
        return disagreement_of_row(np.array(outputs), shares) if len(outputs) == len(shares) else 0.0

    def _measure(self, record: Record, features: dict[str, Any], target: float) -> Learned:
        """Measure the prediction as it was served; a correction measures nothing twice."""
        if record.kind == "correction" or record.prediction is None:
            return Learned()
        outcome = Outcome(
            record.seq, record.received_at, target, record.prediction,
            record.prediction if record.lower is None else record.lower,
            record.prediction if record.upper is None else record.upper,
            self._baseline(record) if self._baseline else None,
            max(0.0, record.received_at - (record.served_at or record.received_at)),
            record.plan_seq or 0, *self._locate(record.features),
        )  # fmt: skip
        self.widen(
            features, record.experts, target - record.prediction, self._age(record),
            outcome.upper - outcome.lower,
        )  # fmt: skip
        self.state.prequential.update(outcome, record.experts)
        return Learned(outcome)


def as_served(record: Record) -> dict[str, Any]:
    """The row a label trains on: with its context as served, where it was."""
    return record.features if record.prediction is None else record.features | {CONTEXT: record.context}
