"""Predictions of rows to come, asked of the API without a record there, and what is made of them."""

from __future__ import annotations

import base64
import binascii
import csv
import io
from collections.abc import Sequence
from typing import Any

import httpx
import msgspec
import plotly.graph_objects as go

from online.core.csv_rows import csv_lines, csv_rows
from online.core.errors import InputError
from server.monitor.api_reader import failure_text, without_nulls
from server.monitor.chart_canvas import empty_chart, line_trace, new_chart
from server.monitor.journal_charts import interval_band
from server.monitor.palette import Palette

__all__ = [
    "NO_FORECAST",
    "ForecastError",
    "ForecastResult",
    "as_csv",
    "forecast_chart",
    "parse_upload",
    "request_forecast",
]

PREDICT_PATH = "/predict?record=false"  # no label will come for such a row, so the server need not keep it
PREDICT_TIMEOUT_SECONDS = 60.0
MAX_UPLOAD_ROWS = 10_000
NO_FORECAST = "No forecast yet: pick what to forecast, or upload rows."


class ForecastError(Exception):
    """A forecast that cannot be made; the message is for the person who asked."""


class ForecastResult(msgspec.Struct, frozen=True):
    """Rows and what is predicted for them, in target units; ``at`` are their times, where they have one."""

    rows: list[dict[str, Any]]
    predictions: list[float]
    lower: list[float]
    upper: list[float]
    at: list[str] = []
    model_version: int | str | None = None
    drifted: list[bool] = []


def request_forecast(
    http: httpx.Client, rows: list[dict[str, Any]], at: Sequence[str] = ()
) -> ForecastResult:
    """Ask the server for predictions of rows.

    Parameters
    ----------
    http
        A client of the API.
    rows
        Features by name.
    at
        The rows' times, where they have one.

    Returns
    -------
    ForecastResult
        The rows with their predictions.

    Raises
    ------
    ForecastError
        There are no rows, or the server cannot be reached, refuses them, or sends nonsense.
    """
    if not rows:
        raise ForecastError("There are no rows.")
    try:
        response = http.post(
            PREDICT_PATH, json=rows, headers={"Accept": "application/json"}, timeout=PREDICT_TIMEOUT_SECONDS
        )
    except httpx.HTTPError as exc:
        raise ForecastError(f"The server could not be asked: {failure_text(exc)}.") from exc
    try:
        content = msgspec.json.decode(response.content)
        if not response.is_success:
            raise ForecastError(f"Refused: {content.get('detail', response.reason_phrase)}")
        return msgspec.convert(without_nulls(content) | {"rows": rows, "at": list(at)}, ForecastResult)
    except (msgspec.MsgspecError, AttributeError) as exc:  # AttributeError: JSON, but no object
        raise ForecastError(f"The server's answer cannot be read: {exc}") from exc


def parse_upload(contents: str) -> list[dict[str, Any]]:
    """The rows of an uploaded CSV, given as a data URL, empty cells left out.

    Raises
    ------
    ForecastError
        Names what is wrong with the file.
    """
    try:
        body = base64.b64decode(contents.partition(",")[2], validate=True)
        records = list(csv_rows(csv_lines(body)))
    except (binascii.Error, UnicodeDecodeError, csv.Error) as exc:
        raise ForecastError(f"The file is no CSV in UTF-8: {exc}") from exc
    except InputError as exc:
        if exc.index is None:
            raise ForecastError(f"The file's header cannot be used: {exc}.") from exc
        raise ForecastError(f"Line {exc.index + 2} has more cells than the header.") from exc
    if len(records) > MAX_UPLOAD_ROWS:
        raise ForecastError(
            f"The file has {len(records):,} rows: at most {MAX_UPLOAD_ROWS:,} are forecast at once."
        )
    rows = [{name: cell for name, cell in record.items() if cell is not None} for record in records]
    if not any(rows):
        raise ForecastError("The file has no rows.")
    return rows


def as_csv(forecast: ForecastResult) -> str:
    """The rows with time, prediction and interval, as a CSV."""
    names = list(dict.fromkeys(name for row in forecast.rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(["time"] if forecast.at else []), *names, "prediction", "lower", "upper"])
    for i, row in enumerate(forecast.rows):
        features = [row.get(name, "") for name in names]
        results = [forecast.predictions[i], forecast.lower[i], forecast.upper[i]]
        writer.writerow([*forecast.at[i : i + 1], *features, *results])
    return text.getvalue()


def forecast_chart(forecast: ForecastResult | None, target: str, palette: Palette) -> go.Figure:
    """Prediction and interval, over time where rows have one, else row by row.

    Parameters
    ----------
    forecast
        None before anything was asked for.
    target
        The target's name.
    palette
        The theme's colours.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.
    """
    if forecast is None:
        return empty_chart(NO_FORECAST, palette)
    x: list[Any] = list(forecast.at) or list(range(1, len(forecast.rows) + 1))
    x_title = "" if forecast.at else "row"
    figure = new_chart(palette, "forecast", y_title=target or "target", x_title=x_title)
    figure.add_traces(interval_band(x, forecast.lower, forecast.upper, palette))
    predicted = line_trace(x, forecast.predictions, "prediction", colour=palette.served, dash="solid")
    predicted.update(
        customdata=list(zip(forecast.lower, forecast.upper, strict=True)),
        hovertemplate="%{y:,.4~g} (%{customdata[0]:,.4~g} to %{customdata[1]:,.4~g})",
    )
    figure.add_trace(predicted)
    figure.update_layout(hovermode="x unified")
    if forecast.at:
        figure.update_layout(xaxis={"tickformat": None, "type": "date"})
    return figure
