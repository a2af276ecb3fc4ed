"""The forecast view: pick a key and a horizon, or upload rows; see prediction and band; download them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import msgspec
from dash import ALL, Input, Output, State, ctx, dcc, html, no_update

from server.monitor import format
from server.monitor.api_replies import FeatureReply, ModelReply
from server.monitor.forecast import (
    NO_FORECAST,
    ForecastError,
    ForecastResult,
    as_csv,
    forecast_chart,
    parse_upload,
    request_forecast,
)
from server.monitor.future_rows import MAX_HOURS, choosable, future_rows, missing_features
from server.monitor.page_elements import WAITING_TEXT, aria, chart_card, choice, empty_note
from server.monitor.palette import LIGHT, PALETTES

__all__ = ["connect_forecast", "forecast_view", "key_pickers"]

KEY_PREFIX = "key: "
HORIZON_CHOICES = {24: "a day", 72: "3 days", 168: "a week", MAX_HOURS: "a month"}
MAX_UPLOAD_BYTES = 20_000_000  # the browser refuses more: MAX_UPLOAD_ROWS rows are far smaller


def forecast_view(now: float) -> Any:
    """The form and the place of its answer."""
    first = datetime.datetime.fromtimestamp(now, datetime.UTC).replace(minute=0, second=0, microsecond=0)
    start = (first + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    form = html.Section(
        [
            html.H2("What to forecast", id="forecast-form-title"),
            html.Div(empty_note(WAITING_TEXT), id="forecast-keys", className="fields"),
            html.Label(
                ["First hour ", dcc.Input(id="forecast-start", type="text", value=start, autoComplete="off")]
            ),
            choice("hours", "How far", HORIZON_CHOICES, 72),
            html.Div(
                [
                    html.Button("Forecast", id="forecast-run", type="button", className="strong"),
                    dcc.Upload(
                        "or upload rows as CSV",
                        id="forecast-upload",
                        accept=".csv,text/csv",
                        className="upload",
                        max_size=MAX_UPLOAD_BYTES,
                    ),
                    html.Button("Download CSV", id="forecast-save", type="button", disabled=True),
                ],
                className="buttons",
            ),
        ],
        className="card form",
        **aria("labelledby", "forecast-form-title"),
    )
    outcome = html.P(NO_FORECAST, id="forecast-told", role="status")
    caption = "Prediction and interval. Nothing asked here is kept by the server."
    answer = chart_card("forecast", "Forecast", caption, kind="wide", waiting=NO_FORECAST)
    stores = [dcc.Store(id="forecast-found"), dcc.Download(id="forecast-file")]
    return html.Div([form, outcome, answer, *stores], id="forecast-view", className="view", hidden=True)


def key_pickers(features: Sequence[FeatureReply]) -> list[Any]:
    """A choice for each category that no calendar tells."""
    pickers = [
        choice(f"{KEY_PREFIX}{f.name}", f.name, {value: value for value in f.values}, f.values[0])
        for f in choosable(features)
    ]
    return pickers or [empty_note("This stream has no category to pick: one forecast is for all of it.")]


def connect_forecast(app: Any, http: httpx.Client, model: Callable[[], ModelReply | None]) -> None:
    """Tie the form to its answer.

    Parameters
    ----------
    app
        The Dash app.
    http
        A client of the API.
    model
        Gives what was last read of ``GET /model``.
    """

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
        known = model() or ModelReply()
        try:
            if ctx.triggered_id == "forecast-upload":
                forecast = request_forecast(http, parse_upload(contents or ""))
            else:
                picked = {name["of"]: value for name, value in zip(ids, values, strict=True)}
                forecast = calendar_forecast(http, known, chosen_keys(picked), start, picked.get("hours", 24))
        except ForecastError as exc:
            return no_update, str(exc), no_update
        return msgspec.to_builtins(forecast), summary(forecast, known), False

    @app.callback(Output("forecast", "figure"), Input("forecast-found", "data"), Input("theme", "data"))
    def draw(stored: dict[str, Any] | None, theme: str | None) -> Any:
        forecast = msgspec.convert(stored, ForecastResult) if stored else None
        target = (model() or ModelReply()).target
        return forecast_chart(forecast, target, PALETTES.get(theme or "light", LIGHT))

    @app.callback(
        Output("forecast-file", "data"),
        Input("forecast-save", "n_clicks"),
        State("forecast-found", "data"),
        prevent_initial_call=True,
    )
    def save(_: int | None, stored: dict[str, Any] | None) -> Any:
        if not stored:
            return no_update
        return {
            "content": as_csv(msgspec.convert(stored, ForecastResult)),
            "filename": "forecast.csv",
            "type": "text/csv",
        }


def chosen_keys(picked: Mapping[str, Any]) -> dict[str, str]:
    """The categories picked, by feature."""
    return {
        name.removeprefix(KEY_PREFIX): value for name, value in picked.items() if name.startswith(KEY_PREFIX)
    }


def calendar_forecast(
    http: httpx.Client, model: ModelReply, chosen: dict[str, str], start: str, hours: int
) -> ForecastResult:
    """A forecast of rows that a calendar and the chosen categories make. Raises ForecastError."""
    if not model.features:
        raise ForecastError("The server has not said yet which features it takes.")
    try:
        first = datetime.datetime.fromisoformat(start or "")
    except ValueError as exc:
        raise ForecastError(f"The first hour must be written like 2026-01-31T13:00, not {start!r}.") from exc
    hours = max(1, min(hours, MAX_HOURS))
    rows = future_rows(model.features, chosen, first, hours)
    at = [(first + datetime.timedelta(hours=step)).isoformat() for step in range(hours)]
    return request_forecast(http, rows, at)


def summary(forecast: ForecastResult, model: ModelReply) -> str:
    """What was forecast, in a sentence or two."""
    count, low, high = len(forecast.rows), min(forecast.predictions), max(forecast.predictions)
    text = (
        f"{count:,} {'row' if count == 1 else 'rows'} by {format.version_name(forecast.model_version)}:"
        f" {format.number(low)} to {format.number(high)}, in all {format.number(sum(forecast.predictions))}."
    )
    if missing := missing_features(model.features, forecast.rows[0]):
        text += f" Left to be imputed: {', '.join(missing)}."
    if flagged := sum(forecast.drifted):
        text += f" {flagged:,} of them are drifted inputs: out of the range seen at bootstrap, or uncertain."
    return text
