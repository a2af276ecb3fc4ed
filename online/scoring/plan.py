"""The scoring plan: everything a prediction needs, in immutable flat arrays, without River or pickle.

What the arrays are, and how a row is scored from them, is said in :mod:`online.scoring.kernels.plan_arrays`;
beside those a plan has ``context``, the cells of all context tables one after the other, ``difficulty``, the
cells of the table of slots' errors, and ``expert_weight`` (k,), what each expert weighs in the prediction.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from online.core.errors import PlanError, SchemaError
from online.core.home import write_atomically
from online.core.jit import Array
from online.core.schema import Schema
from online.features.column_encoder import ColumnEncoder, EncodingReport
from online.features.context import context_tables
from online.features.encoder import Encoder
from online.features.error_scale import ErrorScale, disagreement_of, error_scale_columns, normalized_weights
from online.scoring import plan_file
from online.scoring.kernels.plan_arrays import (
    CHILD_BITS,
    FEATURE_BIT,
    LINE,
    PLAN_ARRAYS,
    handle_of,
    scratch_size,
)
from online.scoring.kernels.quickscorer import cuts_of
from online.scoring.kernels.score_rows import score_kernel

__all__ = ["FEW", "PlanInfo", "Reach", "Score", "ScoringPlan"]

FEW = 32  # rows that are better scored without arrays
CALL_ROWS = 2  # where a kernel's call says how many rows there are

STORED = PLAN_ARRAYS | {
    "context": np.float64, "difficulty": np.float64, "expert_weight": np.float64,
}  # fmt: skip


class Reach(msgspec.Struct, frozen=True):
    """How far intervals reach: ``below`` and ``above`` times the row's difficulty.

    ``level`` and ``spread`` are those of :class:`~online.features.error_scale.ErrorScale`, in target units.
    """

    below: float = 0.0
    above: float = 0.0
    level: float = 0.0
    spread: float = 0.0


class PlanInfo(msgspec.Struct, frozen=True):
    """What a plan says of itself.

    ``version`` is the newest snapshot of its lineage, ``seq`` the last journal record learned. Experts are
    clipped to [``low``, ``high``], in target units; one that is not finite gives ``fallback``.
    """

    schema: Schema
    version: int
    seq: int
    experts: tuple[str, ...]
    low: float
    high: float
    fallback: float
    reach: Reach
    river: str


class Score(NamedTuple):
    """A prediction, the experts' outputs behind it, and how far apart these are: finite, in target units."""

    prediction: float
    experts: tuple[float, ...]
    spread: float


class ScoringPlan:
    """A compiled pipeline. Immutable: any number of threads may score at once.

    Parameters
    ----------
    info
        What the plan is.
    arrays
        The arrays named in this module's docstring.

    Raises
    ------
    PlanError
        An array is missing, or they do not fit together.
    """

    def __init__(self, info: PlanInfo, arrays: Mapping[str, Array]) -> None:
        self.info = info
        self.arrays = checked(info, arrays)
        limits = np.array([info.low, info.high, info.fallback])
        self._shares = normalized_weights(self.arrays["expert_weight"])
        self._kept = {"limits": limits, "expert_share": self._shares} | cuts_of(self.arrays)
        self._handle = handle_of(self.arrays | self._kept)
        self.encoder = Encoder.of(info.schema)
        self._many = ColumnEncoder.of(info.schema)
        self._context = context_tables(info.schema.used, info.schema.context, self.arrays["context"].tolist())
        reach, cells = info.reach, self.arrays["difficulty"].tolist()
        self._difficulty = ErrorScale(error_scale_columns(info.schema), cells, reach.level, reach.spread)
        self.columns = len(self.arrays["impute"])
        self.fields = frozenset(feature.name for feature in info.schema.features)
        self.plain = frozenset(("id", *(feature.name for feature in info.schema.used)))
        self.context_names = tuple(spec.name for spec in info.schema.context)
        self._kernel = score_kernel()
        self._desks: list[Desk] = []

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
        out = np.empty((len(rows), outputs_of(self.info)))
        desk = self._desk()
        call = call_of(self._handle, rows, len(rows), out, desk.work)
        self._kernel.nogil(call.ctypes.data)
        self._desks.append(desk)
        return out[:, 0], out[:, 1:-1]

    def score_few(self, rows: Sequence[Sequence[float]]) -> list[Score]:
        """As :meth:`score`, at most ``FEW`` rows, without arrays, and keeping the interpreter's lock."""
        desk = self._desk()
        for place, values in enumerate(rows):
            desk.write(desk.rows, place * desk.row_bytes, *values)
        desk.call[CALL_ROWS] = len(rows)
        self._kernel.with_gil(desk.call_at)
        outputs = desk.read_each(desk.out[: len(rows) * desk.output_bytes])
        scores = [Score(out[0], out[1:-1], out[-1]) for out in outputs]
        desk.call[CALL_ROWS] = 1
        self._desks.append(desk)
        return scores

    def score_one(self, values: Sequence[float]) -> Score:
        """Score one encoded row: its values, then its context features, NaN where one is to be imputed."""
        desk = self._desk()
        desk.write(desk.rows, 0, *values)
        self._kernel.with_gil(desk.call_at)
        out = desk.read(desk.out)
        self._desks.append(desk)
        return Score(out[0], out[1:-1], out[-1])

    def intervals(self, values: Array, predictions: Array, outputs: Array) -> tuple[Array, Array]:
        """The intervals around predictions (n,): lower and upper ends (n,), in target units.

        By the rows' encoded values (n, columns) and the experts' outputs (n, experts).
        """
        scales = self._difficulty.get_many(values, disagreement_of(outputs, self._shares))
        return predictions - self.info.reach.below * scales, predictions + self.info.reach.above * scales

    def interval(self, values: Sequence[float], score: Score) -> tuple[float, float]:
        """As :meth:`intervals`, around one row's prediction."""
        scale, reach = self._difficulty.get(values, score.spread), self.info.reach
        return score.prediction - reach.below * scale, score.prediction + reach.above * scale

    def context(self, values: Sequence[float]) -> list[float]:
        """The context features of an encoded row; NaN where there is none yet."""
        return [table.get(values) for table in self._context]

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Array, EncodingReport]:
        """Raw rows as :meth:`score` takes them, (n, columns), and what is to be told of each."""
        matrix = np.empty((len(rows), self.columns))
        told = self._many.encode(rows, matrix[:, : len(self.encoder.columns)])
        self._add_context(matrix)
        return matrix, told

    def _add_context(self, matrix: Array) -> None:
        """Write the context features of encoded rows beside their values."""
        for place, table in enumerate(self._context, start=len(self.encoder.columns)):
            matrix[:, place] = table.get_many(matrix)

    def score_row(self, row: Mapping[str, Any]) -> float:
        """The prediction for one raw row."""
        values = self.encoder.encode(row).values
        return self.score_one(values + self.context(values)).prediction

    def score_values(self, values: Array) -> list[float]:
        """The predictions for rows' encoded values (n, columns), without their context features."""
        if len(values) <= FEW:
            few: list[list[float]] = values.tolist()
            return [score.prediction for score in self.score_few([one + self.context(one) for one in few])]
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
        """Read a published plan.

        Raises
        ------
        PlanError
            The file is missing, torn, damaged, of another version or no plan; it is named.
        """
        content = plan_file.read(path)
        try:
            return cls(msgspec.json.decode(content.info, type=PlanInfo), content.arrays)
        except (msgspec.MsgspecError, SchemaError, PlanError) as exc:
            raise PlanError(f"{path} is no whole plan: {exc}") from exc

    def _desk(self) -> Desk:
        """Space for one caller to work in: one that lies idle, or a new one."""
        try:
            return self._desks.pop()
        except IndexError:
            return Desk(self._handle, self.columns, outputs_of(self.info))


class Desk:
    """Where one caller at a time puts a few rows, has them scored and finds the outputs.

    A call on it is of one row, unless it says otherwise.
    """

    def __init__(self, handle: Array, columns: int, outputs: int) -> None:
        rows, out = np.zeros(FEW * columns), np.zeros(FEW * outputs)
        self.work = np.zeros(scratch_size(handle))
        self.call = call_of(handle, rows, 1, out, self.work)
        self._kept, self.call_at = handle, self.call.ctypes.data
        self.rows, self.out = rows.data, out.view(np.uint8).data
        row, output = struct.Struct(f"{columns}d"), struct.Struct(f"{outputs}d")
        self.write, self.row_bytes = row.pack_into, row.size
        self.read, self.read_each, self.output_bytes = output.unpack_from, output.iter_unpack, output.size


def call_of(handle: Array, rows: Array, n: int, out: Array, work: Array) -> Array:
    """What the kernel is called with; the arrays must outlive the call."""
    return np.array([handle.ctypes.data, rows.ctypes.data, n, out.ctypes.data, work.ctypes.data], np.int64)


def outputs_of(info: PlanInfo) -> int:
    """How many numbers a row's score has: the prediction, the experts' outputs, their spread."""
    return 2 + len(info.experts)


def checked(info: PlanInfo, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays as kernels take them, read-only. Raises PlanError when one is missing or points nowhere."""
    try:
        a: dict[str, Array] = {
            name: np.ascontiguousarray(arrays[name], dtype) for name, dtype in STORED.items()
        }
        fits = fit_together(a, len(info.experts))
    except (LookupError, ValueError, TypeError) as exc:
        raise PlanError(f"the plan's arrays are not whole: {exc!r}") from exc
    if not fits:
        raise PlanError("the plan's arrays do not fit together")
    for array in a.values():
        array.setflags(write=False)
    return a


def fit_together(a: Mapping[str, Array], experts: int) -> bool:
    """Whether every index into another array lies in it: kernels do not look."""
    columns, (nodes, _), way = len(a["impute"]), a["node"].shape, a["node"][:, 1]
    inner, below = way >= 0, way & CHILD_BITS
    heads, line = len(a["head_bias"]), a["leaf"][:, LINE]
    reads = np.diff(a["expert_read"])
    return bool(
        a["expert_tree"][-1] == len(a["tree_root"]) == len(a["tree_weight"])
        and a["expert_read"][-1] == len(a["read_place"]) == len(a["read_low"]) == len(a["read_high"])
        and len(a["read_fill"]) == len(a["read_place"]) and (reads >= 0).all()
        and (np.diff(a["expert_tree"]) >= 0).all() and a["expert_tree"][0] == a["expert_read"][0] == 0
        and len(a["expert_tree"]) == len(a["expert_read"]) == experts + 1
        and len(a["expert_reach"]) == len(a["expert_beside"]) == experts
        and a["head_weight"].shape == (heads, experts)
        and len(a["head_margin"]) == len(a["head_share"]) == heads
        and len(a["mean"]) == len(a["scale"]) == columns and len(a["node_alternate"]) == nodes
        and within(way[inner] >> FEATURE_BIT, 2 * columns) and within(a["read_place"], 2 * columns)
        and within(below[inner], nodes - 1) and within(below[~inner], len(a["leaf"]))
        and within(a["tree_root"], nodes) and within(a["node_alternate"] + 1, nodes + 1)
        and a["leaf"].shape[1] == LINE + 1 and within(line + 1, len(a["weight"]) + 2)
    )  # fmt: skip


def within(places: Array, size: int) -> bool:
    """Whether all places are in [0, size)."""
    return not places.size or bool(places.min() >= 0 and places.max() < size)
