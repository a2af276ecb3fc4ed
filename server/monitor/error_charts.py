"""The charts over something else than the journal: where the model is wrong, and how late labels come."""

from __future__ import annotations

import plotly.graph_objects as go

from server.monitor import format
from server.monitor.api_replies import ErrorsReply
from server.monitor.chart_canvas import empty_chart, new_chart
from server.monitor.palette import Palette

__all__ = ["delay_histogram", "error_map"]

NO_DELAYS = "No label lag yet: no label of a served prediction has come."


def error_map(errors: ErrorsReply, palette: Palette) -> go.Figure:
    """Mean absolute error by key and slot: where the model is wrong."""
    if not any(value is not None for row in errors.mae for value in row):
        return empty_chart(format.NO_LABELS, palette)
    figure = new_chart(palette, "errors", y_title=errors.key, x_title=errors.slot)
    keys = [name or "all" for name in errors.keys]
    figure.add_trace(
        go.Heatmap(
            x=list(errors.slots), y=keys, z=[list(row) for row in errors.mae], uid="errors",
            colorscale="Cividis", zmin=0, hoverongaps=False, xgap=1, ygap=1, customdata=hover_texts(errors),
            colorbar={"thickness": 10, "title": {"text": "MAE", "side": "right"}, "tickformat": ",~g"},
            hovertemplate="%{y}, %{x}: %{customdata}<extra></extra>",
        )
    )  # fmt: skip
    category = {"type": "category", "tickformat": None, "showgrid": False}
    figure.update_layout(xaxis=category | {"tickangle": 0}, yaxis=category, margin={"t": 8})
    return figure


def hover_texts(errors: ErrorsReply) -> list[list[str]]:
    """What each field of the map says: error, lean and count."""
    return [
        [
            f"MAE {format.number(e)}, {bias_text(b)}, {n:,} labels"
            for e, b, n in zip(mae, bias, count, strict=False)
        ]
        for mae, bias, count in zip(errors.mae, errors.bias, errors.n, strict=False)
    ]


def bias_text(bias: float | None) -> str:
    """A bias in words."""
    if bias is None:
        return "no bias known"
    return f"too {'high' if bias > 0 else 'low'} by {format.number(abs(bias))}"


def delay_histogram(errors: ErrorsReply, palette: Palette) -> go.Figure:
    """How old predictions were when their labels came: a histogram with a logarithmic axis."""
    places = [i for i, count in enumerate(errors.delay_counts) if count]
    if not places:
        return empty_chart(NO_DELAYS, palette)
    shown = range(places[0], places[-1] + 1)
    edges = errors.delay_edges
    names = [format.duration(edges[i]) for i in shown]
    counts = [errors.delay_counts[i] for i in shown]
    figure = new_chart(palette, "delays", y_title="labels", x_title="from prediction to label, at least")
    figure.add_trace(
        go.Bar(
            x=names, y=counts, marker={"color": palette.lag}, uid="delays", showlegend=False,
            customdata=[f"{format.duration(edges[i])} to {format.duration(edges[i + 1])}" for i in shown],
            hovertemplate="%{customdata}: %{y:,} labels<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(xaxis={"type": "category", "tickformat": None}, bargap=0.08, margin={"t": 8})
    return figure
