"""River's rows (dicts of numbers by feature name) as rows of a matrix, and the limits of a measurement.

Packing a whole dict with ``struct`` takes less time than one assignment a feature, so every estimator that
works on arrays first tries that way, and walks the features only for a row that is not as usual.
"""

from __future__ import annotations

import math
import operator
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "LARGEST_FLOAT",
    "LARGEST_MEASUREMENT",
    "MISSING",
    "FeatureIndex",
    "rows_to_matrix",
    "values_getter",
    "write_row",
]

Floats = npt.NDArray[np.float64]
ValuesGetter = Callable[[Mapping[str, Any]], Any]

MISSING = math.nan  # what stands in an array where a row has no value
LARGEST_FLOAT = sys.float_info.max
LARGEST_MEASUREMENT = 1e30  # a larger number is no measurement, and powers of it soon overflow


def write_row(get_values: ValuesGetter | None, row: Floats, x: Mapping[str, Any], offset: int = 0) -> bool:
    """Write the values of a dict into an array, if it has just the known features and all are numbers.

    Parameters
    ----------
    get_values
        What :func:`values_getter` gives for the known features; None while there are none.
    row
        Where the values go: float64, C-contiguous, (offset + features,).
    x
        Values by feature name.
    offset
        How many elements of ``row`` stay as they are, at its start.

    Returns
    -------
    bool
        False where the row has other features or something else than numbers; ``row`` then holds nothing
        useful behind the offset.
    """
    size = len(row) - offset
    if get_values is None or len(x) != size:
        return False
    try:
        struct.pack_into(f"{size}d", row.data, 8 * offset, *get_values(x))
    except (KeyError, TypeError, struct.error):  # TypeError also where the only feature's value is no tuple
        return False
    return True


def rows_to_matrix(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Floats | None:
    """Put rows that have just these features into a matrix.

    Parameters
    ----------
    names
        The features, in the order of the columns.
    rows
        Numbers by feature name.

    Returns
    -------
    array or None
        The values, (n, features); None if any row has other features or something else than numbers.
    """
    matrix, get_values = np.empty((len(rows), len(names))), values_getter(names)
    written = all(write_row(get_values, matrix[index], x) for index, x in enumerate(rows))
    return matrix if written else None


def values_getter(names: Sequence[str]) -> ValuesGetter | None:
    """A function that takes the values of these features out of a row, in order; None for no features."""
    return operator.itemgetter(*names) if names else None


class FeatureIndex:
    """The column of each feature seen so far, and rows as arrays in the order of those columns.

    Attributes
    ----------
    names
        The features, in the order of their columns.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._places: dict[str, int] = {}  # column by name; this class is pickled in snapshots
        self._values: ValuesGetter | None = None

    def add(self, names: Iterable[str]) -> int:
        """Give new features the next columns; returns how many features there are now."""
        for name in names:
            if name not in self._places:
                self._places[name] = len(self._places)
        self.names = list(self._places)
        self._values = values_getter(self.names)
        return len(self.names)

    def to_array(self, x: Mapping[str, Any]) -> tuple[Floats, bool]:
        """A row's numbers, (features,), and whether it has just the known features, all of them numbers.

        Where it has not, a missing value is NaN and an unknown feature is left out.
        """
        row = np.empty(len(self.names))
        if write_row(self._values, row, x):
            return row, True
        row.fill(MISSING)
        for name, value in x.items():
            column = self._places.get(name)
            if column is not None and value is not None:
                row[column] = value
        return row, False
