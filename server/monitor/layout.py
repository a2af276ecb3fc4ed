"""The monitor's page: its frame, and the parts that updates put into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import dcc, html

from server.monitor import figures, words
from server.monitor.client import Alarm, Alarms, Moment, Snapshot, Snapshots

__all__ = ["INDEX", "alarms_table", "notice_list", "page", "status_line", "versions_table"]

ROWS = 12
WAITING = "Waiting for the server's first answer."
LOADING = words.Notice("info", "Loading.", "Asking the server how it does.")

INDEX = """<!DOCTYPE html>
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


def page(refresh_seconds: float) -> Any:
    """The whole page before its first update."""
    return html.Div(
        [
            html.Header([html.H1("Millrace monitor"), html.P("", id="stream")]),
            html.Div([], id="lost", role="alert"),
            html.Div(notice_list([LOADING]), id="notices", role="status"),
            html.Dl([], id="status", className="status", **aria("label", "Status")),
            html.Main([charts(), tables()]),
            dcc.Interval(id="tick", interval=round(1000 * refresh_seconds)),
            dcc.Store(id="theme"),
            dcc.Store(id="shown", data={}),
            dcc.Store(id="answered", data=0),
        ],
        className="page",
    )


def charts() -> Any:
    """The three charts."""
    return html.Div(
        [
            chart(
                "rolling",
                "Error as served against the frozen model_v1",
                "Mean absolute error over the last 1,000 labels; lower is better. Point at a mark for more.",
                "wide",
            ),
            chart("recent", "Truth and prediction", "The newest labels, with the prediction as served."),
            chart("lag", "Label lag", "How old a prediction was when its label came.", "small"),
        ],
        className="charts",
    )


def chart(name: str, title: str, caption: str, kind: str = "") -> Any:
    """One chart with its title and a sentence on what it shows."""
    graph = dcc.Graph(
        id=name,
        figure=figures.message(WAITING),
        config={"displayModeBar": False, "responsive": True},
    )
    plot = html.Div(graph, className="plot")
    content = [html.H2(title, id=f"{name}-title"), html.Figure([html.Figcaption(caption), plot])]
    return html.Section(content, className=f"card {kind}".strip(), **aria("labelledby", f"{name}-title"))


def tables() -> Any:
    """The two tables' places."""
    return html.Div([section("versions", "Versions"), section("alarms", "Drift alarms")], className="tables")


def section(name: str, title: str) -> Any:
    """One table's place."""
    return html.Section(
        [html.H2(title, id=f"{name}-title"), html.Div(empty(WAITING), id=name)],
        className="card",
        **aria("labelledby", f"{name}-title"),
    )


def status_line(facts: Sequence[words.Fact]) -> list[Any]:
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


def notice_list(notices: Sequence[words.Notice]) -> list[Any]:
    """The sentences at the top."""
    return [
        html.P([html.Strong(notice.title), " ", notice.text], className=f"notice {notice.tone}")
        for notice in notices
    ]


def versions_table(found: Snapshots) -> Any:
    """The newest versions, the active one marked."""
    if not found.snapshots:
        return empty("No version yet: the first is kept by bootstrap.")
    heads = ("Version", "Parent", "Reason", "Seq", "Time (UTC)", "MAE")
    rows = [version_row(s, active=s.version == found.active) for s in found.snapshots[:ROWS]]
    return table(heads, rows, len(found.snapshots), "versions")


def version_row(snapshot: Snapshot, *, active: bool) -> Any:
    """One version."""
    mark: list[Any] = [" ", html.Span("active", className="badge")] if active else []
    cells = [
        html.Th([words.version(snapshot.version), *mark], scope="row"),
        html.Td(words.version(snapshot.parent)),
        html.Td(snapshot.reason or words.NONE),
        html.Td(words.count(snapshot.seq), className="figure"),
        html.Td(time(snapshot.created_at)),
        html.Td(words.number(snapshot.mae), className="figure"),
    ]
    return html.Tr(cells, className="active" if active else "")


def alarms_table(found: Alarms) -> Any:
    """The newest alarms."""
    if not found.alarms:
        return empty("No alarm yet: no detector has found a drift.")
    heads = ("Seq", "Time (UTC)", "Alarm", "Before → after", "Message")
    return table(heads, [alarm_row(a) for a in found.alarms[:ROWS]], len(found.alarms), "alarms")


def alarm_row(alarm: Alarm) -> Any:
    """One alarm."""
    return html.Tr(
        [
            html.Th(words.count(alarm.seq), scope="row", className="figure"),
            html.Td(time(alarm.at)),
            html.Td(words.found_by(alarm), className="text short"),
            html.Td(f"{words.number(alarm.before)} → {words.number(alarm.after)}", className="figure"),
            html.Td(alarm.message, className="text"),
        ]
    )


def table(heads: Sequence[str], rows: Sequence[Any], total: int, name: str) -> Any:
    """A table that scrolls sideways by itself where the page is narrow."""
    body = html.Table([html.Thead(html.Tr([html.Th(h, scope="col") for h in heads])), html.Tbody(rows)])
    labelled = aria("labelledby", f"{name}-title")
    more = total - len(rows)
    rest = [html.P(f"and {more:,} older {name}", className="more")] if more > 0 else []
    return html.Div([html.Div(body, className="scroll", role="region", tabIndex="0", **labelled), *rest])


def aria(name: str, value: str) -> dict[str, Any]:
    """One attribute for assistive technology."""
    return {f"aria-{name}": value}


def time(at: Moment) -> Any:
    """A time a program can read too."""
    found = words.moment(at)
    return html.Time(words.stamp(at)[:16], title=words.stamp(at), dateTime=found.isoformat() if found else "")


def empty(text: str) -> Any:
    """Why there is nothing here."""
    return html.P(text, className="empty")
