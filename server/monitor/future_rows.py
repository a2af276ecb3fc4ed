"""Rows of hours to come: what a calendar tells is filled in, the rest is left for the server to impute."""

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
MIN_SPELLING = 3  # letters of a short name, such as "Mon": two may mean anything

CalendarReader = Callable[[datetime.datetime], Any]

# what the name of a column of whole numbers says it is, where its period does not
READERS_BY_NAME: dict[str, CalendarReader] = {
    "year": lambda at: at.year,
    "month": lambda at: at.month,
    "day": lambda at: at.day,
    "hour": lambda at: at.hour,
    "weekday": lambda at: at.weekday(),
}


def future_rows(
    features: Sequence[FeatureReply], chosen: Mapping[str, str], start: datetime.datetime, hours: int
) -> list[dict[str, Any]]:
    """One row for each hour to come.

    Parameters
    ----------
    features
        The stream's features.
    chosen
        Values of those that no calendar tells, by name.
    start
        The first hour, on the stream's own clock.
    hours
        How many.

    Returns
    -------
    list of dict
        Rows with the calendar's features and the chosen ones.
    """
    readers = {f.name: read for f in features if f.used and (read := calendar_reader(f)) is not None}
    times = [start + datetime.timedelta(hours=step) for step in range(hours)]
    return [{name: read(at) for name, read in readers.items()} | dict(chosen) for at in times]


def choosable(features: Sequence[FeatureReply]) -> list[FeatureReply]:
    """The categories that no calendar tells: a person has to say which."""
    return [f for f in features if f.used and f.kind == "category" and calendar_reader(f) is None]


def missing_features(features: Sequence[FeatureReply], row: Mapping[str, Any]) -> list[str]:
    """The features that a row lacks.

    Parameters
    ----------
    features
        The stream's features.
    row
        A row by names.

    Returns
    -------
    list of str
        Their names.
    """
    return [f.name for f in features if f.used and f.name not in row]


def calendar_reader(feature: FeatureReply) -> CalendarReader | None:
    """What gives a feature's value for a time; None where a time does not tell it."""
    if feature.kind == "time":
        return lambda at: at.isoformat()
    if feature.values:
        return reader_of_names(feature.values)
    if feature.kind == "cyclic" and feature.period:
        return reader_of_period(feature, feature.period)
    return READERS_BY_NAME.get(as_one_word(feature.name)) if feature.kind == "numeric" else None


def reader_of_names(values: Sequence[str]) -> CalendarReader | None:
    """For names of weekdays, months or seasons, full or short, as the stream spells them."""
    for names, index_of in ((DAY_NAMES, weekday), (MONTH_NAMES, month), (SEASON_NAMES, season)):
        spelled = [spelling(values, name) for name in names]
        if sum(text is not None for text in spelled) == len(values):
            return reader_of_spellings(spelled, index_of)
    return None


def reader_of_spellings(
    spelled: Sequence[str | None], index_of: Callable[[datetime.datetime], int]
) -> CalendarReader:
    """Gives the spelling of a time's name. A function of its own, so that it keeps its own two values."""
    return lambda at: spelled[index_of(at)]


def spelling(values: Sequence[str], name: str) -> str | None:
    """How a stream spells a calendar's name."""
    for value in values:
        text = value.casefold()
        if len(text) >= MIN_SPELLING and name.startswith(text):
            return value
    return "Fall" if name == "autumn" and "Fall" in values else None


def reader_of_period(feature: FeatureReply, period: float) -> CalendarReader | None:
    """For numbers in a cycle as long as one of the calendar's; counted from 1 where the stream does."""
    first = 1 if feature.low is not None and feature.low >= 1 else 0
    if period == 24:
        later = 1 if "end" in words_of(feature.name) else 0  # an hour that ends at 13 began at 12
        return lambda at: (at.hour + later - first) % 24 + first
    if period == 7:
        return lambda at: at.weekday() + first
    if period == 12:
        return lambda at: at.month - 1 + first
    if abs(period - YEAR_DAYS) < 2:  # days of a year: 365, 365.25 or 366
        return lambda at: at.timetuple().tm_yday - 1 + first
    if abs(period - YEAR_DAYS / 7) < 1:  # weeks of a year: 52 or 53
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
