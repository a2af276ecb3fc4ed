"""Small pieces of the page that its parts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html

from server.monitor import format as words
from server.monitor.answers import Moment
from server.monitor.canvas import message

__all__ = ["act_button", "aria", "chart", "choice", "empty", "section", "table", "time"]

WAITING = "Waiting for the server's first answer."
GRAPH: Any = {"displayModeBar": False, "responsive": True}


def chart(name: str, title: str, caption: str, kind: str = "", waiting: str = WAITING) -> Any:
    """One chart with its title and a sentence on what it shows."""
    graph = dcc.Graph(id=name, figure=message(waiting), config=GRAPH)
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


def section(name: str, title: str) -> Any:
    """One table's place."""
    return html.Section(
        [html.H2(title, id=f"{name}-title"), html.Div(empty(WAITING), id=name)],
        className="card",
        **aria("labelledby", f"{name}-title"),
    )


def table(heads: Sequence[str], rows: Sequence[Any], total: int, name: str) -> Any:
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


def time(at: Moment) -> Any:
    """A time a program can read too."""
    found = words.moment(at)
    return html.Time(words.stamp(at)[:16], title=words.stamp(at), dateTime=found.isoformat() if found else "")


def empty(text: str) -> Any:
    """Why there is nothing here."""
    return html.P(text, className="empty")
