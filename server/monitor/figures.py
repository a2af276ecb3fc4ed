"""The monitor's charts: pure functions from what the API said to plotly figures.

Colours are those of Okabe and Ito, "Color Universal Design" (2008, https://jfly.uni-koeln.de/color/),
told apart with every kind of colour vision; lines also differ in dash, marks in shape.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import plotly.graph_objects as go

from server.monitor import words
from server.monitor.client import Alarm, Column, Outcomes, Snapshot

__all__ = ["DARK", "LIGHT", "PALETTES", "Palette", "label_lag", "message", "recent_truth", "rolling_error"]

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
# More marks than this make a fence.
MOST_MARKS = 200


class Palette(msgspec.Struct, frozen=True):
    """Colours of one theme, named by what they show."""

    ink: str
    muted: str
    grid: str
    paper: str
    served: str
    band: str
    frozen: str
    alarm: str
    rollback: str
    snapshot: str
    lag: str


LIGHT = Palette(
    ink="#1b1f24",
    muted="#59616b",
    grid="#e6e9ed",
    paper="#ffffff",
    served="#0072B2",
    band="rgba(0, 114, 178, 0.16)",
    frozen="#6b7280",
    alarm="#D55E00",
    rollback="#A8518A",  # reddish purple #CC79A7, darker for contrast on white
    snapshot="#009E73",
    lag="#009E73",
)
DARK = Palette(
    ink="#e8eaed",
    muted="#a3abb5",
    grid="#2b3138",
    paper="#1a1e23",
    served="#56B4E9",
    band="rgba(86, 180, 233, 0.20)",
    frozen="#9aa3ad",
    alarm="#E69F00",
    rollback="#CC79A7",
    snapshot="#2FBF95",  # bluish green #009E73, lighter for contrast on black
    lag="#2FBF95",
)
PALETTES: Mapping[str, Palette] = {"light": LIGHT, "dark": DARK}


def rolling_error(
    outcomes: Outcomes, alarms: Sequence[Alarm], snapshots: Sequence[Snapshot], palette: Palette
) -> go.Figure:
    """Rolling error as served against the frozen model_v1, with alarms, rollbacks and snapshots as marks."""
    if not outcomes.seq:
        return message(words.NO_LABELS, palette)
    figure = canvas(palette, "rolling", y_title="rolling MAE")
    figure.add_trace(error_line(outcomes, outcomes.baseline_mae, "frozen model_v1", palette.frozen, "dash"))
    figure.add_trace(error_line(outcomes, outcomes.mae, "as served", palette.served, "solid"))
    first = outcomes.seq[0] or 0
    rollbacks = [s for s in snapshots if s.reason == "rollback"]
    saved = [s for s in snapshots if s.reason != "rollback"]
    for name, marks, colour, symbol, dash, top in (
        ("snapshot", snapshot_marks(saved), palette.snapshot, "circle", "dot", 0.06),
        ("rollback", snapshot_marks(rollbacks), palette.rollback, "diamond", "dashdot", 1.0),
        ("drift alarm", alarm_marks(alarms), palette.alarm, "triangle-down", "solid", 1.0),
    ):
        figure.add_traces(marked_lines(name, since(marks, first), colour, symbol, dash, top))
    figure.update_layout(
        hovermode="closest",
        yaxis={"rangemode": "tozero"},
        yaxis2={"overlaying": "y", "range": [0, 1.02], "visible": False, "fixedrange": True},
    )
    return figure


def recent_truth(outcomes: Outcomes, target: str, palette: Palette) -> go.Figure:
    """The latest true values with the predictions as served and their intervals."""
    if not outcomes.seq:
        return message(words.NO_LABELS, palette)
    figure = canvas(palette, "recent", y_title=target or "target")
    edge = {"x": outcomes.seq, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_trace(go.Scatter(y=outcomes.lower, showlegend=False, name="lower", uid="lower", **edge))
    figure.add_trace(
        go.Scatter(
            y=outcomes.upper, fill="tonexty", fillcolor=palette.band, name="interval", uid="interval", **edge
        )
    )
    figure.add_trace(line(outcomes.seq, outcomes.prediction, "prediction", palette.served, "solid"))
    figure.add_trace(line(outcomes.seq, outcomes.truth, "truth", palette.ink, "dot"))
    figure.data[2].update(customdata=intervals(outcomes), hovertemplate="%{customdata}")
    figure.data[3].update(hovertemplate="%{y:,.4~g}")
    figure.update_layout(hovermode="x unified")
    return figure


def label_lag(outcomes: Outcomes, palette: Palette) -> go.Figure:
    """How old a prediction was when its label came."""
    known = [value for value in outcomes.delay_seconds if value is not None]
    if not known:
        return message("No label lag yet: no label of a served prediction has come.", palette)
    size, unit = lag_unit(max(known))
    values = [None if value is None else value / size for value in outcomes.delay_seconds]
    figure = canvas(palette, "lag", y_title=f"lag in {unit}")
    trace = line(outcomes.seq, values, "label lag", palette.lag, "solid")
    trace.update(
        showlegend=False,
        line_width=1.25,
        customdata=[words.duration(value) for value in outcomes.delay_seconds],
        hovertemplate="seq %{x:,.0f}: %{customdata}<extra></extra>",
    )
    figure.add_trace(trace)
    figure.update_layout(yaxis={"rangemode": "tozero"})
    return figure


def message(text: str, palette: Palette | None = None) -> go.Figure:
    """An empty chart that says why it is empty."""
    colour = palette.muted if palette else "#808890"
    broken = "<br>".join(html.escape(part) for part in textwrap.wrap(text, 38))
    place = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
    figure = go.Figure()
    figure.update_layout(
        template=None,  # plotly adds 7 kB of colours otherwise
        annotations=[{"text": broken, "font": {"size": 14, "color": colour, "family": FONT}, **place}],
        xaxis={"visible": False},
        yaxis={"visible": False},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
    )
    return figure


def canvas(palette: Palette, revision: str, *, y_title: str) -> go.Figure:
    """An empty chart over the journal, whose zoom survives updates."""
    axis = {
        "gridcolor": palette.grid,
        "zeroline": False,
        "tickfont": {"color": palette.muted, "size": 12},
        "automargin": True,
    }
    title = {"font": {"color": palette.muted, "size": 12}, "standoff": 8}
    font = {"family": FONT, "color": palette.ink, "size": 13}
    figure = go.Figure()
    figure.update_layout(
        template=None,  # plotly adds 7 kB of colours otherwise
        uirevision=revision,
        font=font,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.03, "yanchor": "bottom"},
        hoverlabel={
            "bgcolor": palette.paper,
            "bordercolor": palette.muted,
            "font": font,
        },
        xaxis={**axis, "title": {"text": "labels received (journal seq)", **title}, "tickformat": ",d"},
        yaxis={**axis, "title": {"text": y_title, **title}, "tickformat": ",~g"},
        dragmode="zoom",
    )
    return figure


def line(x: Sequence[float | None], y: Sequence[float | None], name: str, colour: str, dash: str) -> Any:
    """One line."""
    style = {"color": colour, "width": 2, "dash": dash}
    return go.Scatter(x=list(x), y=list(y), name=name, uid=name, mode="lines", line=style)


def error_line(outcomes: Outcomes, values: Column, name: str, colour: str, dash: str) -> Any:
    """One error line, which on hovering tells both errors."""
    trace = line(outcomes.seq, values, name, colour, dash)
    trace.update(customdata=comparisons(outcomes), hovertemplate="%{customdata}<extra></extra>")
    return trace


def comparisons(outcomes: Outcomes) -> list[str]:
    """What hovering over an error line says, point by point."""
    padded = zip(outcomes.seq, outcomes.mae, outcomes.baseline_mae, strict=False)
    return [
        f"seq {words.number(seq)}<br>as served {words.number(mae)}<br>frozen model_v1 {words.number(base)}"
        for seq, mae, base in padded
    ]


def intervals(outcomes: Outcomes) -> list[str]:
    """What hovering over a prediction says: its value and interval."""
    columns = zip(outcomes.prediction, outcomes.lower, outcomes.upper, strict=False)
    return [f"{words.number(p)} ({words.number(low)} to {words.number(high)})" for p, low, high in columns]


def lag_unit(seconds: float) -> tuple[float, str]:
    """The unit of a lag axis: its size in seconds and its name."""
    for least, size, unit in words.UNITS:
        if seconds >= least:
            return size, unit
    return 0.001, "ms"


def alarm_marks(alarms: Iterable[Alarm]) -> list[tuple[int, str]]:
    """Where alarms were raised, and what to say there."""
    return [
        (
            a.seq,
            f"<b>drift alarm</b>, {html.escape(words.about(a))}<br>{words.stamp(a.at)} UTC"
            f"<br>{words.number(a.before)} → {words.number(a.after)}{wrapped(a.message)}",
        )
        for a in alarms
        if a.seq is not None
    ]


def snapshot_marks(snapshots: Iterable[Snapshot]) -> list[tuple[int, str]]:
    """Where versions were kept, and what to say there."""
    return [
        (
            s.seq,
            f"<b>{html.escape(words.version(s.version))}</b>, {html.escape(s.reason) or 'snapshot'}"
            f"<br>{words.stamp(s.created_at)} UTC<br>from {html.escape(words.version(s.parent))}, "
            f"MAE {words.number(s.mae)}",
        )
        for s in snapshots
        if s.seq is not None
    ]


def wrapped(text: str) -> str:
    """A longer text on lines of its own, safe to show."""
    return "".join("<br>" + html.escape(part) for part in textwrap.wrap(text, 48)[:4])


def since(marks: list[tuple[int, str]], first: float) -> list[tuple[int, str]]:
    """The newest marks within the chart's data."""
    return [mark for mark in marks if mark[0] >= first][:MOST_MARKS]


def marked_lines(
    name: str, marks: list[tuple[int, str]], colour: str, symbol: str, dash: str, top: float
) -> list[Any]:
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
