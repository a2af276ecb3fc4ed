"""Context features: what the labels that have arrived say of rows like this one.

A context feature is a faded mean of the target over the rows that share some columns' values: by key
(``Source``), by slot (``Source`` and ``Start_Hour``), or over all rows. Slots go by the row's own columns
and the order in which labels arrive, not by a clock that rows may lack. Tables are dense and of fixed
size, so they never grow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from online.schema import ContextFeature, Feature

__all__ = ["ContextTable", "Place", "all_cells", "context_tables", "places"]

MISSING = math.nan
CYCLE_COLUMNS = 3  # position, sine and cosine


class Place(NamedTuple):
    """Where a column to group by stands in an encoded row: its first value, and how many groups it makes.

    A category has one value a group (``one_hot``); a position in a cycle is rounded down.
    """

    start: int
    size: int
    one_hot: bool


class ContextTable:
    """One context feature's faded means; a cell is NaN until a label has come for it.

    Parameters
    ----------
    by
        The places to group by.
    fading
        Share of a new label in its cell's mean, in (0, 1].
    cells
        The means to go on from; none yet by default.
    """

    def __init__(self, by: Sequence[Place], fading: float, cells: Sequence[float] | None = None) -> None:
        self._by = tuple(by)
        self._fading = fading
        self.cells = [MISSING] * math.prod(place.size for place in by) if cells is None else list(cells)

    def get(self, values: Sequence[float]) -> float:
        """The mean for an encoded row; NaN when there is none, or the row's own values are missing."""
        cell = self._cell(values)
        return MISSING if cell is None else self.cells[cell]

    def update(self, values: Sequence[float], target: float) -> None:
        """Take in the label of an encoded row."""
        cell = self._cell(values)
        if cell is not None:
            mean = self.cells[cell]
            self.cells[cell] = target if mean != mean else mean + self._fading * (target - mean)

    def _cell(self, values: Sequence[float]) -> int | None:
        cell = 0
        for place in self._by:
            group = one_hot_group(values, place) if place.one_hot else cycle_group(values, place)
            if group is None:
                return None
            cell = cell * place.size + group
        return cell


def one_hot_group(values: Sequence[float], place: Place) -> int | None:
    """Which category is on; None for an unknown or missing one."""
    for group in range(place.size):
        if values[place.start + group] == 1.0:
            return group
    return None


def cycle_group(values: Sequence[float], place: Place) -> int | None:
    """A position in a cycle, rounded down; None when it is missing."""
    position = values[place.start]
    return None if position != position else int(position) % place.size


def places(features: Sequence[Feature]) -> dict[str, Place]:
    """What rows can be grouped by, by name: categories, cyclic features, and ``<time feature>:<part>``."""
    found: dict[str, Place] = {}
    start = 0
    for feature in features:
        for name, size in feature.groups.items():
            found[name] = Place(start, size, feature.kind == "category")
            start += size if feature.kind == "category" else CYCLE_COLUMNS
        start += feature.kind == "numeric"
    return found


def context_tables(
    features: Sequence[Feature], context: Sequence[ContextFeature], cells: Sequence[float] | None = None
) -> list[ContextTable]:
    """A stream's tables, from all their cells one after the other when given."""
    known = places(features)
    tables = [ContextTable([known[name] for name in spec.by], spec.fading) for spec in context]
    taken = 0
    for table in tables:
        if cells is not None:
            table.cells = list(cells[taken : taken + len(table.cells)])
            taken += len(table.cells)
    return tables


def all_cells(tables: Sequence[ContextTable]) -> list[float]:
    """All tables' cells one after the other."""
    return [cell for table in tables for cell in table.cells]
