"""Rows as River has them, dicts, as lines of numbers, when they have just the features known."""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["WholeRows", "values_of", "whole_lines", "write_whole"]

Floats = npt.NDArray[np.float64]
Values = Callable[[Mapping[str, Any]], Any]


def write_whole(values: Values | None, line: Floats, x: Mapping[str, Any], first: int = 0) -> bool:
    """Write a row of just the features known to a line, from a place on to its end, in their order.

    False, and nothing useful, for a row with other features or with something else than numbers. ``values``
    is an ``operator.itemgetter`` of the features, None where there are none yet.
    """
    size = len(line) - first
    if values is None or len(x) != size:
        return False
    try:
        struct.pack_into(f"{size}d", line.data, 8 * first, *values(x))
    except (KeyError, TypeError, struct.error):  # among others, one feature alone is no tuple
        return False
    return True


def whole_lines(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Floats | None:
    """Rows of just these features as lines, (n, features), in their order; None where one is not so."""
    lines, values = np.empty((len(rows), len(names))), values_of(names)
    return lines if all(write_whole(values, lines[at], x) for at, x in enumerate(rows)) else None


def values_of(names: Sequence[str]) -> Values | None:
    """What takes the values of features out of a row, in order; None for no features."""
    return operator.itemgetter(*names) if names else None


class WholeRows:
    """The features met so far, in order, and rows of them as lines of numbers, NaN for what is none.

    Attributes
    ----------
    names
        The features.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._places: dict[str, int] = {}
        self._values: Values | None = None

    def meet(self, names: Iterable[str]) -> int:
        """Give the features that are new their places, behind those known; how many are known now."""
        for name in names:
            if name not in self._places:
                self._places[name] = len(self._places)
        self.names = list(self._places)
        self._values = values_of(self.names)
        return len(self.names)

    def line(self, x: Mapping[str, Any]) -> tuple[Floats, bool]:
        """A row's numbers, (features,), and whether it has just the features known, all of them numbers."""
        line = np.empty(len(self.names))
        if write_whole(self._values, line, x):
            return line, True
        line.fill(np.nan)
        for name, value in x.items():
            place = self._places.get(name)
            if place is not None and value is not None:
                line[place] = value
        return line, False
