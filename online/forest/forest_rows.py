"""Rows as River has them, dicts of anything, written into a line of numbers."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from online.features.matrix import values_getter, write_row
from online.forest.forest_state import BINS, Array

__all__ = ["RowReader"]

MISSING = math.nan
OTHER = BINS - 1  # the code all later categories share
TEXT_LIMIT = 256  # characters of a category's name that count
MOST_FEATURES = 1024  # further names are ignored, so that no stream of them grows memory


class RowReader:
    """Where each feature stands in a line, and which number each category has.

    Attributes
    ----------
    places
        The place of each feature by name.
    codes
        The number of each category seen, by name of those features that are categories.
    """

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.codes: dict[str, dict[str, int]] = {}
        self._all: Callable[[Mapping[str, Any]], Any] | None = None  # the values of a whole row, in order

    def meet(self, names: Iterable[str]) -> None:
        """Give features their places, behind those known."""
        for name in names:
            self.places[name] = len(self.places)
        self._all = values_getter(tuple(self.places))

    def fill_fast(self, line: Array, x: Mapping[str, Any]) -> bool:
        """Write a row of known features that are all numbers; False, and nothing useful, for any other."""
        if self.codes:
            return False
        if write_row(self._all, line, x):
            return True
        line.fill(MISSING)
        try:
            for name, value in x.items():
                line[self.places[name]] = value
        except (KeyError, TypeError, ValueError, OverflowError):
            return False
        return True

    def fill(self, line: Array, x: Mapping[str, Any]) -> None:
        """Write any row; features not met are left out."""
        if self.fill_fast(line, x):
            return
        line.fill(MISSING)
        for name, value in x.items():
            place = self.places.get(name)
            if place is not None:
                line[place] = self._number(name, value)

    def _number(self, name: str, value: object) -> float:
        codes = self.codes.get(name)
        if codes is None:
            return as_number(value)
        text = category(value)
        if text is None:
            return MISSING
        return codes.get(text, MISSING if len(codes) < OTHER else OTHER)

    def new_names(self, x: Mapping[str, Any]) -> list[str]:
        """The features of a row that there is still room to meet, whatever order the row has them in."""
        room = MOST_FEATURES - len(self.places)
        return sorted((name for name in x if name not in self.places), key=str)[:room]

    def meet_categories(self, x: Mapping[str, Any], fresh: set[str]) -> set[str]:
        """Take in a row's categories; the features that turned out to be categories.

        Those are the ones with text as their first value; ``fresh`` had none so far.
        """
        found = {name for name, value in x.items() if isinstance(value, str) and name in fresh}
        for name in found:
            self.codes.setdefault(name, {})
        for name, codes in self.codes.items():
            text = category(x.get(name))
            if text is not None and len(codes) < OTHER:
                codes.setdefault(text, len(codes))
        return found


def category(value: object) -> str | None:
    """A category's name; None when it is missing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return str(value)[:TEXT_LIMIT]


def as_number(value: object) -> float:
    """A number, from text too; NaN when there is none."""
    if not isinstance(value, (str, numbers.Real)):
        return MISSING
    try:
        return float(value)
    except (ValueError, OverflowError):
        return MISSING
