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
from online.features.matrix import MISSING

__all__ = [
    "ContextTable",
    "GroupColumn",
    "context_tables",
    "group_columns",
    "group_count",
    "group_of",
    "groups_of",
]

CYCLE_COLUMNS = 3  # position, sine and cosine


class GroupColumn(NamedTuple):
    """A column to group rows by: where it starts in an encoded row, and how many groups it makes.

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
        The columns to group by.
    cells
        The values, one a group.
    """

    def __init__(self, by: Sequence[GroupColumn], cells: Sequence[float]) -> None:
        self._by = tuple(by)
        self.cells = list(cells)

    def get(self, values: Sequence[float]) -> float:
        """The feature of an encoded row; NaN when there is none, or the row's own values are missing."""
        group_id = group_of(self._by, values)
        return MISSING if group_id is None else self.cells[group_id]

    def get_many(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """As :meth:`get`, of encoded rows (n, columns); (n,)."""
        group_ids = groups_of(self._by, values)
        return np.where(group_ids >= 0, self._cells[group_ids], MISSING)

    @functools.cached_property
    def _cells(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.cells, float)


def group_count(by: Sequence[GroupColumn]) -> int:
    """How many groups the columns make."""
    return math.prod(column.size for column in by)


def group_of(by: Sequence[GroupColumn], values: Sequence[float]) -> int | None:
    """The group of an encoded row.

    Parameters
    ----------
    by
        The columns to group by.
    values
        The encoded row, (columns,), NaN where a value is missing.

    Returns
    -------
    int or None
        The group's id, from 0; None when a value to group by is missing or unknown.
    """
    group_id = 0
    for column in by:
        position = one_hot_position(values, column) if column.one_hot else cycle_position(values, column)
        if position is None:
            return None
        group_id = group_id * column.size + position
    return group_id


def groups_of(by: Sequence[GroupColumn], values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The groups of many encoded rows, as :func:`group_of` gives them one by one.

    Parameters
    ----------
    by
        The columns to group by.
    values
        The encoded rows, (n, columns), NaN where a value is missing.

    Returns
    -------
    array
        The groups' ids, (n,) int64; -1 where :func:`group_of` gives None.
    """
    group_ids, known = np.zeros(len(values), np.int64), np.ones(len(values), bool)
    for column in by:
        if column.one_hot:
            is_on = values[:, column.start : column.start + column.size] == 1.0
            position, has_value = is_on.argmax(axis=1), is_on.any(axis=1)
        else:
            value = values[:, column.start]
            has_value = ~np.isnan(value)
            position = np.where(has_value, value, 0.0).astype(np.int64) % column.size
        group_ids, known = group_ids * column.size + position, known & has_value
    return np.where(known, group_ids, -1)


def one_hot_position(values: Sequence[float], column: GroupColumn) -> int | None:
    """Which category is on; None for an unknown or missing one."""
    for position in range(column.size):
        if values[column.start + position] == 1.0:
            return position
    return None


def cycle_position(values: Sequence[float], column: GroupColumn) -> int | None:
    """A position in a cycle, rounded down; None when it is missing."""
    value = values[column.start]
    return None if value != value else int(value) % column.size


def group_columns(features: Sequence[Feature]) -> dict[str, GroupColumn]:
    """What rows can be grouped by, by name: categories, cyclic features, and ``<time feature>:<part>``."""
    columns: dict[str, GroupColumn] = {}
    start = 0
    for feature in features:
        for name, size in feature.groups.items():
            is_category = feature.kind == "category"
            columns[name] = GroupColumn(start, size, is_category, feature.period or float(size))
            start += size if is_category else CYCLE_COLUMNS
        start += feature.kind == "numeric"
    return columns


def context_tables(
    features: Sequence[Feature], context: Sequence[ContextFeature], cells: Sequence[float]
) -> list[ContextTable]:
    """The tables of a stream's context features.

    Parameters
    ----------
    features
        The features used, in order.
    context
        The context features, in order.
    cells
        The values of all their groups, one context feature after the other.

    Returns
    -------
    list of ContextTable
        One a context feature.
    """
    columns = group_columns(features)
    tables, offset = [], 0
    for spec in context:
        by = [columns[name] for name in spec.by]
        end = offset + group_count(by)
        tables.append(ContextTable(by, cells[offset:end]))
        offset = end
    return tables
