"""How large an error to expect of a row: the learner keeps it up to date, plans read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from online.context import Place, group_of, groups, groups_of, places
from online.schema import Schema

__all__ = ["Difficulty", "shares_of", "slot_places", "spread_of"]

Floats = npt.NDArray[np.float64]

SLOT_FADING, LEVEL_FADING = 0.02, 0.01
SLOT_SHARE, SPREAD_SHARE = 0.5, 0.2
FLOOR = 0.05  # of the general error: no slot's scale is less
LARGEST = 5000  # slots


class Difficulty:
    """The scale of a row's error, in target units.

    A mix of three: the faded mean absolute error of the row's slot, that of all rows, and the latter times
    how far the experts stand apart on this row compared to usually.

    Parameters
    ----------
    by
        Places of the columns that make a slot; none for one slot.
    cells
        The slots' errors to go on from, NaN where there is none.
    level, spread
        What to go on from: the error of all rows, and how far experts usually stand apart.
    """

    def __init__(
        self, by: Sequence[Place] = (), cells: Sequence[float] | None = None,
        level: float = 0.0, spread: float = 0.0,
    ) -> None:  # fmt: skip
        self.by = tuple(by)
        self.cells = [math.nan] * groups(by) if cells is None else list(cells)
        self.level = level
        self.spread = spread
        self.count = 0

    def get(self, values: Sequence[float], spread: float) -> float:
        """The scale of an encoded row whose experts' outputs have this weighted standard deviation."""
        group = group_of(self.by, values)
        slot = math.nan if group is None else self.cells[group]
        scale = self._mixed(self.level if slot != slot else slot, spread)
        return float(max(scale, FLOOR * self.level))

    def get_many(self, values: Floats, spreads: Floats) -> Floats:
        """The scales (n,) of encoded rows (n, columns), by the experts' spreads (n,)."""
        found = groups_of(self.by, values)
        slots = np.where(found >= 0, np.asarray(self.cells)[found], math.nan)
        scales: Floats = self._mixed(np.where(np.isnan(slots), self.level, slots), spreads)
        return np.maximum(scales, FLOOR * self.level)

    def _mixed(self, slot: Any, spread: Any) -> Any:
        apart = self.level * (spread / self.spread) if self.spread > 0.0 else self.level
        return SLOT_SHARE * slot + SPREAD_SHARE * apart + (1.0 - SLOT_SHARE - SPREAD_SHARE) * self.level

    def update(self, values: Sequence[float], spread: float, error: float) -> None:
        """Take in an absolute error, in target units."""
        self.count += 1
        share = max(LEVEL_FADING, 1.0 / self.count)
        self.level += share * (error - self.level)
        self.spread += share * (spread - self.spread)
        group = group_of(self.by, values)
        if group is not None:
            known = self.cells[group]
            self.cells[group] = error if known != known else known + SLOT_FADING * (error - known)


def slot_places(schema: Schema) -> list[Place]:
    """The places of the columns that make a slot: those of the finest grouping of the context."""
    known = places(schema.used)
    ways = [[known[name] for name in spec.by] for spec in schema.context]
    sizes = [int(np.prod([place.size for place in way])) for way in ways]
    fitting = [(size, way) for size, way in zip(sizes, ways, strict=True) if size <= LARGEST]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else []


def shares_of(weights: Floats) -> Floats:
    """Weights (k,) made positive and to sum to one."""
    total = np.abs(weights).sum()
    return np.abs(weights) / total if total > 0.0 else np.full(len(weights), 1.0 / max(1, len(weights)))


def spread_of(outputs: Floats, shares: Floats) -> Floats:
    """How far experts stand apart: the standard deviation of their outputs (n, k), by shares (k,); (n,)."""
    apart = outputs - (outputs @ shares)[:, None]
    spreads: Floats = np.sqrt((apart * apart) @ shares)
    return spreads
