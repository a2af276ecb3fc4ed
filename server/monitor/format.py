"""Numbers, times and states as the words people read on the monitor."""

from __future__ import annotations

import datetime
from typing import Literal

import msgspec

from server.monitor.api_reader import ApiState
from server.monitor.api_replies import AlarmReply, ModelReply, SnapshotReply, Timestamp

__all__ = [
    "NO_LABELS",
    "Fact",
    "Notice",
    "advantage",
    "ago",
    "alarm_title",
    "cost",
    "count",
    "detector_text",
    "duration",
    "notices",
    "number",
    "parse_time",
    "percent",
    "status_facts",
    "utc_text",
    "version_name",
]

NO_VALUE = "\u2013"  # a dash where there is nothing to say
UNSCORED = "Predictions are served but not scored. Send the true values to POST /learn."
NO_LABELS = f"No labels yet: p{UNSCORED[1:]}"
WHOLE_NUMBERS_FROM = 1000
DURATION_UNITS = (
    (2 * 86400.0, 86400.0, "days"),
    (2 * 3600.0, 3600.0, "h"),
    (120.0, 60.0, "min"),
    (1.0, 1.0, "s"),
)


class Fact(msgspec.Struct, frozen=True):
    """One entry of the status line: a value with what it is, and what to compare it with."""

    label: str
    value: str
    note: str = ""
    tone: Literal["", "good", "bad"] = ""


class Notice(msgspec.Struct, frozen=True):
    """A state worth a sentence at the top of the page."""

    tone: Literal["bad", "warn", "info"]
    title: str
    text: str


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


def parse_time(at: Timestamp) -> datetime.datetime | None:
    """A time from unix seconds or ISO 8601 text, in UTC; None when it is neither."""
    try:
        if isinstance(at, str):
            found = datetime.datetime.fromisoformat(at)
            return found.astimezone(datetime.UTC) if found.tzinfo else found.replace(tzinfo=datetime.UTC)
        return None if at is None else datetime.datetime.fromtimestamp(at, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None


def utc_text(at: Timestamp) -> str:
    """A time as a person reads it, in UTC."""
    found = parse_time(at)
    return f"{found:%Y-%m-%d %H:%M:%S}" if found else NO_VALUE


def ago(at: Timestamp, now: float) -> str:
    """How long ago a time was, coarse enough not to change with every look."""
    found = parse_time(at)
    if found is None:
        return "at an unknown time"
    seconds = max(0.0, now - found.timestamp())
    for least, size, unit in DURATION_UNITS[:-1]:
        if seconds >= least:
            return f"{seconds // size:,.0f} {unit} ago"
    return "just now" if seconds < 10 else f"{seconds // 10 * 10:.0f} s ago"


def version_name(name: int | str | None) -> str:
    """A version's name: ``model_vN``."""
    if name is None:
        return NO_VALUE
    return f"model_v{name}" if isinstance(name, int) else name


def status_facts(reading: ApiState, now: float) -> tuple[Fact, ...]:
    """The status line."""
    model, traffic = reading.model or ModelReply(), reading.traffic
    rolling = model.prequential
    return (
        Fact("Serving", version_name(model.model_version), serving_note(reading)),
        Fact("Rows scored", rate(traffic.rows_per_second), "a second, of late"),
        Fact(
            "p99 of /predict",
            duration(traffic.p99_seconds),
            "" if traffic.p99_seconds else "no request of late",
        ),
        Fact("Rolling error", number(rolling.mae), error_note(model)),
        advantage("Against frozen model_v1", rolling.mae, rolling.baseline_mae),
        advantage("Against naive", rolling.mae, rolling.naive_mae),
        Fact(
            "Label lag, median",
            duration(rolling.delay_seconds),
            waiting_note(model),
            "bad" if stuck(model) else "",
        ),
        last_alarm(reading, now),
    )


def rate(value: float | None) -> str:
    """Rows in a second."""
    return NO_VALUE if value is None else number(round(value, 1))


def error_note(model: ModelReply) -> str:
    """What a rolling error is taken over."""
    rolling = model.prequential
    if rolling.mae is None:
        return "no scored label yet"
    return f"MAE, last {min(rolling.n, rolling.window):,} labels" if rolling.n else "MAE, rolling"


def advantage(label: str, mae: float | None, other: float | None) -> Fact:
    """How much better the served predictions are than others would have been, in per cent of their error."""
    if mae is None:
        return Fact(label, NO_VALUE, "no scored label yet")
    if not other:
        return Fact(label, NO_VALUE, "nothing to compare with yet")
    gain, note = 100 * (1 - mae / other), f"MAE {number(mae)}, not {number(other)}"
    if abs(gain) < 0.05:
        return Fact(label, "the same", note)
    return Fact(label, f"{abs(gain):.1f} % {'better' if gain > 0 else 'worse'}", note, tone(gain))


def tone(gain: float) -> Literal["good", "bad"]:
    """Whether a gain is one."""
    return "good" if gain > 0 else "bad"


def count(value: int | None) -> str:
    """A count with separators."""
    return NO_VALUE if value is None else f"{value:,}"


def percent(value: float | None) -> str:
    """A share in per cent."""
    return NO_VALUE if value is None else f"{100 * value:.1f} %"


def serving_note(reading: ApiState) -> str:
    """What the served version came from."""
    active = active_snapshot(reading)
    if active is None:
        return ""
    return active.reason if active.parent is None else f"{active.reason}, from {version_name(active.parent)}"


def active_snapshot(reading: ApiState) -> SnapshotReply | None:
    """The snapshot now served, when it is listed."""
    if reading.snapshots is None:
        return None
    active = reading.snapshots.active
    return next((s for s in reading.snapshots.snapshots if s.version == active), None)


def stuck(model: ModelReply) -> bool:
    """Whether labels wait for a learner that does not run."""
    return model.learner.alive is False and bool(model.labels_waiting)


def waiting_note(model: ModelReply) -> str:
    """What waiting labels wait for."""
    if stuck(model):
        return f"{count(model.labels_waiting)} labels wait until the learner is back"
    return f"{count(model.labels_waiting)} labels wait" if model.labels_waiting else "all labels are learned"


def last_alarm(reading: ApiState, now: float) -> Fact:
    """The newest drift alarm."""
    if reading.alarms is None:
        return Fact("Last alarm", NO_VALUE)
    if not reading.alarms.alarms:
        return Fact("Last alarm", "none", "no drift found so far")
    newest = reading.alarms.alarms[0]
    return Fact("Last alarm", ago(newest.at, now), alarm_title(newest))


def alarm_title(alarm: AlarmReply) -> str:
    """Which alarm, in few words."""
    named = detector_text(alarm)
    return named if alarm.seq is None else f"{named}, seq {alarm.seq:,}"


def detector_text(alarm: AlarmReply) -> str:
    """Which detector found a drift, and in what."""
    found = " on ".join(part for part in (alarm.detector, alarm.subject) if part) or "alarm"
    shown_too = f", also {', '.join(alarm.also)}" if alarm.also else ""
    return f"{found}{shown_too}{' (muted)' if alarm.muted else ''}"


def cost(alarm: AlarmReply) -> str:
    """What an alarm's change has added to the error so far, of how many labels."""
    return NO_VALUE if alarm.cost is None else f"{number(alarm.cost)} in {count(alarm.cost_labels)} labels"


def notices(reading: ApiState, now: float) -> tuple[Notice, ...]:
    """The states worth a sentence, worst first."""
    if reading.down:
        return (down(reading),)
    model = reading.model or ModelReply()
    found = [
        not reading.ready
        and Notice("warn", "Not ready.", "The server answers, but says it is not ready to predict."),
        model.learner.alive is False and learner_down(model, now),
        reading.problems and Notice("warn", "Part of this page is old.", "; ".join(reading.problems) + "."),
        unscored(reading) and Notice("info", "No labels yet.", UNSCORED),
    ]
    return tuple(notice for notice in found if notice)


def down(reading: ApiState) -> Notice:
    """The server cannot be reached."""
    old = " Below is what it said last." if reading.model else ""
    text = f"{reading.api_url} cannot be read: {reading.down}. This page keeps asking.{old}"
    return Notice("bad", "Server down.", text)


def learner_down(model: ModelReply, now: float) -> Notice:
    """The learner does not run; say what still works."""
    at = model.learner.updated_at
    seen = "" if at is None else f" It last reported {ago(at, now)}."
    served = version_name(model.model_version)
    text = f"Predictions go on from {served}; labels are still accepted and wait.{seen}"
    return Notice("bad", "Learner down.", text)


def unscored(reading: ApiState) -> bool:
    """Whether no label has come yet."""
    return reading.history is not None and not reading.history.seq
