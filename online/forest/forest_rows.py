"""River's rows, dicts of anything, written into rows of numbers."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from online.features.matrix import MISSING, values_getter, write_row
from online.forest.forest_state import BINS, Array

__all__ = ["RowReader"]

OTHER_CATEGORY = BINS - 1  # the code all later categories share
CATEGORY_CHARACTERS = 256  # characters of a category's name that count
MOST_FEATURES = 1024  # further names are ignored, so that no stream of them grows memory


class RowReader:
    """The column of each feature, and the number of each category.

    Attributes
    ----------
    places
        The column of each feature by name.
    codes
        The number of each category seen, by name of those features that are categories.
    """

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.codes: dict[str, dict[str, int]] = {}
        self._all: Callable[[Mapping[str, Any]], Any] | None = None  # the values of a whole row, in order

    def add_features(self, names: Iterable[str]) -> None:
        """Give new features the next columns."""
        for name in names:
            self.places[name] = len(self.places)
        self._all = values_getter(tuple(self.places))

    def fill_fast(self, row: Array, x: Mapping[str, Any]) -> bool:
        """Write a row if it has known features alone and all of them are numbers.

        Parameters
        ----------
        row
            Where it goes, (D,), NaN where missing.
        x
            Feature values by name.

        Returns
        -------
        bool
            False for any other row; ``row`` then holds nothing useful.
        """
        if self.codes:
            return False
        if write_row(self._all, row, x):
            return True
        row.fill(MISSING)
        try:
            for name, value in x.items():
                row[self.places[name]] = value
        except (KeyError, TypeError, ValueError, OverflowError):
            return False
        return True

    def fill(self, row: Array, x: Mapping[str, Any]) -> None:
        """Write any row; unknown features are left out.

        Parameters
        ----------
        row
            Where it goes, (D,), NaN where missing.
        x
            Feature values by name.
        """
        if self.fill_fast(row, x):
            return
        row.fill(MISSING)
        for name, value in x.items():
            column = self.places.get(name)
            if column is not None:
                row[column] = self._number(name, value)

    def _number(self, name: str, value: object) -> float:
        codes = self.codes.get(name)
        if codes is None:
            return as_number(value)
        text = category_name(value)
        if text is None:
            return MISSING
        return codes.get(text, MISSING if len(codes) < OTHER_CATEGORY else OTHER_CATEGORY)

    def new_names(self, x: Mapping[str, Any]) -> list[str]:
        """The new features of a row that there is room for, sorted: any order of the row gives the same."""
        room = MOST_FEATURES - len(self.places)
        return sorted((name for name in x if name not in self.places), key=str)[:room]

    def add_categories(self, x: Mapping[str, Any], unseen: set[str]) -> set[str]:
        """Number the new categories of a row.

        Parameters
        ----------
        x
            Feature values by name.
        unseen
            The features that have had no value so far.

        Returns
        -------
        set of str
            Those of them whose first value is text, which makes them categories.
        """
        new = {name for name, value in x.items() if isinstance(value, str) and name in unseen}
        for name in new:
            self.codes.setdefault(name, {})
        for name, codes in self.codes.items():
            text = category_name(x.get(name))
            if text is not None and len(codes) < OTHER_CATEGORY:
                codes.setdefault(text, len(codes))
        return new


def category_name(value: object) -> str | None:
    """A category's name; None when it is missing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return str(value)[:CATEGORY_CHARACTERS]


def as_number(value: object) -> float:
    """A number, from text too; NaN when there is none."""
    if not isinstance(value, (str, numbers.Real)):
        return MISSING
    try:
        return float(value)
    except (ValueError, OverflowError):
        return MISSING
