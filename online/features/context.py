"""Context features: what the labels that have arrived say of rows like this one.

Rows are grouped by the values of some columns: by key (``Source``), by slot (``Source`` and ``Start_Hour``),
or all together. Slots go by the row's own columns and the order in which labels arrive, not by a clock that
rows may lack. Whatever a feature's kind (:mod:`online.features.context_memory` has them), between two labels
it has one value a group, so for scoring it is a dense table of fixed size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from online.core.schema import ContextFeature, Feature

__all__ = ["ContextTable", "Place", "context_tables", "group_of", "groups", "groups_of", "places"]

MISSING = math.nan
CYCLE_COLUMNS = 3  # position, sine and cosine


class Place(NamedTuple):
    """Where a column to group by stands in an encoded row: its first value, and how many groups it makes.

    A category has one value a group (``one_hot``); a position in a cycle is rounded down. ``period`` is the
    cycle's length in positions.
    """

    start: int
    size: int
    one_hot: bool
    period: float = 1.0


class ContextTable:
    """One context feature for scoring: a value a group, NaN where there is none.

    Parameters
    ----------
    by
        The places to group by.
    cells
        The values, one a group.
    """

    def __init__(self, by: Sequence[Place], cells: Sequence[float]) -> None:
        self._by = tuple(by)
        self.cells = list(cells)

    def get(self, values: Sequence[float]) -> float:
        """The feature of an encoded row; NaN when there is none, or the row's own values are missing."""
        group = group_of(self._by, values)
        return MISSING if group is None else self.cells[group]

    def get_many(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """As :meth:`get`, of encoded rows (n, columns); (n,)."""
        found = groups_of(self._by, values)
        return np.where(found >= 0, self._cells[found], MISSING)

    @functools.cached_property
    def _cells(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.cells, float)


def groups(by: Sequence[Place]) -> int:
    """How many groups the places make."""
    return math.prod(place.size for place in by)


def group_of(by: Sequence[Place], values: Sequence[float]) -> int | None:
    """The group of an encoded row; None when one of its own values is missing or unknown."""
    group = 0
    for place in by:
        part = one_hot_group(values, place) if place.one_hot else cycle_group(values, place)
        if part is None:
            return None
        group = group * place.size + part
    return group


def groups_of(by: Sequence[Place], values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The groups of encoded rows (n, columns) as :func:`group_of` gives them, (n,), -1 for None."""
    group, known = np.zeros(len(values), np.int64), np.ones(len(values), bool)
    for place in by:
        if place.one_hot:
            on = values[:, place.start : place.start + place.size] == 1.0
            part, there = on.argmax(axis=1), on.any(axis=1)
        else:
            position = values[:, place.start]
            there = ~np.isnan(position)
            part = np.where(there, position, 0.0).astype(np.int64) % place.size
        group, known = group * place.size + part, known & there
    return np.where(known, group, -1)


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
            found[name] = Place(start, size, feature.kind == "category", feature.period or float(size))
            start += size if feature.kind == "category" else CYCLE_COLUMNS
        start += feature.kind == "numeric"
    return found


def context_tables(
    features: Sequence[Feature], context: Sequence[ContextFeature], cells: Sequence[float]
) -> list[ContextTable]:
    """A stream's tables, from all their cells one after the other."""
    known = places(features)
    tables, taken = [], 0
    for spec in context:
        by = [known[name] for name in spec.by]
        tables.append(ContextTable(by, cells[taken : taken + groups(by)]))
        taken += groups(by)
    return tables
