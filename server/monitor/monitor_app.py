"""The monitor: a Dash page that shows what one Millrace server serves and learns."""

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

from server.monitor import error_charts, format, journal_charts, monitor_tables, page_layout
from server.monitor.admin_actions import AdminAction, perform, refusal
from server.monitor.api_reader import ApiReader, ApiState, open_client
from server.monitor.api_replies import AlarmsReply, DriftReply, ModelReply, SnapshotsReply
from server.monitor.forecast_view import connect_forecast, forecast_view, key_pickers
from server.monitor.palette import LIGHT, PALETTES, Palette

__all__ = ["build_app"]

PART_OUTPUTS = {
    "stream": "children", "notices": "children", "status": "children", "truth": "figure", "rolling": "figure",
    "weights": "figure", "coverage": "figure", "drift": "figure", "errors": "figure", "delays": "figure",
    "versions": "children", "alarms": "children", "quarantine": "children", "forecast-keys": "children",
}  # fmt: skip


BROWSER_STATE = {"answered": "data", "theme": "data", "lost": "children", "missed": "data", "beat": "data"}
PICK_BUTTON = {"type": "pick", "of": MATCH, "value": ALL}  # see markup.choice


class PagePart(NamedTuple):
    """One piece of the page: what it is made of, and how."""

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
    """The monitor's page, reading the API at ``api_url`` every ``refresh_seconds`` while it is open.

    ``http`` replaces the client (its base address is then the API's); ``clock`` tells unix seconds;
    ``patience`` is the Reader's.
    """
    http = http or open_client(api_url)
    reader = ApiReader(http, max_age=refresh_seconds / 2, patience=patience)
    app = Dash(
        "server.monitor",
        title="Millrace monitor",
        update_title="",
        assets_folder=str(Path(__file__).with_name("assets")),
        serve_locally=True,
        index_string=page_layout.INDEX_HTML,
        health_endpoint="health/live",
        enable_mcp=False,
        add_log_handler=False,
    )
    app.layout = lambda: page_layout.page(refresh_seconds, forecast_view(clock()))
    connect_browser(app)
    connect_refresh(app, reader, clock)
    connect_actions(app, http, reader)
    connect_forecast(app, http, lambda: reader.read().model)
    return app


def connect_browser(app: Any) -> None:
    """What the page does without asking the monitor: see assets/monitor.js."""

    def tie(name: str, *tied: Any, **options: Any) -> None:
        app.clientside_callback(ClientsideFunction("monitor", name), *tied, **options)

    tie(
        "look",
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
    tie("choose", Output("choice", "data"), Input("colours", "n_clicks"), State("theme", "data"))
    tie(
        "pause",
        [Output("tick", "disabled"), Output("pause", "children")],
        Input("pause", "n_clicks"),
        prevent_initial_call=True,
    )
    tie(
        "view",
        [Output("monitor-view", "hidden"), Output("forecast-view", "hidden"),
         Output("to-monitor", "className"), Output("to-forecast", "className")],
        Input("at", "pathname"),
    )  # fmt: skip
    zooms: list[Any] = [Input(name, "relayoutData") for name in page_layout.LINKED_CHARTS]
    zooms.append(State("linked", "data"))
    tie("link", zooms)
    tie(
        "ask",
        [Output("asked", "data"), Output("ask-title", "children"), Output("ask-text", "children"),
         Output("ask-told", "children", allow_duplicate=True)],
        Input({"type": "act", "action": ALL, "target": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )  # fmt: skip
    tie("close", Input("ask-no", "n_clicks"), Input("acted", "data"), prevent_initial_call=True)


def connect_refresh(app: Any, reader: ApiReader, clock: Callable[[], float]) -> None:
    """Tie the page's clock to its parts."""

    def refresh(
        beat: int | None, theme: str | None, last: int, _: Any, shown: dict[str, str] | None
    ) -> dict[str, Any]:
        found = page_parts(reader.read(last), theme or "light", clock())
        changed, digests = changed_outputs(found, shown or {})
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
    """Tie the dialog's yes to the server."""

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
        done, said = perform(http, msgspec.convert(asked, AdminAction), key or "")
        reader.forget()
        return (clicks if done else no_update), said


def with_unchanged(refresh: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Let a callback name only the outputs it changes."""

    def filled(*arguments: Any) -> dict[str, Any]:
        return dict.fromkeys(PART_OUTPUTS, no_update) | refresh(*arguments)

    return filled


def changed_outputs(
    parts: dict[str, PagePart], shown: dict[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What changed since the page last drew it, and digests of all it then shows."""
    digests = {**shown, **{name: digest(part.source) for name, part in parts.items()}}
    changed = {name: part.build() for name, part in parts.items() if digests[name] != shown.get(name)}
    for name, figure in changed.items():
        if PART_OUTPUTS[name] == "figure":
            changed[name] = chart_update(f"{name} layout", figure, shown, digests)
    return changed, digests


def chart_update(name: str, figure: Any, shown: dict[str, str], digests: dict[str, str]) -> Any:
    """A chart's new lines alone while the rest of it stands; its layout's digest is noted.

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
    """A short fingerprint of what a part is made of."""
    return hashlib.blake2b(msgspec.json.encode(source), digest_size=8).hexdigest()


def page_parts(reading: ApiState, theme: str, now: float) -> dict[str, PagePart]:
    """The parts there is something to say on; the others stay as they are."""
    found: dict[str, PagePart] = {}
    notices = format.notices(reading, now)
    found["notices"] = PagePart(notices, lambda: page_layout.notice_list(notices))
    if (model := reading.model) is not None:
        facts, named = format.status_facts(reading, now), f"{model.stream} → {model.target}"
        found["status"] = PagePart(facts, lambda: page_layout.status_line(facts))
        found["stream"] = PagePart(named, lambda: named.strip(" →"))
        found["forecast-keys"] = PagePart(model.features, lambda: key_pickers(model.features))
    for name, answer, build in (
        ("versions", reading.snapshots, monitor_tables.versions_table),
        ("alarms", reading.alarms, monitor_tables.alarms_table),
        ("quarantine", reading.quarantine, monitor_tables.quarantine_table),
    ):
        if answer is not None:
            found[name] = table_part(answer, build)
    return found | chart_parts(reading, theme)


def table_part(answer: Any, build: Callable[[Any], Any]) -> PagePart:
    """A table and what it is made of."""
    return PagePart(answer, lambda: build(answer))


def chart_parts(reading: ApiState, theme: str) -> dict[str, PagePart]:
    """The charts there is data for."""
    colours = PALETTES.get(theme, LIGHT)
    model = reading.model or ModelReply()
    found: dict[str, PagePart] = {}
    if (history := reading.history) is not None:
        found |= history_parts(reading, theme, colours)
        found["coverage"] = PagePart(
            (theme, model.interval.coverage, history.seq, history.coverage),
            lambda: journal_charts.coverage(history, model.interval.coverage, colours),
        )
        drift = reading.drift or DriftReply()
        found["drift"] = PagePart(
            (theme, drift, history.seq if drift.at else ()),
            lambda: journal_charts.drift_strip(drift, history, colours),
        )
    for name, answer, draw in (
        ("weights", reading.weights, journal_charts.expert_weights),
        ("errors", reading.errors, error_charts.error_map),
        ("delays", reading.errors, error_charts.delay_histogram),
    ):
        if answer is not None:
            found[name] = drawn_part(theme, answer, draw, colours)
    return found


def drawn_part(theme: str, answer: Any, draw: Callable[[Any, Palette], Any], colours: Palette) -> PagePart:
    """A chart of one answer."""
    return PagePart((theme, answer), lambda: draw(answer, colours))


def history_parts(reading: ApiState, theme: str, colours: Palette) -> dict[str, PagePart]:
    """The charts of outcomes."""
    history, target = reading.history, reading.model.target if reading.model else ""
    alarms, snapshots = (
        (reading.alarms or AlarmsReply()).alarms,
        (reading.snapshots or SnapshotsReply()).snapshots,
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
