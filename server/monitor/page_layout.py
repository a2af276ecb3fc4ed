"""The monitor's page before the first update, and the status line and notices that updates put into it.

To add a chart or a table, give it a place in :func:`charts` or :func:`tables` and a builder in
:mod:`server.monitor.monitor_app`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import dcc, html

from server.monitor.api_reader import RANGES
from server.monitor.page_elements import aria, chart_card, choice, table_card
from server.monitor.status_texts import Fact, Notice

__all__ = ["INDEX_HTML", "LINKED_CHARTS", "notice_list", "page", "status_line"]

DEFAULT_RANGE = 2_000
MISSED_TICKS = 10  # updates without an answer after which a page says that it has lost the monitor
LOADING = Notice("info", "Loading.", "Asking the server how it does.")
LINKED_CHARTS = ("truth", "rolling", "weights", "coverage", "drift")  # charts with one x axis in common

INDEX_HTML = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<meta name="color-scheme" content="light dark">
<title>{%title%}</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
%3Cpath d='M1 11c3 0 3-6 6-6s3 6 8 3' fill='none' stroke='%230072B2' stroke-width='2.5'/%3E%3C/svg%3E">
{%css%}
</head>
<body>
{%app_entry%}
<noscript>The monitor needs JavaScript.</noscript>
{%config%}{%scripts%}{%renderer%}
</body>
</html>"""


def page(refresh_seconds: float, forecast_view: Any) -> Any:
    """The whole page before its first update.

    Parameters
    ----------
    refresh_seconds
        How often it asks for an update.
    forecast_view
        The forecast's form and chart: both views are on the page, and one is hidden.

    Returns
    -------
    dash component
        The page.
    """
    return html.Div(
        [
            dcc.Location(id="at", refresh=False),
            header(),
            html.Div([], id="lost", role="alert"),
            html.Div(notice_list([LOADING]), id="notices", role="status"),
            html.Main([monitor_view(), forecast_view]),
            confirm_dialog(),
            dcc.Interval(id="tick", interval=round(1000 * refresh_seconds)),
            dcc.Store(id="choice", storage_type="local"),  # the theme somebody chose, kept by the browser
            dcc.Store(id="theme"),  # the theme shown
            dcc.Store(id="shown", data={}),  # digests of what every part was last built of
            dcc.Store(id="beat", data=0),  # the tick of the last update asked for
            dcc.Store(id="answered", data=0),  # the tick of the last update that came
            dcc.Store(id="missed", data=MISSED_TICKS),
            dcc.Store(id="linked", data=LINKED_CHARTS),
            dcc.Store(id="asked"),  # the action that the dialog asks about
            dcc.Store(id="acted"),  # changes when an action was carried out
        ],
        className="page",
    )


def header() -> Any:
    """Name, stream, views, and what people can set."""
    views = html.Nav(
        [
            dcc.Link("Monitor", href="/", id="to-monitor"),
            dcc.Link("Forecast", href="/forecast", id="to-forecast"),
        ],
        **aria("label", "Views"),
    )
    buttons = [
        html.Button("Pause", id="pause", type="button"),
        html.Button("Dark", id="colours", type="button"),
    ]
    return html.Header(
        [html.H1("Millrace monitor"), html.P("", id="stream"), views, html.Div(buttons, className="buttons")]
    )


def monitor_view() -> Any:
    """Status, charts and tables."""
    status = html.Dl([], id="status", className="status")
    return html.Div(
        [status, choice("range", "Labels shown", RANGES, DEFAULT_RANGE), charts(), tables()],
        id="monitor-view",
        className="view",
    )


def charts() -> Any:
    """The charts, those over the journal first."""
    return html.Div(
        [
            chart_card(
                "truth",
                "Truth and prediction",
                "Labels with prediction and interval as served; means of neighbours where many are shown.",
                kind="wide",
            ),
            chart_card(
                "rolling",
                "Error as served, against model_v1 and naive",
                "Mean absolute error over the last 1,000 labels; lower is better. Naive repeats the newest"
                " label of the same key and slot. Point at a mark for more.",
                kind="wide",
            ),
            chart_card("weights", "Expert weights", "Each expert's share of the prediction."),
            chart_card(
                "coverage", "Interval coverage", "Share of the last 1,000 labels inside their interval."
            ),
            chart_card("drift", "Drift by feature", "How far the rows served have moved.", kind="wide low"),
            chart_card("errors", "Where the model is wrong", "Mean absolute error by key and slot."),
            chart_card("delays", "Label lag", "How old a prediction was when its label came."),
        ],
        className="charts",
    )


def tables() -> Any:
    """The tables' places."""
    return html.Div(
        [
            table_card("versions", "Versions"),
            table_card("alarms", "Drift alarms"),
            table_card("quarantine", "Quarantine"),
        ],
        className="tables",
    )


def confirm_dialog() -> Any:
    """What asks before anything is done to the server."""
    field = dcc.Input(id="ask-key", type="password", autoComplete="current-password", placeholder="")
    key = html.Label(["Admin key, where one is set ", field])
    buttons = html.Div(
        [
            html.Button("Cancel", id="ask-no", type="button"),
            html.Button("Yes", id="ask-yes", type="button", className="act strong"),
        ],
        className="buttons",
    )
    content = [html.H2("", id="ask-title"), html.P("", id="ask-text"), key]
    told = html.P("", id="ask-told", role="status")
    return html.Dialog([*content, told, buttons], id="ask", **aria("labelledby", "ask-title"))


def status_line(facts: Sequence[Fact]) -> list[Any]:
    """The facts as terms and definitions."""
    return [
        html.Div(
            [
                html.Dt(fact.label),
                html.Dd(fact.value, className=f"value {fact.tone}".strip()),
                html.Dd(fact.note, className="note"),
            ]
        )
        for fact in facts
    ]


def notice_list(notices: Sequence[Notice]) -> list[Any]:
    """The sentences at the top."""
    return [
        html.P([html.Strong(notice.title), " ", notice.text], className=f"notice {notice.tone}")
        for notice in notices
    ]
