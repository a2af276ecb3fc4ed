"""The charts over the journal, on one x axis: truth and prediction, errors, expert weights, coverage, drift.

Each function takes replies of the API and a palette, and gives a figure; without data the figure says why.
"""

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

MAX_NAME_LENGTH = 24  # characters in a legend
DRIFT_COLOUR_MAX = 2.0  # a score of 1 is where drift begins, so that it lies in the middle of the colours
NO_WEIGHTS = "No weights yet: they are noted with the first labels."
NO_DRIFT = "No drift scores yet: they are computed once enough rows were served."


def rolling_error(
    outcomes: OutcomesReply,
    alarms: Sequence[AlarmReply],
    snapshots: Sequence[SnapshotReply],
    palette: Palette,
) -> go.Figure:
    """Rolling error as served, of model_v1 and of a naive guess.

    Parameters
    ----------
    outcomes
        Scored predictions, in target units.
    alarms, snapshots
        Marked where they happened; a snapshot may be a rollback.
    palette
        The theme's colours.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.
    """
    if not outcomes.seq:
        return empty_chart(format.NO_LABELS, palette)
    figure = new_chart(palette, "rolling", y_title="rolling MAE")
    for values, name, colour, dash in (
        (outcomes.naive_mae, "naive", palette.naive, "dot"),
        (outcomes.baseline_mae, "frozen model_v1", palette.frozen, "dash"),
        (outcomes.mae, "as served", palette.served, "solid"),  # last, so that it lies on top
    ):
        trace = line_trace(outcomes.seq, values, name, colour=colour, dash=dash)
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
    """The true values with the predictions as served and their intervals.

    Parameters
    ----------
    outcomes
        Scored predictions, in target units.
    target
        The target's name.
    palette
        The theme's colours.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.
    """
    if not outcomes.seq:
        return empty_chart(format.NO_LABELS, palette)
    figure = new_chart(palette, "truth", y_title=target or "target")
    figure.add_traces(interval_band(outcomes.seq, outcomes.lower, outcomes.upper, palette))
    for values, name, colour, dash in (
        (outcomes.prediction, "prediction", palette.served, "solid"),
        (outcomes.truth, "truth", palette.ink, "dot"),
    ):
        trace = line_trace(outcomes.seq, values, name, colour=colour, dash=dash)
        figure.add_trace(trace.update(hovertemplate="%{y:,.4~g}"))
    figure.update_layout(hovermode="x unified")
    return figure


def interval_band(
    x: Sequence[Any], lower: Sequence[Any], upper: Sequence[Any], palette: Palette
) -> list[Any]:
    """An interval as a filled band.

    Parameters
    ----------
    x
        Where.
    lower, upper
        Its bounds there.
    palette
        The theme's colours.

    Returns
    -------
    list
        Two traces. Plotly fills from the second to the one before it, so they have to follow each other.
    """
    edge = {"x": list(x), "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    filled = {"fill": "tonexty", "fillcolor": palette.band, "name": "interval", "uid": "interval"}
    return [
        go.Scatter(y=list(lower), showlegend=False, name="lower", uid="lower", **edge),
        go.Scatter(y=list(upper), **filled, **edge),
    ]


def expert_weights(weights: WeightsReply, palette: Palette) -> go.Figure:
    """Each expert's share of the prediction as a stacked area, the lightest ones as one.

    Parameters
    ----------
    weights
        A column of weights for each expert.
    palette
        The theme's colours; the experts' own are the same in both themes.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.
    """
    if not weights.seq:
        return empty_chart(NO_WEIGHTS, palette)
    figure = new_chart(palette, "weights", y_title="share")
    for name, shares, colour in stacked_shares(weights):
        trace = line_trace(weights.seq, shares, name, colour=colour, dash="solid")
        trace.update(name=short_name(name), hovertemplate="%{y:.1%}")
        trace.update(stackgroup="weights", line_width=0.5, fillcolor=colour)
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
    stack = [(weights.experts[i], shares[i], EXPERT_COLOURS[rank]) for rank, i in enumerate(shown)]
    if others := by_weight[len(shown) :]:
        summed = [sum(shares[i][column] for i in others) for column in range(len(weights.seq))]
        stack.append((f"{len(others)} others", summed, OTHERS_COLOUR))
    return stack


def coverage(outcomes: OutcomesReply, goal: float | None, palette: Palette) -> go.Figure:
    """Share of labels inside the interval served, and the share it aims at.

    Parameters
    ----------
    outcomes
        Scored predictions.
    goal
        In (0, 1); None where the server does not say.
    palette
        The theme's colours.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.
    """
    if not any(value is not None for value in outcomes.coverage):
        return empty_chart(format.NO_LABELS, palette)
    figure = new_chart(palette, "coverage", y_title="covered")
    if goal is not None:
        ends = [outcomes.seq[0], outcomes.seq[-1]]
        figure.add_trace(line_trace(ends, [goal, goal], "goal", colour=palette.frozen, dash="dash"))
    covered = line_trace(outcomes.seq, outcomes.coverage, "covered", colour=palette.served, dash="solid")
    figure.add_trace(covered)
    figure.update_traces(hovertemplate="%{y:.1%}")
    figure.update_layout(hovermode="x unified", yaxis={"tickformat": ".0%", "rangemode": "normal"})
    return figure


def drift_strip(drift: DriftReply, outcomes: OutcomesReply, palette: Palette) -> go.Figure:
    """How far each feature and the prediction lie from what is usual, a strip each.

    Parameters
    ----------
    drift
        Scores over time, of which 1 is where drift begins.
    outcomes
        Tell where the journal was at each of those times.
    palette
        The theme's colours.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.
    """
    columns_by_seq = drift_columns_by_seq(drift, outcomes)
    if not columns_by_seq or not drift.scores:
        return empty_chart(NO_DRIFT, palette)
    figure = new_chart(palette, "drift", y_title="")
    strips = go.Heatmap(
        x=list(columns_by_seq),
        y=list(drift.scores),
        z=[[scores[column] for column in columns_by_seq.values()] for scores in drift.scores.values()],
        colorscale="Cividis",  # made to be told apart without colour vision
        zmin=0,
        zmax=DRIFT_COLOUR_MAX,
        uid="drift",
        hoverongaps=False,
        colorbar={"thickness": 10, "title": {"text": "drift", "side": "right"}},
        hovertemplate="%{y}, seq %{x:,.0f}: %{z:.3g}<extra></extra>",
    )
    figure.add_trace(strips)
    rows = {"tickformat": None, "type": "category", "autorange": "reversed"}
    figure.update_layout(yaxis=rows, margin={"t": 8})
    return figure


def drift_columns_by_seq(drift: DriftReply, outcomes: OutcomesReply) -> dict[float, int]:
    """The drift scores' columns within the outcomes, by the journal's seq at their time.

    Scores are noted as rows are served, and there may be no label for long: of several at one seq the newest
    counts.
    """
    known = [(at, seq) for at, seq in zip(outcomes.received_at, outcomes.seq, strict=False) if at and seq]
    times = [at for at, _ in known]
    counts = [bisect.bisect_right(times, at) for at in drift.at]  # outcomes known by then
    return {known[count - 1][1]: column for column, count in enumerate(counts) if count}
