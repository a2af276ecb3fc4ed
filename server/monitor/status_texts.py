"""The texts of the monitor's status line and notices: how the server does, in facts and sentences."""

from __future__ import annotations

from typing import Literal

import msgspec

from server.monitor import format
from server.monitor.api_reader import ApiState
from server.monitor.api_replies import ModelReply, SnapshotReply

__all__ = ["Fact", "Notice", "advantage", "notices", "status_facts"]

NO_DIFFERENCE = 0.05  # per cent: less would be said as 0.0


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


def status_facts(state: ApiState, now: float) -> tuple[Fact, ...]:
    """The entries of the status line.

    Parameters
    ----------
    state
        What was last read of the server.
    now
        Unix seconds.

    Returns
    -------
    tuple of Fact
        In the order they are shown in.
    """
    model, traffic = state.model or ModelReply(), state.traffic
    rolling = model.prequential
    return (
        Fact("Serving", format.version_name(model.model_version), serving_note(state)),
        Fact("Rows scored", rate(traffic.rows_per_second), "a second, of late"),
        Fact(
            "p99 of /predict",
            format.duration(traffic.p99_seconds),
            "" if traffic.p99_seconds else "no request of late",
        ),
        Fact("Rolling error", format.number(rolling.mae), error_note(model)),
        advantage("Against frozen model_v1", rolling.mae, rolling.baseline_mae),
        advantage("Against naive", rolling.mae, rolling.naive_mae),
        Fact(
            "Label lag, median",
            format.duration(rolling.delay_seconds),
            waiting_note(model),
            "bad" if stuck(model) else "",
        ),
        last_alarm(state, now),
    )


def rate(value: float | None) -> str:
    """Rows in a second."""
    return format.NO_VALUE if value is None else format.number(round(value, 1))


def error_note(model: ModelReply) -> str:
    """What a rolling error is taken over."""
    rolling = model.prequential
    if rolling.mae is None:
        return "no scored label yet"
    return f"MAE, last {min(rolling.n, rolling.window):,} labels" if rolling.n else "MAE, rolling"


def advantage(label: str, mae: float | None, other: float | None) -> Fact:
    """How much better the served predictions are than others would have been.

    Parameters
    ----------
    label
        What they are compared with.
    mae, other
        Mean absolute errors as served and of the others.

    Returns
    -------
    Fact
        The difference in per cent of the others' error.
    """
    if mae is None:
        return Fact(label, format.NO_VALUE, "no scored label yet")
    if not other:
        return Fact(label, format.NO_VALUE, "nothing to compare with yet")
    gain, note = 100 * (1 - mae / other), f"MAE {format.number(mae)}, not {format.number(other)}"
    if abs(gain) < NO_DIFFERENCE:
        return Fact(label, "the same", note)
    return Fact(label, f"{abs(gain):.1f} % {'better' if gain > 0 else 'worse'}", note, tone(gain))


def tone(gain: float) -> Literal["good", "bad"]:
    """Whether a gain is one."""
    return "good" if gain > 0 else "bad"


def serving_note(state: ApiState) -> str:
    """What the served version came from."""
    active = active_snapshot(state)
    if active is None:
        return ""
    return (
        active.reason
        if active.parent is None
        else f"{active.reason}, from {format.version_name(active.parent)}"
    )


def active_snapshot(state: ApiState) -> SnapshotReply | None:
    """The snapshot now served, when it is listed."""
    if state.snapshots is None:
        return None
    active = state.snapshots.active
    return next((s for s in state.snapshots.snapshots if s.version == active), None)


def stuck(model: ModelReply) -> bool:
    """Whether labels wait for a learner that does not run."""
    return model.learner.alive is False and bool(model.labels_waiting)


def waiting_note(model: ModelReply) -> str:
    """What waiting labels wait for."""
    if stuck(model):
        return f"{format.count(model.labels_waiting)} labels wait until the learner is back"
    return (
        f"{format.count(model.labels_waiting)} labels wait"
        if model.labels_waiting
        else "all labels are learned"
    )


def last_alarm(state: ApiState, now: float) -> Fact:
    """The newest drift alarm."""
    if state.alarms is None:
        return Fact("Last alarm", format.NO_VALUE)
    if not state.alarms.alarms:
        return Fact("Last alarm", "none", "no drift found so far")
    newest = state.alarms.alarms[0]
    return Fact("Last alarm", format.ago(newest.at, now), format.alarm_title(newest))


def notices(state: ApiState, now: float) -> tuple[Notice, ...]:
    """The states worth a sentence, worst first.

    Parameters
    ----------
    state
        What was last read of the server.
    now
        Unix seconds.

    Returns
    -------
    tuple of Notice
        None of them while all is well.
    """
    if state.down:
        return (down(state),)
    model = state.model or ModelReply()
    candidates = [
        not state.ready
        and Notice("warn", "Not ready.", "The server answers, but says it is not ready to predict."),
        model.learner.alive is False and learner_down(model, now),
        state.problems and Notice("warn", "Part of this page is old.", "; ".join(state.problems) + "."),
        unscored(state) and Notice("info", "No labels yet.", format.UNSCORED),
    ]
    return tuple(notice for notice in candidates if notice)


def down(state: ApiState) -> Notice:
    """The server cannot be reached."""
    old = " Below is what it said last." if state.model else ""
    text = f"{state.api_url} cannot be read: {state.down}. This page keeps asking.{old}"
    return Notice("bad", "Server down.", text)


def learner_down(model: ModelReply, now: float) -> Notice:
    """The learner does not run; say what still works."""
    at = model.learner.updated_at
    seen = "" if at is None else f" It last reported {format.ago(at, now)}."
    served = format.version_name(model.model_version)
    text = f"Predictions go on from {served}; labels are still accepted and wait.{seen}"
    return Notice("bad", "Learner down.", text)


def unscored(state: ApiState) -> bool:
    """Whether no label has come yet."""
    return state.history is not None and not state.history.seq
