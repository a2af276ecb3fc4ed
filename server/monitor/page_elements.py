"""Small pieces of the page that its parts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html

from server.monitor import format
from server.monitor.api_replies import Timestamp
from server.monitor.chart_canvas import empty_chart

__all__ = [
    "act_button",
    "aria",
    "chart_card",
    "choice",
    "empty_note",
    "table_card",
    "table_element",
    "time_element",
]

WAITING_TEXT = "Waiting for the server's first answer."
GRAPH_CONFIG: Any = {"displayModeBar": False, "responsive": True}


def chart_card(name: str, title: str, caption: str, kind: str = "", waiting: str = WAITING_TEXT) -> Any:
    """One chart with its title and a sentence on what it shows."""
    graph = dcc.Graph(id=name, figure=empty_chart(waiting), config=GRAPH_CONFIG)
    plot = html.Div(graph, className="plot", role="img", **aria("labelledby", f"{name}-title {name}-caption"))
    content = [
        html.H2(title, id=f"{name}-title"),
        html.Figure([html.Figcaption(caption, id=f"{name}-caption"), plot]),
    ]
    return html.Section(content, className=f"card {kind}".strip(), **aria("labelledby", f"{name}-title"))


def choice(name: str, title: str, options: Mapping[Any, str], value: Any) -> Any:
    """A choice of one by buttons; its value is the data of the store ``{"type": "picked", "of": name}``.

    (Dash 4's RadioItems tell a screen reader of a list box whose options hold inputs, and have no name.)
    """
    buttons = [
        html.Button(
            label, id={"type": "pick", "of": name, "value": option}, type="button", className="pick",
            **aria("pressed", str(option == value).lower()),
        )
        for option, label in options.items()
    ]  # fmt: skip
    head = html.Span(title, id=f"{name}-title")
    store = dcc.Store(id={"type": "picked", "of": name}, data=value)
    group = [head, html.Div(buttons, className="picks"), store]
    return html.Div(group, className="picker", role="group", **aria("labelledby", f"{name}-title"))


def table_card(name: str, title: str) -> Any:
    """One table's place."""
    return html.Section(
        [html.H2(title, id=f"{name}-title"), html.Div(empty_note(WAITING_TEXT), id=name)],
        className="card",
        **aria("labelledby", f"{name}-title"),
    )


def table_element(heads: Sequence[str], rows: Sequence[Any], total: int, name: str) -> Any:
    """A table that scrolls sideways by itself where the page is narrow."""
    body = html.Table([html.Thead(html.Tr([html.Th(h, scope="col") for h in heads])), html.Tbody(rows)])
    labelled = aria("label", f"{name}, to scroll")
    more = total - len(rows)
    rest = [html.P(f"and {more:,} older {name}", className="more")] if more > 0 else []
    return html.Div([html.Div(body, className="scroll", role="region", tabIndex="0", **labelled), *rest])


def act_button(action: str, target: int, text: str, about: str) -> Any:
    """A button that asks before it does something to the server."""
    name = {"type": "act", "action": action, "target": target}
    return html.Button(text, id=name, type="button", className="act", **aria("label", about))


def aria(name: str, value: str) -> dict[str, Any]:
    """One attribute for assistive technology."""
    return {f"aria-{name}": value}


def time_element(at: Timestamp) -> Any:
    """A time a program can read too."""
    found = format.parse_time(at)
    return html.Time(
        format.utc_text(at)[:16], title=format.utc_text(at), dateTime=found.isoformat() if found else ""
    )


def empty_note(text: str) -> Any:
    """Why there is nothing here."""
    return html.P(text, className="empty")
