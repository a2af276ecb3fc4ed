"""The fold: what record after record makes of the model. Deterministic, without clock or files.

A model is a snapshot and the journal records after it, applied in order. Replays and restarts apply the same
records to the same snapshot and get the same model, to the last bit.
"""

from __future__ import annotations

import base64
import bisect
import contextlib
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from river import compose

from online.core.config import Config
from online.features.error_scale import disagreement_of_row, error_scale_columns
from online.features.row_encoder import CONTEXT, ENCODED, Floats
from online.features.value_encoder import clean
from online.learning.e_detector import EDetector
from online.learning.outcomes import OutcomeBuilder
from online.learning.prequential import Prequential
from online.model.intervals import BOUNDS_KEPT, ConformalInterval
from online.model.pipeline import BOOSTED_RECENT, ENCODER, IMPUTER, POOL
from online.storage.metrics_store import Alarm, Outcome
from online.storage.records import LABELS, Record
from online.storage.served_predictions import encoded_values

__all__ = ["Applied", "Fold", "FoldState", "PredictionDetails", "row_as_served"]


class Applied(msgspec.Struct, frozen=True):
    """What came of a record, for the history."""

    outcome: Outcome | None = None
    alarm: Alarm | None = None


class PredictionDetails(msgspec.Struct, frozen=True):
    """A prediction with the context and the experts' outputs behind it, in target units."""

    prediction: float
    outputs: tuple[float, ...]
    context: dict[str, float]


class FoldState:
    """All the fold needs beside the pipeline; pickled with it, so its attributes keep their names.

    Parameters
    ----------
    config
        The coverage of the intervals, and the schema.
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
        """Use settings that were edited since the state was pickled."""
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
    records_between
        Gives the records after one seq and before another, which a replayed model has yet to learn; None
        where no replay is ever put live.
    outcomes
        Makes the outcomes of labels; None for outcomes without baseline and segment.
    """

    def __init__(
        self,
        pipeline: compose.Pipeline,
        state: FoldState,
        restore: Callable[[int], compose.Pipeline],
        records_between: Callable[[int, int], Iterable[Record]] | None = None,
        outcomes: OutcomeBuilder | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.state = state
        self._restore = restore
        self._records_between = records_between
        self._outcomes = outcomes or OutcomeBuilder()
        self._encoded_rows: dict[int, list[float]] = {}

    # Applying records

    def prepare_batch(self, records: Sequence[Record], schema_hash: str = "") -> Floats:
        """Take the encoded rows of the labels that are applied next: as stored with them, else encoded now.

        Parameters
        ----------
        records
            The labels.
        schema_hash
            The hash of the pipeline's schema: values that were stored under it are its own. Empty to encode
            all rows.

        Returns
        -------
        numpy.ndarray
            The encoded rows, (n, columns).
        """
        values: Floats = encoded_values(records, self.pipeline[ENCODER], schema_hash)
        self._encoded_rows = dict(zip((record.seq for record in records), values.tolist(), strict=True))
        return values

    @contextlib.contextmanager
    def batched(self) -> Iterator[None]:
        """Apply the records of the block faster, with the same result; the model is whole when it ends."""
        with self.pipeline[POOL].batched():
            yield

    def apply(self, record: Record, *, learn: bool = True) -> Applied:
        """Apply the next record.

        Parameters
        ----------
        record
            The one after ``state.seq``.
        learn
            False to measure a label's prediction, and not learn the label.

        Returns
        -------
        Applied
            The outcome of a label that had a served prediction.

        Raises
        ------
        SnapshotError
            The version that a rollback names cannot be loaded; nothing was changed then.
        """
        if record.kind not in LABELS or record.target is None:
            self.apply_command(record)
            self._advance(record.seq, taught=False)
            return Applied()
        features = self.with_encoded(row_as_served(record), self._encoded_rows.pop(record.seq, None))
        outcome = self._measure(record, features)
        if learn:
            self.learn(features, record.target, record.experts, self._delay_of(record))
        self._advance(record.seq, taught=learn)
        return Applied(outcome)

    def apply_command(self, record: Record) -> None:
        """Carry out a record that is no label; ``snapshot`` is the learner's to carry out.

        Raises
        ------
        SnapshotError
            The version that a rollback names cannot be loaded.
        """
        self.pipeline[POOL].flush()  # within `batched`, the experts may be some labels behind
        if record.kind in ("rollback", "replay"):
            self._exchange_pipeline(record)
        elif record.kind == "refresh":
            self.replace_batch_model(base64.b64decode(record.payload["model"]), BOOSTED_RECENT)

    def skip(self, record: Record) -> None:
        """Go past a record without learning or doing anything."""
        self._advance(record.seq, taught=False)

    def _advance(self, seq: int, *, taught: bool) -> None:
        self.state.seq = seq
        if not taught:
            self.state.skipped.append(seq)
            # delays beyond that make no difference to an interval: see ConformalInterval
            del self.state.skipped[:-BOUNDS_KEPT]

    def _delay_of(self, record: Record) -> int:
        """How many labels were learned between a prediction and its label.

        Seqs count all records: those in between that taught nothing (``skipped``) are taken off.
        """
        skipped, plan_seq = self.state.skipped, record.plan_seq or 0
        return max(0, record.seq - 1 - plan_seq - (len(skipped) - bisect.bisect_right(skipped, plan_seq)))

    def _exchange_pipeline(self, record: Record) -> None:
        """Go on with another pipeline; a replayed one first learns what came while it was made."""
        pipeline = self._restore(record.payload["version"])  # may raise: before anything is changed
        learned_up_to = record.payload.get("learned", record.seq)
        missed = list(self._records_between(learned_up_to, record.seq)) if self._records_between else []
        self.pipeline, learned = pipeline, self.state.learned
        for label in missed:
            if label.kind in LABELS and label.target is not None:
                self.learn(row_as_served(label), label.target, label.experts, self._delay_of(label))
        self.state.learned = learned  # they were counted when they came

    def _measure(self, record: Record, features: dict[str, Any]) -> Outcome | None:
        """Measure the prediction as it was served, and tell the interval and the prequential errors."""
        outcome = self._outcomes.build(record)
        if outcome is not None:
            width = outcome.upper - outcome.lower
            residual = outcome.truth - outcome.prediction
            self.update_interval(
                features, record.experts, residual, delay=self._delay_of(record), width=width
            )
            self.state.prequential.update(outcome, record.experts)
        return outcome

    # Predicting and learning single rows

    def predict(self, features: dict[str, Any]) -> PredictionDetails:
        """The pipeline's prediction for a raw row, with what a server would keep of it."""
        encoder = self.pipeline[ENCODER]
        row = encoder.transform_one(features)
        prediction, outputs = self.pipeline[POOL].predict_with_outputs(
            self.pipeline[IMPUTER].transform_one(row)
        )
        return PredictionDetails(prediction, tuple(outputs.tolist()), encoder.context_of(row))

    def with_encoded(self, features: dict[str, Any], values: list[float] | None = None) -> dict[str, Any]:
        """A raw row that carries its encoded values, so that they are not worked out several times.

        Parameters
        ----------
        features
            The raw row.
        values
            Its encoded values, where they are known already.

        Returns
        -------
        dict
            The row with the values under a key that no column has.
        """
        return features | {ENCODED: self.pipeline[ENCODER].encode_one(features) if values is None else values}

    def learn(
        self, features: dict[str, Any], target: float, outputs: Sequence[float] = (), delay: int = 0
    ) -> None:
        """Teach the pipeline one label.

        Parameters
        ----------
        features
            The raw row.
        target
            The label, in target units.
        outputs
            The experts' outputs as they were served, where they were: they are what the pool's weights
            learn from.
        delay
            How many labels were learned between the serving and now.
        """
        if outputs:
            self.pipeline[POOL].set_served_outputs(outputs, delay)
        self.pipeline.learn_one(features, target)
        self.count_label(features)

    def count_label(self, features: dict[str, Any]) -> None:
        """Note that the label of a row has been learned."""
        self.state.learned += 1
        self.state.last = features

    def warm_up(self) -> None:
        """Learn a row on a copy, so that no label waits for kernels that have to be compiled or loaded."""
        pipeline, state = pickle.loads(pickle.dumps((self.pipeline, self.state)))  # noqa: S301 - our own bytes
        copy, target = Fold(pipeline, state, self._restore), pipeline[POOL].target_mean
        for _ in range(2):  # some parts begin with the second row
            details = copy.predict(state.probe)
            copy.update_interval(state.probe, details.outputs, residual=1.0, delay=0, width=1.0)
            copy.learn(state.probe, target, details.outputs)
        with copy.batched():  # learns by other kernels than rows alone
            for _ in range(2):
                copy.learn(state.probe, target, details.outputs)

    def replace_batch_model(self, model: bytes, *names: str) -> None:
        """Give batch experts a newly trained model.

        Parameters
        ----------
        model
            As :func:`online.model.train_boosted.train` gives it.
        *names
            The experts; those that the pool does not have are left out.
        """
        experts = self.pipeline[POOL].experts
        for name in names:
            if name in experts:
                experts[name].replace(model)

    # The interval

    def update_interval(
        self, features: dict[str, Any], outputs: Sequence[float], residual: float, *, delay: int, width: float
    ) -> None:
        """Tell the interval how far a prediction was off.

        Parameters
        ----------
        features
            The raw row.
        outputs
            The experts' outputs as served, in target units.
        residual
            The label less the prediction, in target units.
        delay
            How many labels were learned between the prediction and its label.
        width
            The width of the interval as served, in target units; 0 for none.
        """
        values = self.pipeline[ENCODER].encode_one(features)
        self.state.interval.update(values, self._disagreement(outputs), residual, delay, width)

    def interval_bounds(self, features: dict[str, Any], outputs: Sequence[float]) -> tuple[float, float]:
        """How far the interval extends below and above a prediction.

        Parameters
        ----------
        features
            The raw row.
        outputs
            The experts' outputs for it, in target units.

        Returns
        -------
        tuple of float
            Both distances, in target units.
        """
        return self.state.interval.get(
            self.pipeline[ENCODER].encode_one(features), self._disagreement(outputs)
        )

    def _disagreement(self, outputs: Sequence[float]) -> float:
        """How far the experts' outputs lie apart, in target units; 0 where some are missing."""
        weights = self.pipeline[POOL].absolute_weights()
        return disagreement_of_row(np.array(outputs), weights) if len(outputs) == len(weights) else 0.0


def row_as_served(record: Record) -> dict[str, Any]:
    """The row a label trains on: with its context as served, where it was."""
    return record.features if record.prediction is None else record.features | {CONTEXT: record.context}
