"""Columns that say the same as another, and times whose parts other columns carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from bootstrap.reading.kinds import dropped
from bootstrap.reading.parse_columns import Codes, Column
from online.core.schema import Feature

__all__ = ["with_calendar_parts", "without_duplicates"]

MAX_PAIRED = 400  # distinct values up to which two columns in step are called duplicates
CARRIED = 0.99  # share of rows on which a column must be in step with a calendar part to carry it


def in_step(first: Codes, second: Codes) -> float:
    """Share of rows on which two columns map one to one, 0 when values repeat too seldom to tell."""
    both = (first >= 0) & (second >= 0)
    first, second = first[both], second[both]
    rows = len(first)
    if not rows or rows < 3 * max(len(np.unique(first)), len(np.unique(second))):
        return 0.0
    width = int(second.max()) + 1
    pairs, counts = np.unique(first * width + second, return_counts=True)
    shares = []
    for side in (pairs // width, pairs % width):
        best = np.zeros(int(side.max()) + 1, dtype=np.int64)
        np.maximum.at(best, side, counts)
        shares.append(float(best.sum()) / rows)
    return min(shares)


def without_duplicates(columns: Sequence[Column], features: Sequence[Feature]) -> list[Feature]:
    """Drop each column that an earlier one determines and is determined by.

    Parameters
    ----------
    columns
        The columns as read.
    features
        What was chosen for each.

    Returns
    -------
    list of Feature
        The features in the same order; those that repeat an earlier one are dropped, with the reason.
    """
    distinct: list[tuple[Column, Feature]] = []
    settled = []
    for column, feature in zip(columns, features, strict=True):
        if feature.kind not in ("dropped", "time"):
            twin = next((f.name for c, f in distinct if same(c, f, column, feature)), None)
            if twin is not None:
                feature = dropped(column, f"says the same as {twin}: one to one in every row")
            else:
                distinct.append((column, feature))
        settled.append(feature)
    return settled


def same(earlier: Column, known: Feature, column: Column, feature: Feature) -> bool:
    """Whether a column adds nothing to an earlier one."""
    if earlier.distinct < column.distinct or ((column.codes >= 0) & (earlier.codes < 0)).any():
        return False
    if known.kind == feature.kind == "cyclic" and length(known) != length(feature):
        return False
    paired = column.distinct <= MAX_PAIRED and earlier.distinct == column.distinct
    if paired and in_step(earlier.codes, column.codes) == 1.0:
        return True
    if earlier.numbers is None or column.numbers is None:
        return False
    return bool((earlier.numbers == column.numbers)[column.codes >= 0].all())


def length(feature: Feature) -> int:
    """A cycle's length in whole steps, 0 when the feature is not cyclic."""
    return round(feature.period or len(feature.values)) if feature.kind == "cyclic" else 0


Part = Literal["hour", "weekday", "yearday"]
PART_STEPS: Mapping[Part, int] = {"hour": 24, "weekday": 7, "yearday": 365}


def with_calendar_parts(columns: Sequence[Column], features: Sequence[Feature]) -> list[Feature]:
    """Give each time column the parts no other column carries; without any it only orders the rows.

    Parameters
    ----------
    columns
        The columns as read.
    features
        What was chosen for each.

    Returns
    -------
    list of Feature
        The features in the same order, those of kind ``time`` with the parts they are to give.
    """
    carriers = [
        (c.name, length(f), c.codes)
        for c, f in zip(columns, features, strict=True)
        if f.kind not in ("dropped", "time")
    ]
    settled = []
    for column, feature in zip(columns, features, strict=True):
        if feature.kind == "time":
            feature, own = settle_time(column, carriers)
            carriers += own
        settled.append(feature)
    return settled


def settle_time(
    column: Column, carriers: Sequence[tuple[str, int, Codes]]
) -> tuple[Feature, list[tuple[str, int, Codes]]]:
    """One time column's feature, and what it now carries itself."""
    own: dict[Part, tuple[str, int, Codes]] = {}
    others: list[str] = []
    for part, codes in part_codes(column).items():
        steps = PART_STEPS[part]
        carrier = next((n for n, s, c in carriers if s in (0, steps) and in_step(c, codes) >= CARRIED), None)
        if carrier is None:
            own[part] = (f"{column.name}'s {part}", steps, codes)
        else:
            others.append(f"{carrier} carries its {part}")
    if not own:
        return dropped(column, "; ".join(["only orders the rows", *others])), []
    reason = "; ".join(["ISO 8601 timestamps", *others])
    return Feature(column.name, "time", parts=tuple(own), reason=reason), list(own.values())


def part_codes(column: Column) -> dict[Part, Codes]:
    """The calendar parts that vary in a time column, as codes a row."""
    when = column.times.dt  # type: ignore[union-attr]
    values: dict[Part, Any] = {
        "hour": when.hour * 60 + when.minute,
        "weekday": when.day_of_week,
        "yearday": when.day_of_year,
    }
    part_codes = {part: pd.factorize(value)[0].astype(np.int64) for part, value in values.items()}
    return {part: codes for part, codes in part_codes.items() if codes.max() > 0}
