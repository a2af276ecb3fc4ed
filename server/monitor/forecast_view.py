"""The forecast view: pick a key and a horizon, or upload rows; see prediction and band; download them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import msgspec
from dash import ALL, Input, Output, State, ctx, dcc, html, no_update

from server.monitor import format as words
from server.monitor import palette as palettes
from server.monitor.answers import FeatureInfo, Model
from server.monitor.forecast import NOTHING, Forecast, ForecastError, as_csv, ask, drawn, uploaded
from server.monitor.future import MOST_HOURS, future_rows, pickable, unknown
from server.monitor.markup import aria, chart, choice, empty

__all__ = ["connect_forecast", "forecast_view", "key_pickers"]

KEY = "key: "
HORIZONS = {24: "a day", 72: "3 days", 168: "a week", MOST_HOURS: "a month"}


def forecast_view(now: float) -> Any:
    """The form and the place of its answer."""
    first = datetime.datetime.fromtimestamp(now, datetime.UTC).replace(minute=0, second=0, microsecond=0)
    start = (first + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    form = html.Section(
        [
            html.H2("What to forecast", id="forecast-form-title"),
            html.Div(empty("Waiting for the server's first answer."), id="forecast-keys", className="fields"),
            html.Label(
                ["First hour ", dcc.Input(id="forecast-start", type="text", value=start, autoComplete="off")]
            ),
            choice("hours", "How far", HORIZONS, 72),
            html.Div(
                [
                    html.Button("Forecast", id="forecast-run", type="button", className="strong"),
                    dcc.Upload(
                        "or upload rows as CSV", id="forecast-upload", accept=".csv,text/csv",
                        className="upload", max_size=20_000_000,
                    ),
                    html.Button("Download CSV", id="forecast-save", type="button", disabled=True),
                ],
                className="buttons",
            ),
        ],
        className="card form",
        **aria("labelledby", "forecast-form-title"),
    )  # fmt: skip
    told = html.P(NOTHING, id="forecast-told", role="status")
    caption = "Prediction and interval. Nothing asked here is kept by the server."
    answer = chart("forecast", "Forecast", caption, "wide", NOTHING)
    stores = [dcc.Store(id="forecast-found"), dcc.Download(id="forecast-file")]
    return html.Div([form, told, answer, *stores], id="forecast-view", className="view", hidden=True)


def key_pickers(features: Sequence[FeatureInfo]) -> list[Any]:
    """A choice for each category that no calendar tells."""
    found = [
        choice(f"{KEY}{f.name}", f.name, {value: value for value in f.values}, f.values[0])
        for f in pickable(features)
    ]
    return found or [empty("This stream has no category to pick: one forecast is for all of it.")]


def connect_forecast(app: Any, http: httpx.Client, model: Callable[[], Model | None]) -> None:
    """Tie the form to its answer; ``model`` gives what was last read of ``GET /model``."""

    @app.callback(
        Output("forecast-found", "data"),
        Output("forecast-told", "children"),
        Output("forecast-save", "disabled"),
        Input("forecast-run", "n_clicks"),
        Input("forecast-upload", "contents"),
        State({"type": "picked", "of": ALL}, "data"),
        State({"type": "picked", "of": ALL}, "id"),
        State("forecast-start", "value"),
        prevent_initial_call=True,
    )
    def run(_: int | None, contents: str | None, values: list[Any], ids: list[Any], start: str) -> Any:
        known = model() or Model()
        try:
            if ctx.triggered_id == "forecast-upload":
                found = ask(http, uploaded(contents or ""))
            else:
                picked = {one["of"]: value for one, value in zip(ids, values, strict=True)}
                found = generated(http, known, keys(picked), start, picked.get("hours", 24))
        except ForecastError as exc:
            return no_update, str(exc), no_update
        return msgspec.to_builtins(found), told(found, known), False

    @app.callback(Output("forecast", "figure"), Input("forecast-found", "data"), Input("theme", "data"))
    def draw(found: dict[str, Any] | None, theme: str | None) -> Any:
        forecast = msgspec.convert(found, Forecast) if found else None
        target = (model() or Model()).target
        return drawn(forecast, target, palettes.PALETTES.get(theme or "light", palettes.LIGHT))

    @app.callback(
        Output("forecast-file", "data"),
        Input("forecast-save", "n_clicks"),
        State("forecast-found", "data"),
        prevent_initial_call=True,
    )
    def save(_: int | None, found: dict[str, Any] | None) -> Any:
        if not found:
            return no_update
        return {
            "content": as_csv(msgspec.convert(found, Forecast)),
            "filename": "forecast.csv",
            "type": "text/csv",
        }


def keys(picked: Mapping[str, Any]) -> dict[str, str]:
    """The categories picked, by feature."""
    return {name.removeprefix(KEY): value for name, value in picked.items() if name.startswith(KEY)}


def generated(http: httpx.Client, model: Model, chosen: dict[str, str], start: str, hours: int) -> Forecast:
    """A forecast of generated rows. Raises ForecastError."""
    if not model.features:
        raise ForecastError("The server has not said yet which features it takes.")
    try:
        first = datetime.datetime.fromisoformat(start or "")
    except ValueError as exc:
        raise ForecastError(f"The first hour must be written like 2026-01-31T13:00, not {start!r}.") from exc
    hours = max(1, min(hours, MOST_HOURS))
    rows = future_rows(model.features, chosen, first, hours)
    at = [(first + datetime.timedelta(hours=step)).isoformat() for step in range(hours)]
    return ask(http, rows, at)


def told(found: Forecast, model: Model) -> str:
    """What was forecast, in a sentence or two."""
    count, low, high = len(found.rows), min(found.predictions), max(found.predictions)
    text = (
        f"{count:,} {'row' if count == 1 else 'rows'} by {words.version(found.model_version)}:"
        f" {words.number(low)} to {words.number(high)}, in all {words.number(sum(found.predictions))}."
    )
    if missing := unknown(model.features, found.rows[0]):
        text += f" Left to be imputed: {', '.join(missing)}."
    if beyond := sum(found.drifted):
        text += f" {beyond:,} of them lie outside the range the model was made for."
    return text
