"""Marks on a chart over the journal: alarms, rollbacks and snapshots, each with words."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from server.monitor import format
from server.monitor.api_replies import AlarmReply, SnapshotReply
from server.monitor.chart_canvas import trace_uid
from server.monitor.palette import Palette

__all__ = ["event_marks"]

MAX_MARKS = 200  # more than this look like a fence
MESSAGE_LINE_LENGTH = 48  # characters
MAX_MESSAGE_LINES = 4

Mark = tuple[int, str]  # journal seq, and what to show when pointed at, as Plotly's HTML


class MarkStyle(NamedTuple):
    """How one kind of mark looks; ``top`` is how high its line reaches, as a share of the chart.

    Kinds differ in symbol and dash too, so that they are told apart without colour vision.
    """

    name: str
    colour: str
    symbol: str
    dash: str
    top: float


def event_marks(
    alarms: Sequence[AlarmReply], snapshots: Sequence[SnapshotReply], first: float, palette: Palette
) -> list[Any]:
    """Traces of what happened, on a second y axis from 0 to 1.

    Parameters
    ----------
    alarms, snapshots
        Newest first, as the API gives them.
    first
        The chart's first journal seq: what happened before is left out.
    palette
        The theme's colours.

    Returns
    -------
    list
        Two traces for each kind that there is.
    """
    rollbacks = [s for s in snapshots if s.reason == "rollback"]
    saved = [s for s in snapshots if s.reason != "rollback"]
    kinds = (
        (MarkStyle("snapshot", palette.snapshot, "circle", "dot", 0.06), snapshot_marks(saved)),
        (MarkStyle("rollback", palette.rollback, "diamond", "dashdot", 1.0), snapshot_marks(rollbacks)),
        (MarkStyle("drift alarm", palette.alarm, "triangle-down", "solid", 1.0), alarm_marks(alarms)),
    )
    return [trace for style, marks in kinds for trace in mark_traces(style, within_chart(marks, first))]


def alarm_marks(alarms: Iterable[AlarmReply]) -> list[Mark]:
    """Where alarms were raised, and what to say there."""
    return [
        (
            alarm.seq,
            f"<b>drift alarm</b>, {html.escape(format.alarm_title(alarm))}"
            f"<br>{format.utc_text(alarm.at)} UTC"
            f"<br>{format.number(alarm.before)} → {format.number(alarm.after)}"
            f"{wrapped_lines(alarm.message)}",
        )
        for alarm in alarms
        if alarm.seq is not None
    ]


def snapshot_marks(snapshots: Iterable[SnapshotReply]) -> list[Mark]:
    """Where versions were saved, and what to say there."""
    return [
        (
            snapshot.seq,
            f"<b>{html.escape(format.version_name(snapshot.version))}</b>,"
            f" {html.escape(snapshot.reason) or 'snapshot'}"
            f"<br>{format.utc_text(snapshot.created_at)} UTC"
            f"<br>from {html.escape(format.version_name(snapshot.parent))},"
            f" MAE {format.number(snapshot.mae)}",
        )
        for snapshot in snapshots
        if snapshot.seq is not None
    ]


def wrapped_lines(text: str) -> str:
    """A longer text on lines of its own, safe to show: Plotly reads some HTML."""
    lines = textwrap.wrap(text, MESSAGE_LINE_LENGTH)[:MAX_MESSAGE_LINES]
    return "".join("<br>" + html.escape(line) for line in lines)


def within_chart(marks: list[Mark], first: float) -> list[Mark]:
    """The newest marks within the chart's data."""
    return [mark for mark in marks if mark[0] >= first][:MAX_MARKS]


def mark_traces(style: MarkStyle, marks: list[Mark]) -> list[Any]:
    """Upright lines, each with a mark at its top that says more when pointed at."""
    if not marks:
        return []
    # a None ends one line before the next begins: a single trace for all of them is drawn far faster
    upright = [point for seq, _ in marks for point in (seq, seq, None)]
    common = {"name": style.name, "legendgroup": style.name, "yaxis": "y2"}
    lines = go.Scatter(
        x=upright,
        y=[0, style.top, None] * len(marks),
        mode="lines",
        line={"color": style.colour, "width": 1.5, "dash": style.dash},
        hoverinfo="skip",
        showlegend=False,
        uid=trace_uid(f"{style.name} lines"),
        **common,
    )
    heads = go.Scatter(
        x=[seq for seq, _ in marks],
        y=[style.top] * len(marks),
        mode="markers",
        marker={"color": style.colour, "symbol": style.symbol, "size": 11},
        cliponaxis=False,  # half of a mark at the top would be cut off
        text=[text for _, text in marks],
        hovertemplate="%{text}<extra></extra>",
        uid=trace_uid(style.name),
        **common,
    )
    return [lines, heads]
