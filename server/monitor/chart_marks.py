"""Marks on a chart over the journal: alarms, rollbacks and snapshots, each with words."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from server.monitor import format
from server.monitor.api_replies import AlarmReply, SnapshotReply
from server.monitor.palette import Palette

__all__ = ["event_marks"]

MAX_MARKS = 200  # more than this make a fence

Mark = tuple[int, str]


def event_marks(
    alarms: Sequence[AlarmReply], snapshots: Sequence[SnapshotReply], first: float, palette: Palette
) -> list[Any]:
    """Traces on a second y axis from 0 to 1, for what happened from journal seq ``first`` on."""
    rollbacks = [s for s in snapshots if s.reason == "rollback"]
    saved = [s for s in snapshots if s.reason != "rollback"]
    traces: list[Any] = []
    for name, marks, colour, symbol, dash, top in (
        ("snapshot", snapshot_marks(saved), palette.snapshot, "circle", "dot", 0.06),
        ("rollback", snapshot_marks(rollbacks), palette.rollback, "diamond", "dashdot", 1.0),
        ("drift alarm", alarm_marks(alarms), palette.alarm, "triangle-down", "solid", 1.0),
    ):
        traces += mark_traces(name, within_chart(marks, first), colour, symbol, dash, top)
    return traces


def alarm_marks(alarms: Iterable[AlarmReply]) -> list[Mark]:
    """Where alarms were raised, and what to say there."""
    return [
        (
            a.seq,
            f"<b>drift alarm</b>, {html.escape(format.alarm_title(a))}<br>{format.utc_text(a.at)} UTC"
            f"<br>{format.number(a.before)} → {format.number(a.after)}{wrapped_lines(a.message)}",
        )
        for a in alarms
        if a.seq is not None
    ]


def snapshot_marks(snapshots: Iterable[SnapshotReply]) -> list[Mark]:
    """Where versions were kept, and what to say there."""
    return [
        (
            s.seq,
            f"<b>{html.escape(format.version_name(s.version))}</b>, {html.escape(s.reason) or 'snapshot'}"
            f"<br>{format.utc_text(s.created_at)} UTC<br>from {html.escape(format.version_name(s.parent))}, "
            f"MAE {format.number(s.mae)}",
        )
        for s in snapshots
        if s.seq is not None
    ]


def wrapped_lines(text: str) -> str:
    """A longer text on lines of its own, safe to show."""
    return "".join("<br>" + html.escape(part) for part in textwrap.wrap(text, 48)[:4])


def within_chart(marks: list[Mark], first: float) -> list[Mark]:
    """The newest marks within the chart's data."""
    return [mark for mark in marks if mark[0] >= first][:MAX_MARKS]


def mark_traces(name: str, marks: list[Mark], colour: str, symbol: str, dash: str, top: float) -> list[Any]:
    """Upright lines, each with a mark at its top that says more when pointed at."""
    if not marks:
        return []
    upright = [point for seq, _ in marks for point in (seq, seq, None)]
    common = {"name": name, "legendgroup": name, "yaxis": "y2"}
    style = {"color": colour, "width": 1.5, "dash": dash}
    heights = [0, top, None] * len(marks)
    lines = go.Scatter(
        x=upright,
        y=heights,
        mode="lines",
        line=style,
        hoverinfo="skip",
        showlegend=False,
        uid=f"{name} lines",
        **common,
    )
    heads = go.Scatter(
        x=[seq for seq, _ in marks],
        y=[top] * len(marks),
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 11},
        cliponaxis=False,
        text=[text for _, text in marks],
        hovertemplate="%{text}<extra></extra>",
        uid=name,
        **common,
    )
    return [lines, heads]
