"""What every chart of the monitor is drawn on: axes, fonts and colours, or a sentence instead of a chart."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from server.monitor.palette import Palette

__all__ = ["SEQ_AXIS", "empty_chart", "line_trace", "new_chart", "trace_uid"]

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
SEQ_AXIS = "labels received (journal seq)"
NEUTRAL_GREY = "#808890"
EMPTY_LINE_LENGTH = 38  # characters; Plotly does not break lines itself


def empty_chart(text: str, palette: Palette | None = None) -> go.Figure:
    """An empty chart that says why it is empty.

    Parameters
    ----------
    text
        The reason; it is broken into lines, and shown as plain text.
    palette
        The theme's; None before the page knows its theme, for a grey that can be read in both.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.
    """
    colour = palette.muted if palette else NEUTRAL_GREY
    broken = "<br>".join(html.escape(part) for part in textwrap.wrap(text, EMPTY_LINE_LENGTH))
    place = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
    figure = go.Figure()
    figure.update_layout(
        template=None,  # Plotly adds 7 kB of colours to every figure otherwise
        annotations=[{"text": broken, "font": {"size": 14, "color": colour, "family": FONT}, **place}],
        xaxis={"visible": False},
        yaxis={"visible": False},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
    )
    return figure


def new_chart(palette: Palette, revision: str, *, y_title: str, x_title: str = SEQ_AXIS) -> go.Figure:
    """A chart with axes and without lines, whose zoom survives updates.

    Parameters
    ----------
    palette
        The theme's colours.
    revision
        Plotly's ``uirevision``: while it stays the same, a new figure keeps what people did to the chart.
    y_title, x_title
        The axes' titles. Unless another one is given, the x axis is the journal's, which charts share.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.
    """
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
        template=None,  # Plotly adds 7 kB of colours to every figure otherwise
        uirevision=revision,
        font=font,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 12, "t": 34, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.03, "yanchor": "bottom"},
        hoverlabel={
            "bgcolor": palette.paper,
            "bordercolor": palette.muted,
            "font": font,
        },
        xaxis={**axis, "title": {"text": x_title, **title}, "tickformat": ",d"},
        yaxis={**axis, "title": {"text": y_title, **title}, "tickformat": ",~g"},
        dragmode="zoom",
    )
    return figure


def line_trace(
    x: Sequence[float | None], y: Sequence[float | None], name: str, *, colour: str, dash: str
) -> Any:
    """One line of a chart.

    Parameters
    ----------
    x, y
        Its points; None leaves a gap.
    name
        In the legend.
    colour, dash
        Plotly's: lines differ in both, so that they are told apart without colour vision too.

    Returns
    -------
    plotly.graph_objects.Scatter
        The trace. Its ``uid`` lets Plotly keep what people hid in the legend.
    """
    style = {"color": colour, "width": 2, "dash": dash}
    return go.Scatter(x=list(x), y=list(y), name=name, uid=trace_uid(name), mode="lines", line=style)


def trace_uid(name: str) -> str:
    """A uid of its own for each name; Plotly finds elements by it as a CSS class, which few names are."""
    return f"t{name.encode().hex()}"
