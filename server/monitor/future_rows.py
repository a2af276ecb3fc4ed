"""Rows of hours to come: what a calendar tells is filled in, the rest is left to be imputed."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.monitor.api_replies import FeatureReply

__all__ = ["MAX_HOURS", "calendar_reader", "choosable", "future_rows", "missing_features"]

MAX_HOURS = 24 * 31
DAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTH_NAMES = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip
SEASON_NAMES = ("winter", "spring", "summer", "autumn")
YEAR_DAYS = 365.25

CalendarReader = Callable[[datetime.datetime], Any]

# what a whole number's name says it is, where its cycle does not
READERS_BY_NAME: dict[str, CalendarReader] = {
    "year": lambda at: at.year, "month": lambda at: at.month, "day": lambda at: at.day,
    "hour": lambda at: at.hour, "weekday": lambda at: at.weekday(),
}  # fmt: skip


def future_rows(
    features: Sequence[FeatureReply], chosen: Mapping[str, str], start: datetime.datetime, hours: int
) -> list[dict[str, Any]]:
    """A row an hour from ``start`` on: the calendar's features, and those ``chosen`` by name."""
    readers = {f.name: read for f in features if f.used and (read := calendar_reader(f)) is not None}
    moments = [start + datetime.timedelta(hours=step) for step in range(hours)]
    return [{name: read(at) for name, read in readers.items()} | dict(chosen) for at in moments]


def choosable(features: Sequence[FeatureReply]) -> list[FeatureReply]:
    """The categories that no calendar tells: a person has to say which."""
    return [f for f in features if f.used and f.kind == "category" and calendar_reader(f) is None]


def missing_features(features: Sequence[FeatureReply], row: Mapping[str, Any]) -> list[str]:
    """The features a row is without."""
    return [f.name for f in features if f.used and f.name not in row]


def calendar_reader(feature: FeatureReply) -> CalendarReader | None:
    """How a time gives a feature's value; None where it does not."""
    if feature.kind == "time":
        return lambda at: at.isoformat()
    if feature.values:
        return name_reader(feature.values)
    if feature.kind == "cyclic" and feature.period:
        return period_reader(feature, feature.period)
    return READERS_BY_NAME.get(as_one_word(feature.name)) if feature.kind == "numeric" else None


def name_reader(values: Sequence[str]) -> CalendarReader | None:
    """Names of weekdays, months or seasons, full or short, as the stream spells them."""
    for names, place in ((DAY_NAMES, weekday), (MONTH_NAMES, month), (SEASON_NAMES, season)):
        spelled = [spelling(values, name) for name in names]
        if sum(text is not None for text in spelled) == len(values):
            return named_reader(spelled, place)
    return None


def named_reader(spelled: Sequence[str | None], place: Callable[[datetime.datetime], int]) -> CalendarReader:
    """What gives the name at a time's place."""
    return lambda at: spelled[place(at)]


def spelling(values: Sequence[str], name: str) -> str | None:
    """How a stream spells a calendar's name."""
    for value in values:
        text = value.casefold()
        if len(text) >= 3 and name.startswith(text):
            return value
    return "Fall" if name == "autumn" and "Fall" in values else None


def period_reader(feature: FeatureReply, period: float) -> CalendarReader | None:
    """Numbers in a cycle as long as one of the calendar's; counted from 1 where the stream does."""
    first = 1 if feature.low is not None and feature.low >= 1 else 0
    if period == 24:
        later = 1 if "end" in words_of(feature.name) else 0
        return lambda at: (at.hour + later - first) % 24 + first
    if period == 7:
        return lambda at: at.weekday() + first
    if period == 12:
        return lambda at: at.month - 1 + first
    if abs(period - YEAR_DAYS) < 2:
        return lambda at: at.timetuple().tm_yday - 1 + first
    if abs(period - YEAR_DAYS / 7) < 1:
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


def as_one_word(name: str) -> str:
    """A column's name as one word."""
    return "".join(words_of(name))
