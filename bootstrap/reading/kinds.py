"""What kind a column is, and why."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pandas as pd

from bootstrap.reading.parse_columns import MOSTLY, Column, value_range
from online.core.schema import TEXT_LIMIT, Feature
from online.features.value_encoder import category_text

__all__ = ["choose", "dropped"]

MAX_VALUES = 50  # categories kept; rarer ones are scored as unknown
MAX_CODES = 12  # distinct whole numbers that may be codes rather than amounts
CYCLE_NAMES = {
    "weekday": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "month": (
        "January", "February", "March", "April", "May", "June", "July",
        "August", "September", "October", "November", "December",
    ),
}  # fmt: skip

# Words in a column's name, after it is split into lower-case words.
TIME_SPAN = re.compile(
    r"\b(since|until|past|lag|count|duration|total|per|elapsed|remaining|left|age|mean|average|avg|sum|is|has"
    r"|hours|hrs|days|weeks|months)\b"
)
AMOUNT = re.compile(
    r"\b(count|number|num|level|rank|grade|score|rating|year|yr|qty|quantity|size|age|total)\b"
)
CODE = re.compile(r"\w (id|no|nr|code|key)$")
PLACE_NAME = re.compile(r"\b(store|shop|site|station|sensor|zone|region|position|line|machine)\b")
FOREIGN_DATE = re.compile(r"\s*\d{1,4}[/.]\d{1,2}[/.]\d{1,4}\b")


class Cycle(NamedTuple):
    """A calendar cycle: its length, the whole numbers it may hold, and how columns of it are named."""

    label: str
    period: float
    spans: tuple[tuple[int, int], ...]
    hint: re.Pattern[str]
    telling: bool = False  # the full set of values tells it, whatever the column's name
    decimals: bool = False  # holds any number in its span, not whole ones only


CYCLES = (
    Cycle("hour of day", 24.0, ((0, 23), (1, 24)), re.compile(r"hour|\bhr\b"), telling=True),
    Cycle(
        "day of year",
        365.25,
        ((1, 366), (0, 365)),
        re.compile(r"day ?of ?year|year ?day|\bdoy\b|\byday\b"),
        telling=True,
    ),
    Cycle(
        "weekday",
        7.0,
        ((0, 6), (1, 7)),
        re.compile(r"week ?day|day ?of ?week|\bdow\b|\bwday\b|\bday ?name\b"),
    ),
    Cycle(
        "month", 12.0, ((1, 12), (0, 11)), re.compile(r"(?<!day of )(?<!dayof)month|\bmnth\b|\bmon\b|\bmth\b")
    ),
    Cycle("week of year", 365.25 / 7, ((1, 53), (0, 53)), re.compile(r"\bweek\b|week ?of ?year")),
    Cycle(
        "direction in degrees",
        360.0,
        ((0, 360), (-180, 180)),
        re.compile(r"\bdir\b|\bdirec\b|direction|bearing|azimuth|heading"),
        decimals=True,
    ),
)


def choose(column: Column, labels: pd.Series[float], drop: frozenset[str]) -> Feature:
    """The column's kind: the first rule that knows one.

    Parameters
    ----------
    column
        The column as read.
    labels
        The target's cells, row by row.
    drop
        Columns not to use.

    Returns
    -------
    Feature
        What the column is used as, with the reason.
    """
    if column.name in drop:
        return dropped(column, "dropped on request")
    if column.numbers is not None and column.numbers.equals(labels):
        return dropped(column, "equal to the target: it would give the answer away")
    rules = (useless, time, calendar_name, cycle, amount_or_code, text_kind)
    return next(feature for rule in rules if (feature := rule(column)) is not None)


def dropped(column: Column, reason: str) -> Feature:
    """A feature known and not used.

    Parameters
    ----------
    column
        The column as read.
    reason
        Why it is not used.

    Returns
    -------
    Feature
        A feature that is known and not used.
    """
    return Feature(column.name, "dropped", reason=reason)


def useless(column: Column) -> Feature | None:
    """Columns that say nothing: empty, constant, or counting the rows."""
    if column.distinct == 0 or (column.numbers is None and not column.cells.notna().any()):
        return dropped(column, "every cell is missing")
    if column.distinct == 1:
        return dropped(column, "constant: every row has the same value")
    if column.numbers is not None and column.distinct == len(column.cells) > 2:
        if column.integers is not None and column.numbers.diff().dropna().nunique() == 1:
            return dropped(column, "only counts the rows")
        if column.integers is not None and CODE.search(column.words):
            return dropped(column, "an identifier, unique to each row")
    return None


def time(column: Column) -> Feature | None:
    """Timestamps; which parts are used is settled once all columns are known."""
    return Feature(column.name, "time", reason="ISO 8601 timestamps") if column.times is not None else None


def calendar_name(column: Column) -> Feature | None:
    """Names of weekdays or months, full or short."""
    if column.numbers is not None or not 3 <= column.distinct <= MAX_VALUES:
        return None
    texts = {str(value).capitalize() for value in column.cells.dropna().unique()}
    for label, names in CYCLE_NAMES.items():
        spelled = {full: text for text in texts for full in names if abbreviates(text, full)}
        if len(spelled) == len(texts) >= 3:
            short = any(len(text) < len(full) for full, text in spelled.items())
            values = tuple(spelled.get(full, full[:3] if short else full) for full in names)
            return Feature(
                column.name, "cyclic", values=values, reason=f"names of {label}s, in calendar order"
            )
    return None


def abbreviates(text: str, full: str) -> bool:
    """Whether a text is a name, or its first three letters or more."""
    return len(text) >= 3 and full.startswith(text)


def cycle(column: Column) -> Feature | None:
    """Numbers that wrap: the name hints at a cycle the values fit, or the values are exactly one."""
    if column.numbers is None or column.distinct < 3 or TIME_SPAN.search(column.words):
        return None
    low, high = float(column.numbers.min()), float(column.numbers.max())
    for known in CYCLES:
        why = fits(known, column, low, high)
        if why:
            period, reason = known.period, known.label + why
            return Feature(column.name, "cyclic", low=low, high=high, period=period, reason=reason)
    return None


def fits(known: Cycle, column: Column, low: float, high: float) -> str:
    """Why a column holds this cycle, empty when it does not."""
    integers = column.integers
    if known.decimals:
        inside = high - low > known.period / 2 and any(a <= low and high <= b for a, b in known.spans)
    else:
        inside = integers is not None and any(a <= low and high <= b for a, b in known.spans)
    if inside and known.hint.search(column.words):
        return ", by its name and values"
    first, last = known.spans[0]
    contradicted = any(pattern.search(column.words) for pattern in (AMOUNT, CODE, PLACE_NAME))
    if known.telling and integers == set(range(first, last + 1)) and not contradicted:
        return f": its values are exactly {first} to {last}"
    return ""


def amount_or_code(column: Column) -> Feature | None:
    """Numbers: codes become categories, all others stay numbers."""
    if column.numbers is None:
        return None
    integers = column.integers
    if integers is not None and len(integers) > 2:
        if CODE.search(column.words):
            return category(column, "whole numbers named as an identifier")
        consecutive = min(integers) in (0, 1) and len(integers) == max(integers) - min(integers) + 1
        plain = not (column.decimal or AMOUNT.search(column.words))
        if consecutive and plain and len(integers) <= MAX_CODES:
            return category(
                column, f"{len(integers)} consecutive whole numbers, taken for codes without an order"
            )
    low, high, faults = value_range(column.numbers)
    kind = "two values, a switch" if column.distinct == 2 else "numbers"
    note = f"; {faults} absurd values left out of the range" if faults else ""
    return Feature(column.name, "numeric", low=low, high=high, reason=f"{kind}{gaps(column.numbers)}{note}")


def gaps(cells: pd.Series[Any]) -> str:
    """How much is missing, in words."""
    share = float(cells.isna().mean())
    return f"; {max(share, 0.001):.1%} missing, to be imputed" if share else ""


def text_kind(column: Column) -> Feature:
    """Text: categories, unless nearly every row has its own."""
    present = column.cells.dropna()
    if (present.astype(str).str.match(FOREIGN_DATE)).mean() >= MOSTLY:
        return dropped(column, "dates, but not ISO 8601: rewrite them as 2020-01-31T13:00 to use them")
    if column.distinct == len(present):
        return dropped(column, "text unique to each row")
    if column.distinct > max(MAX_VALUES, len(present) / 2):
        return dropped(column, "free text: most rows have their own")
    return category(column, "text")


def category(column: Column, reason: str) -> Feature:
    """The most frequent values; the rest is scored as unknown."""
    cells = column.cells if column.numbers is None else column.numbers
    counts = cells.dropna().map(category_text).value_counts(sort=True)
    known = [str(v) for v in counts.index if v != "" and len(str(v)) <= TEXT_LIMIT]
    if not known:
        return dropped(column, "no readable value")
    rest = len(counts) - min(len(known), MAX_VALUES)
    note = f"; the {rest} rarer ones are scored as unknown" if rest else ""
    return Feature(
        column.name, "category", values=tuple(known[:MAX_VALUES]), reason=f"{reason}{note}{gaps(cells)}"
    )
