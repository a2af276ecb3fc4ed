"""The charts that are not over the journal: where the model is wrong, and how late labels come."""

from __future__ import annotations

import plotly.graph_objects as go

from server.monitor import format
from server.monitor.api_replies import ErrorsReply
from server.monitor.chart_canvas import empty_chart, new_chart
from server.monitor.palette import Palette

__all__ = ["delay_histogram", "error_map"]

NO_DELAYS = "No label lag yet: no label of a served prediction has come."


def error_map(errors: ErrorsReply, palette: Palette) -> go.Figure:
    """Mean absolute error by key and slot: where the model is wrong.

    Parameters
    ----------
    errors
        A row of errors for each key, in target units.
    palette
        The theme's colours.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.
    """
    if not any(value is not None for row in errors.mae for value in row):
        return empty_chart(format.NO_LABELS, palette)
    figure = new_chart(palette, "errors", y_title=errors.key, x_title=errors.slot)
    cells = go.Heatmap(
        x=list(errors.slots),
        y=[name or "all" for name in errors.keys],
        z=[list(row) for row in errors.mae],
        uid="errors",
        colorscale="Cividis",
        zmin=0,
        hoverongaps=False,
        xgap=1,
        ygap=1,
        customdata=hover_texts(errors),
        colorbar={"thickness": 10, "title": {"text": "MAE", "side": "right"}, "tickformat": ",~g"},
        hovertemplate="%{y}, %{x}: %{customdata}<extra></extra>",
    )
    figure.add_trace(cells)
    category = {"type": "category", "tickformat": None, "showgrid": False}
    figure.update_layout(xaxis=category | {"tickangle": 0}, yaxis=category, margin={"t": 8})
    return figure


def hover_texts(errors: ErrorsReply) -> list[list[str]]:
    """What each cell of the map shows when pointed at: error, bias and count."""
    return [
        [
            f"MAE {format.number(e)}, {bias_text(b)}, {n:,} labels"
            for e, b, n in zip(mae, bias, count, strict=False)
        ]
        for mae, bias, count in zip(errors.mae, errors.bias, errors.n, strict=False)
    ]


def bias_text(bias: float | None) -> str:
    """A bias, prediction minus truth, in words."""
    if bias is None:
        return "no bias known"
    return f"too {'high' if bias > 0 else 'low'} by {format.number(abs(bias))}"


def delay_histogram(errors: ErrorsReply, palette: Palette) -> go.Figure:
    """How old predictions were when their labels came.

    Parameters
    ----------
    errors
        Counts between edges that grow by a factor, in seconds.
    palette
        The theme's colours.

    Returns
    -------
    plotly.graph_objects.Figure
        A bar for each of them, from the first to the last that has labels.
    """
    filled = [i for i, count in enumerate(errors.delay_counts) if count]
    if not filled:
        return empty_chart(NO_DELAYS, palette)
    shown = range(filled[0], filled[-1] + 1)
    edges = errors.delay_edges
    figure = new_chart(palette, "delays", y_title="labels", x_title="from prediction to label, at least")
    bars = go.Bar(
        x=[format.duration(edges[i]) for i in shown],
        y=[errors.delay_counts[i] for i in shown],
        marker={"color": palette.lag},
        uid="delays",
        showlegend=False,
        customdata=[f"{format.duration(edges[i])} to {format.duration(edges[i + 1])}" for i in shown],
        hovertemplate="%{customdata}: %{y:,} labels<extra></extra>",
    )
    figure.add_trace(bars)
    figure.update_layout(xaxis={"type": "category", "tickformat": None}, bargap=0.08, margin={"t": 8})
    return figure
