"""The charts over the journal: truth and prediction, errors, weights, coverage and drift, on one x axis."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from server.monitor import format
from server.monitor.api_replies import AlarmReply, DriftReply, OutcomesReply, SnapshotReply, WeightsReply
from server.monitor.chart_canvas import empty_chart, line_trace, new_chart
from server.monitor.chart_marks import event_marks
from server.monitor.palette import EXPERT_COLOURS, OTHERS_COLOUR, Palette

__all__ = ["coverage", "drift_strip", "expert_weights", "interval_band", "rolling_error", "truth"]

MAX_NAME_LENGTH = 24  # characters of a name in a legend
NO_WEIGHTS = "No weights yet: they are noted with the first labels."
NO_DRIFT = "No drift scores yet: they are computed once enough rows were served."


def rolling_error(
    outcomes: OutcomesReply,
    alarms: Sequence[AlarmReply],
    snapshots: Sequence[SnapshotReply],
    palette: Palette,
) -> go.Figure:
    """Rolling error as served, of model_v1 and of a naive guess, with alarms, rollbacks and snapshots."""
    if not outcomes.seq:
        return empty_chart(format.NO_LABELS, palette)
    figure = new_chart(palette, "rolling", y_title="rolling MAE")
    for values, name, colour, dash in (
        (outcomes.naive_mae, "naive", palette.naive, "dot"),
        (outcomes.baseline_mae, "frozen model_v1", palette.frozen, "dash"),
        (outcomes.mae, "as served", palette.served, "solid"),
    ):
        trace = line_trace(outcomes.seq, values, name, colour, dash)
        trace.update(hovertemplate="seq %{x:,.0f}: %{y:,.4~g}")
        figure.add_trace(trace)
    figure.add_traces(event_marks(alarms, snapshots, outcomes.seq[0] or 0, palette))
    figure.update_layout(
        hovermode="closest",
        yaxis={"rangemode": "tozero"},
        yaxis2={"overlaying": "y", "range": [0, 1.02], "visible": False, "fixedrange": True},
    )
    return figure


def truth(outcomes: OutcomesReply, target: str, palette: Palette) -> go.Figure:
    """The true values with the predictions as served and their intervals."""
    if not outcomes.seq:
        return empty_chart(format.NO_LABELS, palette)
    figure = new_chart(palette, "truth", y_title=target or "target")
    figure.add_traces(interval_band(outcomes.seq, outcomes.lower, outcomes.upper, palette))
    predicted = line_trace(outcomes.seq, outcomes.prediction, "prediction", palette.served, "solid")
    predicted.update(hovertemplate="%{y:,.4~g}")
    true = line_trace(outcomes.seq, outcomes.truth, "truth", palette.ink, "dot")
    true.update(hovertemplate="%{y:,.4~g}")
    figure.add_traces([predicted, true])
    figure.update_layout(hovermode="x unified")
    return figure


def interval_band(
    x: Sequence[Any], lower: Sequence[Any], upper: Sequence[Any], palette: Palette
) -> list[Any]:
    """An interval as a filled band."""
    edge = {"x": list(x), "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        go.Scatter(y=list(lower), showlegend=False, name="lower", uid="lower", **edge),
        go.Scatter(
            y=list(upper), fill="tonexty", fillcolor=palette.band, name="interval", uid="interval", **edge
        ),
    ]


def expert_weights(weights: WeightsReply, palette: Palette) -> go.Figure:
    """Each expert's share of the prediction as a stacked area, the lightest ones as one."""
    if not weights.seq:
        return empty_chart(NO_WEIGHTS, palette)
    figure = new_chart(palette, "weights", y_title="share")
    for name, shares, colour in stacked_shares(weights):
        trace = line_trace(weights.seq, shares, name, colour, "solid").update(name=short_name(name))
        trace.update(stackgroup="weights", line_width=0.5, fillcolor=colour, hovertemplate="%{y:.1%}")
        figure.add_trace(trace)
    figure.update_layout(
        hovermode="x unified",
        yaxis={"range": [0, 1], "tickformat": ".0%", "fixedrange": True},
        legend={"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top"},  # in a row it lies over the areas
        margin={"t": 8},
    )
    return figure


def short_name(name: str) -> str:
    """An expert's name, short enough to leave the chart its room."""
    name = name.removeprefix("context:")
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 1]}…"


def stacked_shares(weights: WeightsReply) -> list[tuple[str, list[float], str]]:
    """Names, shares and colours from the heaviest expert to the lightest; shares sum to one everywhere."""
    positive = [[max(0.0, weight or 0.0) for weight in column] for column in weights.weights]
    totals = [sum(column) or 1.0 for column in zip(*positive, strict=True)]
    shares = [[w / total for w, total in zip(column, totals, strict=True)] for column in positive]
    by_weight = sorted(range(len(shares)), key=lambda i: -sum(shares[i]))
    shown = by_weight if len(by_weight) <= len(EXPERT_COLOURS) else by_weight[: len(EXPERT_COLOURS) - 1]
    found = [(weights.experts[i], shares[i], EXPERT_COLOURS[place]) for place, i in enumerate(shown)]
    if rest := by_weight[len(shown) :]:
        summed = [sum(shares[i][at] for i in rest) for at in range(len(weights.seq))]
        found.append((f"{len(rest)} others", summed, OTHERS_COLOUR))
    return found


def coverage(outcomes: OutcomesReply, goal: float | None, palette: Palette) -> go.Figure:
    """Share of labels inside the interval served, and the share it aims at."""
    if not any(value is not None for value in outcomes.coverage):
        return empty_chart(format.NO_LABELS, palette)
    figure = new_chart(palette, "coverage", y_title="covered")
    if goal is not None:
        ends = [outcomes.seq[0], outcomes.seq[-1]]
        figure.add_trace(line_trace(ends, [goal, goal], "goal", palette.frozen, "dash"))
    figure.add_trace(line_trace(outcomes.seq, outcomes.coverage, "covered", palette.served, "solid"))
    figure.update_traces(hovertemplate="%{y:.1%}")
    figure.update_layout(hovermode="x unified", yaxis={"tickformat": ".0%", "rangemode": "normal"})
    return figure


def drift_strip(drift: DriftReply, outcomes: OutcomesReply, palette: Palette) -> go.Figure:
    """How far each feature lies from what is usual, a strip each, where the journal was at that moment."""
    seen = moments_by_seq(drift, outcomes)
    if not seen or not drift.scores:
        return empty_chart(NO_DRIFT, palette)
    figure = new_chart(palette, "drift", y_title="")
    figure.add_trace(
        go.Heatmap(
            x=list(seen), y=list(drift.scores),
            z=[[column[place] for place in seen.values()] for column in drift.scores.values()],
            colorscale="Cividis", zmin=0, zmax=2, uid="drift", hoverongaps=False,
            colorbar={"thickness": 10, "title": {"text": "drift", "side": "right"}},
            hovertemplate="%{y}, seq %{x:,.0f}: %{z:.3g}<extra></extra>",
        )
    )  # fmt: skip
    rows = {"tickformat": None, "type": "category", "autorange": "reversed"}
    figure.update_layout(yaxis=rows, margin={"t": 8})
    return figure


def moments_by_seq(drift: DriftReply, outcomes: OutcomesReply) -> dict[float, int]:
    """The journal's seq at each of the drift's moments within the outcomes, and the moment's place."""
    known = [(at, seq) for at, seq in zip(outcomes.received_at, outcomes.seq, strict=False) if at and seq]
    times = [at for at, _ in known]
    places = [(bisect.bisect_right(times, at), place) for place, at in enumerate(drift.at)]
    return {known[found - 1][1]: place for found, place in places if found}
