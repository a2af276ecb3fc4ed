"""A CSV's columns as read: which are numbers, which are times, and their plain ranges."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from online.core.schema import ABSURD_WIDTHS
from online.features.value_encoder import number

__all__ = ["Codes", "Column", "read_column", "read_numbers", "read_times", "value_range"]

MOSTLY = 0.9  # share of cells that must read as a number or time for the column to be one
MISSING_MARKS = frozenset({"", "-", "--", ".", "?", "na", "n/a", "nan", "none", "null"})
Codes = npt.NDArray[np.int64]


class Column(NamedTuple):
    """One column as read: ``numbers`` and ``times`` are None unless most cells read as such."""

    name: str
    cells: pd.Series[Any]
    codes: Codes  # which distinct value each row has, -1 where missing
    distinct: int
    numbers: pd.Series[float] | None
    times: pd.Series[pd.Timestamp] | None

    @property
    def words(self) -> str:
        """The name as lower-case words: ``DayOfYear`` and ``Day_of_Year`` are both ``day of year``."""
        spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", self.name).casefold()
        return " ".join(re.split(r"[\W_]+", spaced)).strip()

    @property
    def integers(self) -> set[int] | None:
        """The distinct values when all are whole numbers."""
        if self.numbers is None:
            return None
        values = self.numbers.dropna().unique()
        all_integers = bool((np.abs(values) < 2**53).all() and (values == np.floor(values)).all())
        return {int(value) for value in values} if all_integers else None

    @property
    def decimal(self) -> bool:
        """Whether the numbers were written as decimals: whole ones are read so only beside missing cells."""
        return pd.api.types.is_float_dtype(self.cells) and not self.cells.isna().any()


def read_column(cells: pd.Series[Any]) -> Column:
    """Read a column as whatever it is."""
    numbers = read_numbers(cells)
    times = None if numbers is not None else read_times(cells)
    codes, values = pd.factorize(cells if numbers is None else numbers)
    return Column(str(cells.name), cells, codes.astype(np.int64), len(values), numbers, times)


def read_numbers(cells: pd.Series[Any]) -> pd.Series[float] | None:
    """The cells as finite numbers, NaN where there is none; None when too few are numbers."""
    if pd.api.types.is_datetime64_any_dtype(cells):
        return None
    if pd.api.types.is_numeric_dtype(cells):  # booleans too
        numbers = cells.astype(float).where(lambda n: np.isfinite(n))
        return numbers if numbers.notna().any() else None
    return read_mostly(cells, lambda text: number(text), "float64")


def read_times(cells: pd.Series[Any], *, utc: bool = False) -> pd.Series[pd.Timestamp] | None:
    """ISO 8601 texts as the clock shows them (or in UTC); None when too few are timestamps.

    Parameters
    ----------
    cells
        Texts, or times that pandas has read.
    utc
        Whether times with a zone are turned into UTC, to be put in order, or stay as the clock shows them.

    Returns
    -------
    Series of Timestamp or None
        The times, missing where a cell is none; None when fewer than nine tenths of the cells are
        timestamps.
    """
    if pd.api.types.is_numeric_dtype(cells):
        return None
    texts = cells.map(str, na_action="ignore") if pd.api.types.is_datetime64_any_dtype(cells) else cells
    return read_mostly(texts, lambda text: timestamp(text, utc), "datetime64[us]")


def read_mostly(cells: pd.Series[Any], read: Callable[[Any], Any], dtype: str) -> pd.Series[Any] | None:
    """Each cell read, or missing; None when fewer than ``MOSTLY`` of those not missing can be."""
    codes, values = pd.factorize(cells)
    read_values = pd.Series([read(value) for value in values], dtype=dtype)
    marks = np.array([str(value).strip().casefold() in MISSING_MARKS for value in values], dtype=bool)
    counts = np.bincount(codes[codes >= 0], minlength=len(values))
    readable, present = counts[read_values.notna().to_numpy()].sum(), counts[~marks].sum()
    if not readable or readable < MOSTLY * present:
        return None
    column: pd.Series[Any] = read_values.reindex(codes)
    return column.set_axis(cells.index)


def timestamp(text: object, utc: bool) -> datetime.datetime | None:
    """One ISO 8601 timestamp without its zone, or None."""
    if not isinstance(text, str):
        return None
    try:
        when = datetime.datetime.fromisoformat(text)
        return (when.astimezone(datetime.UTC) if utc and when.tzinfo else when).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def value_range(numbers: pd.Series[float]) -> tuple[float, float, int]:
    """Lowest and highest value, and how many lie so far out that they are left out as faults.

    A fault lies more than ``ABSURD_WIDTHS`` times the width of the central 98 % away from it.
    """
    values = np.sort(numbers.dropna().to_numpy())
    edge = math.ceil(0.01 * len(values))
    low, high = (
        values[edge if len(values) > 2 * edge else 0],
        values[-1 - edge if len(values) > 2 * edge else -1],
    )
    slack = ABSURD_WIDTHS * (high - low) or math.inf
    plausible = values[(values >= low - slack) & (values <= high + slack)]
    return float(plausible[0]), float(plausible[-1]), len(values) - len(plausible)
