"""How large an error to expect of a row: the learner keeps it up to date, plans read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from online.core.jit import kernel, njit_cached
from online.core.schema import Schema
from online.features.context import GroupColumn, group_columns, group_count, group_of, groups_of
from online.features.matrix import MISSING

__all__ = [
    "ErrorScale",
    "disagreement_of",
    "disagreement_of_row",
    "error_scale_columns",
    "normalized_weights",
]

Floats = npt.NDArray[np.float64]

# shares of a new error in the faded means: of a group's errors, of all rows' errors, of the steady mean
GROUP_FADING, LEVEL_FADING, STEADY_FADING = 0.02, 0.01, 0.002
GROUP_SHARE, DISAGREEMENT_SHARE = 0.5, 0.4  # in the mix that makes the scale; the rest is constant
STEADY_FLOOR = 0.8  # of the steady error: so far the recent one may fall while labels are late
LARGEST_RATIO = 20.0  # an error beyond so many times the general one counts as that
MOST_GROUPS = 5000
# a cycle of at most so many positions comes round often enough to know the errors of each
FREQUENT_POSITIONS = 100


class ErrorScale:
    """The scale of a row's error, in target units.

    The faded mean absolute error of all rows, times a mix of three: one, how much larger the errors of the
    row's group are, and how much more than usual the experts disagree on this row. While labels are late
    a quiet spell may be over before anything is known of it, so that mean is kept from falling much below one
    that fades more slowly.

    Parameters
    ----------
    by
        The columns to group by; none for one group.
    cells
        The groups' errors over those of all rows to go on from, NaN where there is none.
    level, disagreement
        What to go on from: the error of all rows, and how much experts usually disagree, in target units.
    """

    def __init__(
        self,
        by: Sequence[GroupColumn] = (),
        cells: Sequence[float] | None = None,
        level: float = 0.0,
        disagreement: float = 0.0,
    ) -> None:
        self.by = tuple(by)
        self.cells = [MISSING] * group_count(by) if cells is None else list(cells)
        self.level = self.recent = self.steady = level
        self.disagreement = disagreement
        self.count = 0

    def get(self, values: Sequence[float], disagreement: float) -> float:
        """The scale of one row.

        Parameters
        ----------
        values
            The encoded row, (columns,).
        disagreement
            How much the experts disagree on it, in target units.

        Returns
        -------
        float
            In target units; 0 before any error.
        """
        group_id = group_of(self.by, values)
        ratio = MISSING if group_id is None else self.cells[group_id]
        return float(self._mixed(1.0 if ratio != ratio else ratio, disagreement))

    def get_many(self, values: Floats, disagreements: Floats) -> Floats:
        """The scales of many rows.

        Parameters
        ----------
        values
            The encoded rows, (n, columns).
        disagreements
            How much the experts disagree on each, (n,), in target units.

        Returns
        -------
        array
            (n,), in target units.
        """
        group_ids = groups_of(self.by, values)
        ratios = np.where(group_ids >= 0, np.asarray(self.cells)[group_ids], MISSING)
        scales: Floats = self._mixed(np.where(np.isnan(ratios), 1.0, ratios), disagreements)
        return scales

    def _mixed(self, ratio: Any, disagreement: Any) -> Any:
        relative = disagreement / self.disagreement if self.disagreement > 0.0 else 1.0
        constant = 1.0 - GROUP_SHARE - DISAGREEMENT_SHARE
        return self.level * (GROUP_SHARE * ratio + DISAGREEMENT_SHARE * relative + constant)

    def update(
        self, values: Sequence[float], disagreement: float, error: float, lateness: float = 0.0
    ) -> None:
        """Learn an absolute error.

        Parameters
        ----------
        values
            The encoded row, (columns,).
        disagreement
            How much the experts disagreed on it as it was served, in target units.
        error
            The absolute error of the prediction as served, in target units.
        lateness
            How late labels usually are, in [0, 1).
        """
        group_id, recent = group_of(self.by, values), self.recent
        if group_id is not None and recent > 0.0:
            known = 1.0 if math.isnan(self.cells[group_id]) else self.cells[group_id]
            self.cells[group_id] = known + GROUP_FADING * (min(error / recent, LARGEST_RATIO) - known)
        self.count += 1
        share = max(LEVEL_FADING, 1.0 / self.count)
        self.recent += share * (error - self.recent)
        self.disagreement += share * (disagreement - self.disagreement)
        self.steady += max(STEADY_FADING, 1.0 / self.count) * (error - self.steady)
        self.level = max(self.recent, STEADY_FLOOR * lateness * self.steady)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # snapshots of format 1 have it by this name
        if "spread" in state:
            state["disagreement"] = state.pop("spread")
        self.__dict__.update(state)


def error_scale_columns(schema: Schema) -> list[GroupColumn]:
    """The columns to group errors by: the finest grouping of the context by what comes often."""
    columns = group_columns(schema.used)
    groupings = [[columns[name] for name in spec.by] for spec in schema.context]
    frequent = [
        by for by in groupings if all(column.one_hot or column.size <= FREQUENT_POSITIONS for column in by)
    ]
    return max((by for by in frequent if group_count(by) <= MOST_GROUPS), key=group_count, default=[])


def normalized_weights(weights: Floats) -> Floats:
    """Weights (k,) made positive and to sum to one; all alike where they are all zero."""
    total = np.abs(weights).sum()
    return np.abs(weights) / total if total > 0.0 else np.full(len(weights), 1.0 / max(1, len(weights)))


def disagreement_of(outputs: Floats, weights: Floats) -> Floats:
    """How much experts disagree on each of many rows.

    Half the weighted mean and half the median of their distances from the weighted mean. The first follows
    the experts that count, the second no single one that errs can move.

    Parameters
    ----------
    outputs
        The experts' outputs, (n, k), in target units.
    weights
        The experts' weights, (k,), positive and one in sum.

    Returns
    -------
    array
        (n,), in target units.
    """
    distances = np.abs(outputs - (outputs @ weights)[:, None])
    k = len(weights)
    median = np.partition(distances, k // 2, axis=1)[:, k // 2] if k else np.zeros(len(distances))
    disagreements: Floats = 0.5 * (distances @ weights + median)
    return disagreements


# Kernels: the disagreement of one row's experts, as above. The learner needs one a label; NumPy's
# calls would cost far more than the arithmetic on a dozen numbers.
#   outputs: (k,) float64, the experts' outputs; weights: (k,) float64, one in sum.


@kernel
def row_disagreement(outputs: Floats, weights: Floats) -> float:
    """As :func:`disagreement_of`, of one row, for kernels: the plan's asks for every row.

    Parameters
    ----------
    outputs
        The experts' outputs, (k,), in target units.
    weights
        Their weights, (k,), positive and one in sum.

    Returns
    -------
    float
        In target units.
    """
    mean = 0.0
    for j in range(len(outputs)):
        mean += outputs[j] * weights[j]
    total = 0.0
    for j in range(len(outputs)):
        total += abs(outputs[j] - mean) * weights[j]
    return float(0.5 * (total + median_distance(outputs, mean)))


@njit_cached
def disagreement_of_row(outputs: Floats, weights: Floats) -> float:
    """As :func:`disagreement_of`, of one row, for Python.

    Parameters
    ----------
    outputs
        The experts' outputs, (k,), in target units.
    weights
        Their weights, (k,), positive and one in sum.

    Returns
    -------
    float
        In target units.
    """
    return row_disagreement(outputs, weights)


@kernel
def median_distance(outputs: Floats, mean: float) -> float:
    """The median of the distances of outputs (k,) from a mean, the upper one where there are two.

    By rank, which needs no copy to sort: k is a dozen.
    """
    for j in range(len(outputs)):
        distance, rank = abs(outputs[j] - mean), 0
        for i in range(len(outputs)):
            other = abs(outputs[i] - mean)
            rank += other < distance or (other == distance and i < j)
        if rank == len(outputs) // 2:
            return float(distance)
    return 0.0
