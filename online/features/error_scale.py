"""How large an error to expect of a row: the learner keeps it up to date, plans read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from online.core.jit import kept
from online.core.schema import Schema
from online.features.context import Place, group_of, groups, groups_of, places

__all__ = ["Difficulty", "shares_of", "slot_places", "spread_of", "spread_of_row"]

Floats = npt.NDArray[np.float64]

SLOT_FADING, LEVEL_FADING, STEADY_FADING = 0.02, 0.01, 0.002
SLOT_SHARE, SPREAD_SHARE = 0.5, 0.4
FLOOR = 0.8  # of the steady error: so far the recent one may fall while labels are late
LARGEST_TIMES = 20.0  # an error beyond so many times the general one counts as that
LARGEST = 5000  # slots
SHORT = 100  # positions of a cycle that comes round often enough for a slot's errors to be known


class Difficulty:
    """The scale of a row's error, in target units.

    The faded mean absolute error of all rows, times a mix of three: one, how much larger the errors of the
    row's slot are, and how much further than usual the experts stand apart on this row. While labels are late
    a quiet spell may be over before anything is known of it, so that mean is kept from falling much below one
    that fades more slowly.

    Parameters
    ----------
    by
        Places of the columns that make a slot; none for one slot.
    cells
        The slots' errors over those of all rows to go on from, NaN where there is none.
    level, spread
        What to go on from: the error of all rows, and how far experts usually stand apart.
    """

    def __init__(
        self, by: Sequence[Place] = (), cells: Sequence[float] | None = None,
        level: float = 0.0, spread: float = 0.0,
    ) -> None:  # fmt: skip
        self.by = tuple(by)
        self.cells = [math.nan] * groups(by) if cells is None else list(cells)
        self.level = self.recent = self.steady = level
        self.spread = spread
        self.count = 0

    def get(self, values: Sequence[float], spread: float) -> float:
        """The scale of an encoded row whose experts' outputs stand so far apart."""
        group = group_of(self.by, values)
        slot = math.nan if group is None else self.cells[group]
        return float(self._mixed(1.0 if slot != slot else slot, spread))

    def get_many(self, values: Floats, spreads: Floats) -> Floats:
        """The scales (n,) of encoded rows (n, columns), by the experts' spreads (n,)."""
        found = groups_of(self.by, values)
        slots = np.where(found >= 0, np.asarray(self.cells)[found], math.nan)
        scales: Floats = self._mixed(np.where(np.isnan(slots), 1.0, slots), spreads)
        return scales

    def _mixed(self, slot: Any, spread: Any) -> Any:
        apart = spread / self.spread if self.spread > 0.0 else 1.0
        return self.level * (SLOT_SHARE * slot + SPREAD_SHARE * apart + (1.0 - SLOT_SHARE - SPREAD_SHARE))

    def update(self, values: Sequence[float], spread: float, error: float, late: float = 0.0) -> None:
        """Take in an absolute error, in target units, of a label that is late by a share in [0, 1)."""
        group, recent = group_of(self.by, values), self.recent
        if group is not None and recent > 0.0:
            known = 1.0 if math.isnan(self.cells[group]) else self.cells[group]
            self.cells[group] = known + SLOT_FADING * (min(error / recent, LARGEST_TIMES) - known)
        self.count += 1
        share = max(LEVEL_FADING, 1.0 / self.count)
        self.recent += share * (error - self.recent)
        self.spread += share * (spread - self.spread)
        self.steady += max(STEADY_FADING, 1.0 / self.count) * (error - self.steady)
        self.level = max(self.recent, FLOOR * late * self.steady)


def slot_places(schema: Schema) -> list[Place]:
    """The places of the columns that make a slot: the finest grouping of the context by what comes often."""
    known = places(schema.used)
    ways = [[known[name] for name in spec.by] for spec in schema.context]
    often = [way for way in ways if all(place.one_hot or place.size <= SHORT for place in way)]
    return max((way for way in often if groups(way) <= LARGEST), key=groups, default=[])


def shares_of(weights: Floats) -> Floats:
    """Weights (k,) made positive and to sum to one."""
    total = np.abs(weights).sum()
    return np.abs(weights) / total if total > 0.0 else np.full(len(weights), 1.0 / max(1, len(weights)))


def spread_of(outputs: Floats, shares: Floats) -> Floats:
    """How far experts stand apart (n,), by their outputs (n, k) and shares (k,).

    Distances from the mean by shares; of these half their mean by shares, which follows the experts that
    count, half their median, which no single one that errs can move.
    """
    apart = np.abs(outputs - (outputs @ shares)[:, None])
    k = len(shares)
    middle = np.partition(apart, k // 2, axis=1)[:, k // 2] if k else np.zeros(len(apart))
    spreads: Floats = 0.5 * (apart @ shares + middle)
    return spreads


@kept
def spread_of_row(outputs: Floats, shares: Floats) -> float:
    """As :func:`spread_of`, of one row's outputs (k,)."""
    mean = 0.0
    for j in range(len(outputs)):
        mean += outputs[j] * shares[j]
    total = 0.0
    for j in range(len(outputs)):
        total += abs(outputs[j] - mean) * shares[j]
    return float(0.5 * (total + middle_of(outputs, mean)))


@kept
def middle_of(outputs: Floats, mean: float) -> float:
    """The median of the distances of outputs (k,) from a mean, the upper one where there are two."""
    for j in range(len(outputs)):
        apart, rank = abs(outputs[j] - mean), 0
        for i in range(len(outputs)):
            other = abs(outputs[i] - mean)
            rank += other < apart or (other == apart and i < j)
        if rank == len(outputs) // 2:
            return float(apart)
    return 0.0
