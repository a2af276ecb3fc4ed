"""Small pieces of the page that its parts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html

from server.monitor import format
from server.monitor.api_replies import Timestamp
from server.monitor.chart_canvas import empty_chart

__all__ = [
    "WAITING_TEXT",
    "action_button",
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


def chart_card(name: str, title: str, caption: str, *, kind: str = "", waiting: str = WAITING_TEXT) -> Any:
    """One chart with its title and a sentence on what it shows.

    Parameters
    ----------
    name
        The chart's id on the page.
    title, caption
        Its words; a screen reader reads both.
    kind
        Further CSS classes, such as ``wide``.
    waiting
        What is shown in its place until there is a figure.

    Returns
    -------
    dash component
        The card.
    """
    graph = dcc.Graph(id=name, figure=empty_chart(waiting), config=GRAPH_CONFIG)
    plot = html.Div(graph, className="plot", role="img", **aria("labelledby", f"{name}-title {name}-caption"))
    content = [
        html.H2(title, id=f"{name}-title"),
        html.Figure([html.Figcaption(caption, id=f"{name}-caption"), plot]),
    ]
    return html.Section(content, className=f"card {kind}".strip(), **aria("labelledby", f"{name}-title"))


def choice(name: str, title: str, options: Mapping[Any, str], value: Any) -> Any:
    """A choice of one by buttons.

    Dash 4's RadioItems tell a screen reader of a list box whose options hold inputs, and have no name.

    Parameters
    ----------
    name
        The chosen value is the data of the store ``{"type": "picked", "of": name}``.
    title
        What is chosen.
    options
        Values, and their buttons' texts.
    value
        The one chosen at first.

    Returns
    -------
    dash component
        The buttons and the store.
    """
    buttons = [
        html.Button(
            label,
            id={"type": "pick", "of": name, "value": option},
            type="button",
            className="pick",
            **aria("pressed", str(option == value).lower()),
        )
        for option, label in options.items()
    ]
    head = html.Span(title, id=f"{name}-title")
    store = dcc.Store(id={"type": "picked", "of": name}, data=value)
    group = [head, html.Div(buttons, className="picks"), store]
    return html.Div(group, className="picker", role="group", **aria("labelledby", f"{name}-title"))


def table_card(name: str, title: str) -> Any:
    """Where a table goes.

    Parameters
    ----------
    name
        The id of the element whose children the table becomes.
    title
        Its heading.

    Returns
    -------
    dash component
        The card, with a note until there is a table.
    """
    return html.Section(
        [html.H2(title, id=f"{name}-title"), html.Div(empty_note(WAITING_TEXT), id=name)],
        className="card",
        **aria("labelledby", f"{name}-title"),
    )


def table_element(heads: Sequence[str], rows: Sequence[Any], total: int, name: str) -> Any:
    """A table that scrolls sideways by itself where the page is narrow.

    Parameters
    ----------
    heads
        The columns' heads.
    rows
        ``html.Tr`` elements.
    total
        How many rows there are, those not shown included.
    name
        What they are, in the plural.

    Returns
    -------
    dash component
        The table, and a line that counts the rest.
    """
    body = html.Table([html.Thead(html.Tr([html.Th(h, scope="col") for h in heads])), html.Tbody(rows)])
    labelled = aria("label", f"{name}, to scroll")
    more = total - len(rows)
    rest = [html.P(f"and {more:,} older {name}", className="more")] if more > 0 else []
    # tabIndex: what scrolls has to be reachable by keyboard
    return html.Div([html.Div(body, className="scroll", role="region", tabIndex="0", **labelled), *rest])


def action_button(action: str, target: int, text: str, description: str) -> Any:
    """A button that asks for confirmation, then has the monitor do something to the server.

    Parameters
    ----------
    action, target
        What to do (:class:`server.monitor.admin_actions.AdminAction`).
    text
        On the button.
    description
        What a screen reader says of it.

    Returns
    -------
    dash component
        The button.
    """
    name = {"type": "act", "action": action, "target": target}
    return html.Button(text, id=name, type="button", className="act", **aria("label", description))


def aria(name: str, value: str) -> dict[str, Any]:
    """An attribute for assistive technology.

    Parameters
    ----------
    name
        Without ``aria-``.
    value
        Its value.

    Returns
    -------
    dict
        To be given to a component as keyword arguments: the name has a hyphen in it.
    """
    return {f"aria-{name}": value}


def time_element(at: Timestamp) -> Any:
    """A time that a program can read too, to the minute; to the second when pointed at."""
    time, text = format.parse_time(at), format.utc_text(at)
    return html.Time(text[:16], title=text, dateTime=time.isoformat() if time else "")


def empty_note(text: str) -> Any:
    """Why there is nothing here."""
    return html.P(text, className="empty")
