"""The scoring plan: everything a prediction needs, in immutable flat arrays, without River or pickle.

What the arrays are, and how a row is scored from them, is said in :mod:`online.scoring.kernels.plan_arrays`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from online.core.errors import PlanError, SchemaError
from online.core.home import write_atomically
from online.core.jit import Array
from online.core.schema import Schema
from online.features.batch_encoder import BatchEncoder, EncodingReport
from online.features.context import context_tables
from online.features.error_scale import ErrorScale, disagreement_of, error_scale_columns, normalized_weights
from online.features.value_encoder import Encoder
from online.scoring import plan_file
from online.scoring.kernels.plan_arrays import ArrayTable
from online.scoring.kernels.quickscorer import build_bitvectors
from online.scoring.kernels.score_rows import ScoreKernel, score_kernel
from online.scoring.plan_checks import checked_arrays
from online.scoring.scratch_buffer import ScratchBuffer

__all__ = ["FEW", "IntervalFactors", "PlanInfo", "Score", "ScoringPlan"]

FEW = 32  # rows that are better scored without arrays


class IntervalFactors(msgspec.Struct, frozen=True):
    """How far intervals reach: ``below`` and ``above`` times the row's error scale.

    ``level`` and ``disagreement`` are those of :class:`~online.features.error_scale.ErrorScale`, in target
    units. Files have the latter as ``spread``, by its name of format 2.
    """

    below: float = 0.0
    above: float = 0.0
    level: float = 0.0
    disagreement: float = msgspec.field(default=0.0, name="spread")


class PlanInfo(msgspec.Struct, frozen=True):
    """What a plan says of itself.

    ``version`` is the newest snapshot of its lineage, ``seq`` the last journal record learned. Experts are
    clipped to [``low``, ``high``], in target units; one that is not finite gives ``fallback``. Files have
    ``interval`` as ``reach``, by its name of format 2.
    """

    schema: Schema
    version: int
    seq: int
    experts: tuple[str, ...]
    low: float
    high: float
    fallback: float
    river: str
    interval: IntervalFactors = msgspec.field(name="reach")


class Score(NamedTuple):
    """A prediction, the experts' outputs behind it, and how much they disagree: finite, in target units."""

    prediction: float
    experts: tuple[float, ...]
    disagreement: float


class ScoringPlan:
    """A compiled pipeline. Immutable: any number of threads may score at once.

    What scoring needs beside the arrays (the kernel, the tables for QuickScorer, the encoder) is made by
    :meth:`prepare`, or else when a row is scored first: the learner publishes plans that it never scores by.

    Parameters
    ----------
    info
        What the plan is.
    arrays
        The arrays that :data:`online.scoring.kernels.plan_arrays.STORED` describes.

    Raises
    ------
    PlanError
        An array is missing, or they do not fit together; it is named.
    """

    def __init__(self, info: PlanInfo, arrays: Mapping[str, Array]) -> None:
        self.info = info
        self.arrays = checked_arrays(arrays, len(info.experts))
        self.columns = len(self.arrays["impute"])
        self.fields = frozenset(feature.name for feature in info.schema.features)
        self.plain = frozenset(("id", *(feature.name for feature in info.schema.used)))
        self.context_names = tuple(spec.name for spec in info.schema.context)
        self._buffers: list[ScratchBuffer] = []  # those that lie idle

    def prepare(self) -> ScoringPlan:
        """Make now what scoring needs, so that the first request does not wait for it; returns the plan."""
        self._buffers.append(self._buffer())
        _ = self._kernel, self.schema_hash, self.encoder, self._column_encoder, self._context_tables
        _ = self._error_scale
        return self

    # Each is made once; when two threads meet here both make it, and one of the two equal ones stays

    @functools.cached_property
    def _kernel(self) -> ScoreKernel:
        return score_kernel()

    @functools.cached_property
    def _shares(self) -> Array:
        return normalized_weights(self.arrays["expert_weight"])

    @functools.cached_property
    def _table(self) -> ArrayTable:
        limits = np.array([self.info.low, self.info.high, self.info.fallback])
        built = {"limits": limits, "expert_share": self._shares}
        return ArrayTable.of(self.arrays | built | build_bitvectors(self.arrays))

    @functools.cached_property
    def schema_hash(self) -> str:
        """The hash of the schema that rows are encoded by."""
        return self.info.schema.hash

    @functools.cached_property
    def encoder(self) -> Encoder:
        """What encodes raw rows, one by one."""
        return Encoder.of(self.info.schema)

    @functools.cached_property
    def _column_encoder(self) -> BatchEncoder:
        return BatchEncoder.of(self.info.schema)

    @functools.cached_property
    def _context_tables(self) -> Sequence[Any]:
        schema = self.info.schema
        return context_tables(schema.used, schema.context, self.arrays["context"].tolist())

    @functools.cached_property
    def _error_scale(self) -> ErrorScale:
        factors, cells = self.info.interval, self.arrays["group_error"].tolist()
        columns = error_scale_columns(self.info.schema)
        return ErrorScale(columns, cells, factors.level, factors.disagreement)

    @property
    def weights(self) -> tuple[float, ...]:
        """What each expert weighs in the prediction, without unit."""
        return tuple(self.arrays["expert_weight"].tolist())

    def score(self, rows: Array) -> tuple[Array, Array]:
        """Score encoded rows.

        Parameters
        ----------
        rows
            Encoded values, then context features: float64 (n, columns), NaN where one is to be imputed.

        Returns
        -------
        tuple
            Predictions (n,) and the experts' outputs (n, experts), in target units, all finite.
        """
        rows = np.ascontiguousarray(rows, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.columns:
            raise ValueError(f"rows must be of shape (n, {self.columns}), not {rows.shape}")
        buffer = self._buffer()
        out = np.empty((len(rows), buffer.outputs))
        call = buffer.call_of(rows, len(rows), out)
        self._kernel.nogil(call.ctypes.data)
        self._buffers.append(buffer)
        return out[:, 0], out[:, 1:-1]

    def score_few(self, rows: Sequence[Sequence[float]]) -> list[Score]:
        """As :meth:`score`, at most ``FEW`` rows, without arrays, and keeping the interpreter's lock."""
        buffer = self._buffer()
        buffer.write_rows(rows)
        self._kernel.with_gil(buffer.call_address)
        scores = [Score(out[0], out[1:-1], out[-1]) for out in buffer.read_rows(len(rows))]
        self._buffers.append(buffer)
        return scores

    def score_one(self, values: Sequence[float]) -> Score:
        """Score one encoded row: its values, then its context features, NaN where one is to be imputed."""
        buffer = self._buffer()
        buffer.write(values)
        self._kernel.with_gil(buffer.call_address)
        out = buffer.read()
        self._buffers.append(buffer)
        return Score(out[0], out[1:-1], out[-1])

    def intervals(self, values: Array, predictions: Array, outputs: Array) -> tuple[Array, Array]:
        """The intervals around predictions.

        Parameters
        ----------
        values
            The rows' encoded values, (n, columns) at least.
        predictions
            (n,), in target units.
        outputs
            The experts' outputs behind them, (n, experts), in target units.

        Returns
        -------
        tuple
            Lower and upper ends (n,), in target units.
        """
        scales = self._error_scale.get_many(values, disagreement_of(outputs, self._shares))
        factors = self.info.interval
        return predictions - factors.below * scales, predictions + factors.above * scales

    def interval(self, values: Sequence[float], score: Score) -> tuple[float, float]:
        """The interval around one row's prediction, as :meth:`intervals` has it.

        Parameters
        ----------
        values
            The row's encoded values.
        score
            What it scored.

        Returns
        -------
        tuple
            Lower and upper end, in target units.
        """
        scale, factors = self._error_scale.get(values, score.disagreement), self.info.interval
        return score.prediction - factors.below * scale, score.prediction + factors.above * scale

    def context(self, values: Sequence[float]) -> list[float]:
        """The context features of an encoded row; NaN where there is none yet."""
        return [table.get(values) for table in self._context_tables]

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Array, EncodingReport]:
        """Raw rows as :meth:`score` takes them, (n, columns), and what was imputed or drifted in each."""
        matrix = np.empty((len(rows), self.columns))
        report = self._column_encoder.encode(rows, matrix[:, : len(self.encoder.columns)])
        self._add_context(matrix)
        return matrix, report

    def _add_context(self, matrix: Array) -> None:
        """Write the context features of encoded rows beside their values."""
        for column, table in enumerate(self._context_tables, start=len(self.encoder.columns)):
            matrix[:, column] = table.get_many(matrix)

    def score_row(self, row: Mapping[str, Any]) -> float:
        """The prediction for one raw row."""
        values = self.encoder.encode(row).values
        return self.score_one(values + self.context(values)).prediction

    def score_values(self, values: Array) -> list[float]:
        """The predictions for rows' encoded values (n, columns), without their context features."""
        if len(values) <= FEW:
            few: list[list[float]] = values.tolist()
            return [score.prediction for score in self.score_few([row + self.context(row) for row in few])]
        matrix = np.empty((len(values), self.columns))
        matrix[:, : len(self.encoder.columns)] = values
        self._add_context(matrix)
        predictions: list[float] = self.score(matrix)[0].tolist()
        return predictions

    def dumps(self) -> bytes:
        """The plan as bytes."""
        return plan_file.dumps(msgspec.json.encode(self.info), self.arrays)

    def save(self, path: Path) -> None:
        """Publish the plan: readers see the old one or all of this one. The old one stays beside it."""
        plan_file.keep_previous(path)
        write_atomically(path, self.dumps())

    @classmethod
    def load(cls, path: Path) -> ScoringPlan:
        """Read a published plan, of this format or the one before.

        Raises
        ------
        PlanError
            The file is missing, torn, damaged, of another version or no plan; it is named.
        """
        content = plan_file.read(path)
        try:
            return cls(msgspec.json.decode(content.info, type=PlanInfo), content.arrays_now())
        except (msgspec.MsgspecError, SchemaError, PlanError, LookupError, ValueError) as exc:
            raise PlanError(f"{path} is no whole plan: {exc}") from exc

    def _buffer(self) -> ScratchBuffer:
        """Space for one caller to work in: one that lies idle, or a new one."""
        try:
            return self._buffers.pop()
        except IndexError:
            return ScratchBuffer(self._table, FEW)
