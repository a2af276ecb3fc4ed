"""The monitor: a Dash page that shows what one Millrace server serves and learns.

Every part of the page is a :class:`PagePart`: what it is made of, and a function that builds it. At each
update the parts are compared with the digests of what the page shows, and only those that changed are built
and sent.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flask
import httpx
import msgspec
from dash import ALL, MATCH, ClientsideFunction, Dash, Input, Output, Patch, State, no_update

from server.monitor import error_charts, journal_charts, monitor_tables, page_layout, status_texts
from server.monitor.admin_actions import AdminAction, perform, refusal
from server.monitor.api_reader import ApiReader, ApiState, open_client
from server.monitor.api_replies import AlarmsReply, DriftReply, ModelReply, SnapshotsReply
from server.monitor.forecast_view import connect_forecast, forecast_view, key_pickers
from server.monitor.palette import LIGHT, PALETTES, Palette

__all__ = ["build_app"]

# every part of the page by its element's id, and the property of the element that it becomes
PART_OUTPUTS = {
    "stream": "children",
    "notices": "children",
    "status": "children",
    "truth": "figure",
    "rolling": "figure",
    "weights": "figure",
    "coverage": "figure",
    "drift": "figure",
    "errors": "figure",
    "delays": "figure",
    "versions": "children",
    "alarms": "children",
    "quarantine": "children",
    "forecast-keys": "children",
}
# what the page's own script is told at every tick
BROWSER_STATE = {
    "answered": "data",
    "theme": "data",
    "lost": "children",
    "missed": "data",
    "beat": "data",
}
PICK_BUTTON = {"type": "pick", "of": MATCH, "value": ALL}  # see page_elements.choice


class PagePart(NamedTuple):
    """One piece of the page.

    ``source`` is all that it is made of, as something msgspec encodes; ``build`` makes the component or
    figure.
    """

    source: Any
    build: Callable[[], Any]


def build_app(
    api_url: str,
    *,
    refresh_seconds: float = 1.5,
    patience: float = 1.0,
    http: httpx.Client | None = None,
    clock: Callable[[], float] = time.time,
) -> Dash:
    """The monitor's page.

    Parameters
    ----------
    api_url
        Where the API answers.
    refresh_seconds
        How often an open page asks for an update.
    patience
        Factor on the pauses between costly questions to the API.
    http
        A client to use instead of one of its own; its base address is then the API's.
    clock
        Unix seconds.

    Returns
    -------
    dash.Dash
        The app; its ``server`` is the WSGI application.
    """
    http = http or open_client(api_url)
    # half a period: pages that refresh at about the same time share one answer
    reader = ApiReader(http, max_age=refresh_seconds / 2, patience=patience)
    app = Dash(
        "server.monitor",
        title="Millrace monitor",
        update_title="",
        assets_folder=str(Path(__file__).with_name("assets")),
        serve_locally=True,
        index_string=page_layout.INDEX_HTML,
        health_endpoint="health/live",
        enable_mcp=False,  # nor where DASH_MCP_ENABLED is set: callbacks are no tools for a language model
        add_log_handler=False,
    )
    app.layout = lambda: page_layout.page(refresh_seconds, forecast_view(clock()))
    connect_browser(app)
    connect_refresh(app, reader, clock)
    connect_actions(app, http, reader)
    connect_forecast(app, http, lambda: reader.read().model)
    return app


def connect_browser(app: Any) -> None:
    """Tie what the page does without asking the monitor: the functions of assets/monitor.js."""

    def tie(function: str, *arguments: Any, **options: Any) -> None:
        app.clientside_callback(ClientsideFunction("monitor", function), *arguments, **options)

    tie(
        "onTick",
        [
            Output("theme", "data"),
            Output("lost", "children"),
            Output("colours", "children"),
            Output("beat", "data"),
        ],
        [Input("tick", "n_intervals"), Input("choice", "data")],
        [State(name, member) for name, member in BROWSER_STATE.items()],
    )
    tie(
        "pick",
        [Output({"type": "picked", "of": MATCH}, "data"), Output(PICK_BUTTON, "aria-pressed")],
        Input(PICK_BUTTON, "n_clicks"),
        State(PICK_BUTTON, "id"),
        prevent_initial_call=True,
    )
    tie("chooseTheme", Output("choice", "data"), Input("colours", "n_clicks"), State("theme", "data"))
    tie(
        "pause",
        [Output("tick", "disabled"), Output("pause", "children")],
        Input("pause", "n_clicks"),
        prevent_initial_call=True,
    )
    tie(
        "showView",
        [
            Output("monitor-view", "hidden"),
            Output("forecast-view", "hidden"),
            Output("to-monitor", "className"),
            Output("to-forecast", "className"),
        ],
        Input("at", "pathname"),
    )
    zooms: list[Any] = [Input(name, "relayoutData") for name in page_layout.LINKED_CHARTS]
    zooms.append(State("linked", "data"))
    tie("linkZooms", zooms)
    tie(
        "askFirst",
        [
            Output("asked", "data"),
            Output("ask-title", "children"),
            Output("ask-text", "children"),
            Output("ask-told", "children", allow_duplicate=True),  # the text of the last action goes
        ],
        Input({"type": "act", "action": ALL, "target": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    tie("closeDialog", Input("ask-no", "n_clicks"), Input("acted", "data"), prevent_initial_call=True)


def connect_refresh(app: Any, reader: ApiReader, clock: Callable[[], float]) -> None:
    """Tie the page's ticks to its parts."""

    def refresh(
        beat: int | None, theme: str | None, last: int, _: Any, shown: dict[str, str] | None
    ) -> dict[str, Any]:
        parts = page_parts(reader.read(last), theme or "light", clock())
        changed, digests = changed_outputs(parts, shown or {})
        return {**changed, "shown": digests if changed else no_update, "answered": beat or 0}

    outputs = {name: Output(name, member) for name, member in PART_OUTPUTS.items()}
    outputs |= {name: Output(name, "data") for name in ("shown", "answered")}
    inputs: list[Any] = [
        Input("beat", "data"),
        Input("theme", "data"),
        Input({"type": "picked", "of": "range"}, "data"),
    ]
    inputs += [Input("acted", "data"), State("shown", "data")]
    app.callback(output=outputs, inputs=inputs)(with_unchanged(refresh))


def connect_actions(app: Any, http: httpx.Client, reader: ApiReader) -> None:
    """Tie the dialog's "Yes" to the server."""

    @app.callback(
        Output("acted", "data"),
        Output("ask-told", "children"),
        Input("ask-yes", "n_clicks"),
        State("asked", "data"),
        State("ask-key", "value"),
        prevent_initial_call=True,
    )
    def carry_out(clicks: int | None, asked: dict[str, Any] | None, key: str | None) -> Any:
        if not clicks or not asked:
            return no_update, no_update
        refused = refusal(dict(flask.request.headers), flask.request.remote_addr, key or "")
        if refused:
            return no_update, refused
        done, outcome = perform(http, msgspec.convert(asked, AdminAction), key or "")
        reader.forget()
        return (clicks if done else no_update), outcome


def with_unchanged(refresh: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Let a callback name only the outputs it changes."""

    def with_all_outputs(*arguments: Any) -> dict[str, Any]:
        return dict.fromkeys(PART_OUTPUTS, no_update) | refresh(*arguments)

    return with_all_outputs


def changed_outputs(
    parts: dict[str, PagePart], shown: dict[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The outputs that changed since the page last showed them, and digests of all it shows then."""
    digests = {**shown, **{name: digest(part.source) for name, part in parts.items()}}
    changed = {name: part.build() for name, part in parts.items() if digests[name] != shown.get(name)}
    for name, figure in changed.items():
        if PART_OUTPUTS[name] == "figure":
            changed[name] = chart_update(f"{name} layout", figure, shown, digests)
    return changed, digests


def chart_update(name: str, figure: Any, shown: dict[str, str], digests: dict[str, str]) -> Any:
    """A chart's new lines alone while its layout stays the same, else all of it; notes the layout's digest.

    The page then keeps what people did to the chart. (Plotly's uirevision is not enough: from Dash 4.4 on a
    graph writes a zoom into its figure, so a whole new figure undoes it.)
    """
    digests[name] = digest(figure.layout.to_plotly_json())
    if digests[name] != shown.get(name):
        return figure
    patch = Patch()
    patch["data"] = figure.to_plotly_json()["data"]
    return patch


def digest(source: Any) -> str:
    """A short hash of what a part is made of."""
    return hashlib.blake2b(msgspec.json.encode(source), digest_size=8).hexdigest()


def page_parts(state: ApiState, theme: str, now: float) -> dict[str, PagePart]:
    """The parts there is something to show in; the others stay as they are."""
    parts: dict[str, PagePart] = {}
    notices = status_texts.notices(state, now)
    parts["notices"] = PagePart(notices, lambda: page_layout.notice_list(notices))
    if (model := state.model) is not None:
        facts, named = status_texts.status_facts(state, now), f"{model.stream} → {model.target}"
        parts["status"] = PagePart(facts, lambda: page_layout.status_line(facts))
        parts["stream"] = PagePart(named, lambda: named.strip(" →"))
        parts["forecast-keys"] = PagePart(model.features, lambda: key_pickers(model.features))
    for name, answer, build in (
        ("versions", state.snapshots, monitor_tables.versions_table),
        ("alarms", state.alarms, monitor_tables.alarms_table),
        ("quarantine", state.quarantine, monitor_tables.quarantine_table),
    ):
        if answer is not None:
            parts[name] = table_part(answer, build)
    return parts | chart_parts(state, theme)


def table_part(answer: Any, build: Callable[[Any], Any]) -> PagePart:
    """A table and what it is made of."""
    return PagePart(answer, lambda: build(answer))


def chart_parts(state: ApiState, theme: str) -> dict[str, PagePart]:
    """The charts there is data for."""
    colours = PALETTES.get(theme, LIGHT)
    model = state.model or ModelReply()
    parts: dict[str, PagePart] = {}
    if (history := state.history) is not None:
        parts |= history_parts(state, theme, colours)
        parts["coverage"] = PagePart(
            (theme, model.interval.coverage, history.seq, history.coverage),
            lambda: journal_charts.coverage(history, model.interval.coverage, colours),
        )
        drift = state.drift or DriftReply()
        parts["drift"] = PagePart(
            (theme, drift, history.seq if drift.at else ()),
            lambda: journal_charts.drift_strip(drift, history, colours),
        )
    for name, answer, draw in (
        ("weights", state.weights, journal_charts.expert_weights),
        ("errors", state.errors, error_charts.error_map),
        ("delays", state.errors, error_charts.delay_histogram),
    ):
        if answer is not None:
            parts[name] = drawn_part(theme, answer, draw, colours)
    return parts


def drawn_part(theme: str, answer: Any, draw: Callable[[Any, Palette], Any], colours: Palette) -> PagePart:
    """A chart of one answer."""
    return PagePart((theme, answer), lambda: draw(answer, colours))


def history_parts(state: ApiState, theme: str, colours: Palette) -> dict[str, PagePart]:
    """The charts of outcomes."""
    history, target = state.history, state.model.target if state.model else ""
    alarms, snapshots = (
        (state.alarms or AlarmsReply()).alarms,
        (state.snapshots or SnapshotsReply()).snapshots,
    )
    if history is None:
        return {}
    return {
        "rolling": PagePart(
            (theme, history, alarms, snapshots),
            lambda: journal_charts.rolling_error(history, alarms, snapshots, colours),
        ),
        "truth": PagePart((theme, target, history), lambda: journal_charts.truth(history, target, colours)),
    }
