"""Rows of hours to come: what a calendar tells is filled in, the rest is left to be imputed."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.monitor.answers import FeatureInfo

__all__ = ["MOST_HOURS", "by_calendar", "future_rows", "pickable", "unknown"]

MOST_HOURS = 24 * 31
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip
SEASONS = ("winter", "spring", "summer", "autumn")
YEAR = 365.25

Reader = Callable[[datetime.datetime], Any]

# what a whole number's name says it is, where its cycle does not
NAMED: dict[str, Reader] = {
    "year": lambda at: at.year, "month": lambda at: at.month, "day": lambda at: at.day,
    "hour": lambda at: at.hour, "weekday": lambda at: at.weekday(),
}  # fmt: skip


def future_rows(
    features: Sequence[FeatureInfo], chosen: Mapping[str, str], start: datetime.datetime, hours: int
) -> list[dict[str, Any]]:
    """A row an hour from ``start`` on: the calendar's features, and those ``chosen`` by name."""
    readers = {f.name: read for f in features if f.used and (read := by_calendar(f)) is not None}
    moments = [start + datetime.timedelta(hours=step) for step in range(hours)]
    return [{name: read(at) for name, read in readers.items()} | dict(chosen) for at in moments]


def pickable(features: Sequence[FeatureInfo]) -> list[FeatureInfo]:
    """The categories that no calendar tells: a person has to say which."""
    return [f for f in features if f.used and f.kind == "category" and by_calendar(f) is None]


def unknown(features: Sequence[FeatureInfo], row: Mapping[str, Any]) -> list[str]:
    """The features a row is without."""
    return [f.name for f in features if f.used and f.name not in row]


def by_calendar(feature: FeatureInfo) -> Reader | None:
    """How a time gives a feature's value; None where it does not."""
    if feature.kind == "time":
        return lambda at: at.isoformat()
    if feature.values:
        return by_name(feature.values)
    if feature.kind == "cyclic" and feature.period:
        return by_period(feature, feature.period)
    return NAMED.get(plain(feature.name)) if feature.kind == "numeric" else None


def by_name(values: Sequence[str]) -> Reader | None:
    """Names of weekdays, months or seasons, full or short, as the stream spells them."""
    for names, place in ((DAYS, weekday), (MONTHS, month), (SEASONS, season)):
        spelled = [spelling(values, name) for name in names]
        if sum(text is not None for text in spelled) == len(values):
            return named_reader(spelled, place)
    return None


def named_reader(spelled: Sequence[str | None], place: Callable[[datetime.datetime], int]) -> Reader:
    """What gives the name at a time's place."""
    return lambda at: spelled[place(at)]


def spelling(values: Sequence[str], name: str) -> str | None:
    """How a stream spells a calendar's name."""
    for value in values:
        text = value.casefold()
        if len(text) >= 3 and name.startswith(text):
            return value
    return "Fall" if name == "autumn" and "Fall" in values else None


def by_period(feature: FeatureInfo, period: float) -> Reader | None:
    """Numbers in a cycle as long as one of the calendar's; counted from 1 where the stream does."""
    first = 1 if feature.low is not None and feature.low >= 1 else 0
    if period == 24:
        later = 1 if "end" in words_of(feature.name) else 0
        return lambda at: (at.hour + later - first) % 24 + first
    if period == 7:
        return lambda at: at.weekday() + first
    if period == 12:
        return lambda at: at.month - 1 + first
    if abs(period - YEAR) < 2:
        return lambda at: at.timetuple().tm_yday - 1 + first
    if abs(period - YEAR / 7) < 1:
        return lambda at: at.isocalendar().week - 1 + first
    return None


def weekday(at: datetime.datetime) -> int:
    """Days since Monday."""
    return at.weekday()


def month(at: datetime.datetime) -> int:
    """Months since January."""
    return at.month - 1


def season(at: datetime.datetime) -> int:
    """The meteorological season of the north: winter is December to February."""
    return at.month % 12 // 3


def words_of(name: str) -> list[str]:
    """A column's name in lower-case words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+", " ", name).casefold().split()


def plain(name: str) -> str:
    """A column's name as one word."""
    return "".join(words_of(name))
