"""Numbers, times, versions and alarms as people read them on the monitor."""

from __future__ import annotations

import datetime

from server.monitor.api_replies import AlarmReply, Timestamp

__all__ = [
    "NO_LABELS",
    "NO_VALUE",
    "UNSCORED",
    "ago",
    "alarm_title",
    "cost",
    "count",
    "detector_text",
    "duration",
    "number",
    "parse_time",
    "percent",
    "utc_text",
    "version_name",
]

NO_VALUE = "\u2013"  # a dash, where nothing is known
UNSCORED = "Predictions are served but not scored. Send the true values to POST /learn."
NO_LABELS = f"No labels yet: p{UNSCORED[1:]}"
WHOLE_NUMBERS_FROM = 1000
# from how many seconds on a unit is used, its length in seconds, its name
DURATION_UNITS = (
    (2 * 86400.0, 86400.0, "days"),
    (2 * 3600.0, 3600.0, "h"),
    (120.0, 60.0, "min"),
    (1.0, 1.0, "s"),
)


def number(value: float | None) -> str:
    """Three significant digits, whole numbers from a thousand up."""
    if value is None:
        return NO_VALUE
    return f"{value:,.0f}" if abs(value) >= WHOLE_NUMBERS_FROM else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """A span of time in the unit that suits it."""
    if seconds is None:
        return NO_VALUE
    for least, size, unit in DURATION_UNITS:
        if seconds >= least:
            return f"{number(seconds / size)} {unit}"
    return f"{1000 * seconds:.3g} ms"


def count(value: int | None) -> str:
    """A count with separators."""
    return NO_VALUE if value is None else f"{value:,}"


def percent(value: float | None) -> str:
    """A share in per cent."""
    return NO_VALUE if value is None else f"{100 * value:.1f} %"


def parse_time(at: Timestamp) -> datetime.datetime | None:
    """A time from unix seconds or ISO 8601 text, in UTC; None when it is neither."""
    try:
        if isinstance(at, str):
            time = datetime.datetime.fromisoformat(at)
            return time.astimezone(datetime.UTC) if time.tzinfo else time.replace(tzinfo=datetime.UTC)
        return None if at is None else datetime.datetime.fromtimestamp(at, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None


def utc_text(at: Timestamp) -> str:
    """A time as a person reads it, in UTC."""
    time = parse_time(at)
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else NO_VALUE


def ago(at: Timestamp, now: float) -> str:
    """How long ago a time was, so coarse that it does not change with every update.

    Parameters
    ----------
    at
        The time.
    now
        Unix seconds.

    Returns
    -------
    str
        In words.
    """
    time = parse_time(at)
    if time is None:
        return "at an unknown time"
    seconds = max(0.0, now - time.timestamp())
    for least, size, unit in DURATION_UNITS[:-1]:
        if seconds >= least:
            return f"{seconds // size:,.0f} {unit} ago"
    return "just now" if seconds < 10 else f"{seconds // 10 * 10:.0f} s ago"


def version_name(name: int | str | None) -> str:
    """A version's name: ``model_vN``."""
    if name is None:
        return NO_VALUE
    return f"model_v{name}" if isinstance(name, int) else name


def alarm_title(alarm: AlarmReply) -> str:
    """Which alarm, in few words."""
    named = detector_text(alarm)
    return named if alarm.seq is None else f"{named}, seq {alarm.seq:,}"


def detector_text(alarm: AlarmReply) -> str:
    """Which detector found a drift, and in what."""
    source = " on ".join(part for part in (alarm.detector, alarm.subject) if part) or "alarm"
    also = f", also {', '.join(alarm.also)}" if alarm.also else ""
    return f"{source}{also}{' (muted)' if alarm.muted else ''}"


def cost(alarm: AlarmReply) -> str:
    """What an alarm's change has added to the error so far, of how many labels."""
    return NO_VALUE if alarm.cost is None else f"{number(alarm.cost)} in {count(alarm.cost_labels)} labels"
