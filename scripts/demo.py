"""Play ``data/stream.csv`` against the running server: predict each day's rows, label them a day later.

The bar shows the mean absolute error of the predictions as served over the last 1,000 rows, beside that of
a naive guess: the last label that had arrived for the same categories and hour.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pandas as pd
import tenacity
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bootstrap.home_option import home_option
from bootstrap.reading.split import read_frame
from bootstrap.sources.retry import TransientError, asked_seconds, retrying
from online.core.config import load
from online.core.errors import InputError, MillraceError
from online.core.home import Home
from online.core.schema import Schema
from server.commands.server_url import server_url

SHOWN_ROWS = 1000  # rows the shown errors are taken over
ROWS_A_DAY = 24  # rows at a time when no column names the day
PATIENCE_SECONDS = 60.0  # to go on while the server is busy
LONGEST_BUSY_SECONDS = 10.0
BUSY_STATUSES = (429, 503)

Row = dict[str, Any]
Day = list[Row]


class DemoClient:
    """The server, as the demo needs it."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30.0)
        self.url = url

    def post(self, path: str, rows: list[Row]) -> Row:
        """POST rows and return the reply; waits while the server is busy.

        Raises InputError when there is no server or it refuses the rows.
        """
        again = retrying(
            tenacity.stop_after_delay(PATIENCE_SECONDS),
            first_seconds=0.5,
            longest_seconds=LONGEST_BUSY_SECONDS,
        )
        try:
            return again(self._post_once, path, rows)
        except TransientError as exc:
            raise InputError(str(exc)) from exc

    def _post_once(self, path: str, rows: list[Row]) -> Row:
        try:
            answer = self._http.post(path, json=rows)
        except httpx.TransportError as exc:
            hint = "start one with 'make run', or give its address with --url"
            raise InputError(f"no server answers at {self.url} ({type(exc).__name__}): {hint}") from exc
        if not answer.is_success:
            refusal = f"{self.url}{path} answered {answer.status_code}: {answer.text[:300]}"
            if answer.status_code in BUSY_STATUSES:
                raise TransientError(refusal, asked_seconds(answer))
            raise InputError(refusal)
        reply: Row = answer.json()
        return reply


class DemoScores:
    """Errors of served predictions and of the naive guess, row by row."""

    def __init__(self, schema: Schema) -> None:
        self._target = schema.target.name
        self._keys = [f.name for f in schema.used if f.kind == "category" or f.period == 24]
        self._known: dict[tuple[Any, ...], float] = {}
        self._last = math.nan
        self._recent: deque[tuple[float, float]] = deque(maxlen=SHOWN_ROWS)
        self._first: list[tuple[float, float]] = []
        self.labels = 0
        self.rows = 0

    def predicted(self, rows: Day, predictions: list[float]) -> None:
        """Note the errors of a batch of predictions, whose labels the file knows already."""
        for row, prediction in zip(rows, predictions, strict=True):
            self.rows += 1
            truth = row[self._target]
            if truth is None:
                continue
            naive = self._known.get(self._key(row), self._last)
            errors = (abs(prediction - truth), abs(naive - truth))
            self._recent.append(errors)
            if len(self._first) < SHOWN_ROWS:
                self._first.append(errors)

    def labelled(self, rows: Day) -> None:
        """Let the naive guess see labels that have arrived."""
        for row in rows:
            self._last = self._known[self._key(row)] = row[self._target]
        self.labels += len(rows)

    def _key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row.get(name) for name in self._keys)

    def text(self) -> str:
        """The rolling errors in a few words."""
        served, naive = means(self._recent)
        return (
            f"error {served:,.0f}, naive {naive:,.0f}"
            if abs(served) >= 100
            else f"error {served:.3g}, naive {naive:.3g}"
        )

    def table(self) -> Table:
        """What happened, for people."""
        table = Table(title=f"{self.rows:,} rows predicted, {self.labels:,} labels sent")
        for heading in ("mean absolute error", "served", "naive"):
            table.add_column(heading, justify="left" if heading.startswith("mean") else "right")
        for name, errors in (("first", self._first), ("last", self._recent)):
            served, naive = means(errors)
            table.add_row(f"{name} {len(errors):,} rows", f"{served:,.5g}", f"{naive:,.5g}")
        return table


def means(errors: Any) -> tuple[float, float]:
    """Mean served and naive errors, over the rows that have them."""
    served = [e for e, _ in errors]
    naive = [n for _, n in errors if n == n]
    return sum(served) / (len(served) or 1), sum(naive) / (len(naive) or 1)


def days(path: Path, schema: Schema, start: int, rows: int | None) -> tuple[list[Day], str | None]:
    """The rows from ``start`` on by day, and the column that names the day when it is no feature."""
    if not path.exists():
        raise InputError(f"{path} is missing: 'millrace bootstrap generate' writes one", field="home")
    frame = read_frame(path)
    if schema.target.name not in frame.columns:
        raise InputError(f"{path} has no column {schema.target.name!r}, the target", field=schema.target.name)
    frame = frame.iloc[start : None if rows is None else start + rows]
    if frame.empty:
        raise InputError(f"{path} has no row from {start} on: give a smaller --start", field="start")
    column = day_column(frame)
    day = frame[column].str[:10] if column else pd.Series(range(len(frame)), index=frame.index) // ROWS_A_DAY
    clean = frame.astype(object).where(frame.notna(), None)
    groups: list[Any] = [
        group.to_dict("records") for _, group in clean.groupby((day != day.shift()).cumsum())
    ]
    unused = column is not None and column not in {feature.name for feature in schema.used}
    return groups, column if unused else None


def day_column(frame: pd.DataFrame) -> str | None:
    """The first column of texts that start with an ISO date."""
    texts = [name for name in frame.columns if pd.api.types.is_string_dtype(frame[name])]
    return next((n for n in texts if frame[n].str.match(r"\d{4}-\d\d-\d\d").fillna(False).all()), None)


def play(
    client: DemoClient, groups: list[Day], schema: Schema, hidden: set[str], speed: float
) -> Iterator[tuple[DemoScores, int]]:
    """Predict each day, label it a day later; yields the scores and the rows done after each day."""
    scores = DemoScores(schema)
    waiting: list[tuple[str, Row]] = []
    began = time.monotonic()
    for day in [*groups, []]:
        reply: Row = {"predictions": [], "ids": []}
        if day:
            features = [{k: v for k, v in row.items() if k not in hidden} for row in day]
            reply = client.post("/predict", features)
        scores.predicted(day, reply["predictions"])
        send_labels(client, scores, waiting, schema.target.name)
        waiting = list(zip(reply["ids"], day, strict=True))
        yield scores, len(day)
        if speed > 0:
            time.sleep(max(0.0, began + scores.rows / speed - time.monotonic()))


def send_labels(client: DemoClient, scores: DemoScores, waiting: list[tuple[str, Row]], target: str) -> None:
    """Send the labels of the rows that wait for them, by id."""
    known = [(served, row) for served, row in waiting if row[target] is not None]
    if known:
        client.post("/learn", [{"id": served, target: row[target]} for served, row in known])
        scores.labelled([row for _, row in known])


@click.command(help=__doc__)
@home_option()
@click.option("--url", help="The server; by default the one running in the home.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=200.0,
    show_default=True,
    help="Rows a second; 0: all it takes.",
)
@click.option("--start", type=click.IntRange(min=0), default=0, show_default=True, help="First row to play.")
@click.option("--rows", type=click.IntRange(min=1), help="How many rows to play; all by default.")
def main(home: Home, url: str | None, speed: float, start: int, rows: int | None) -> None:
    """Play the stream and report errors."""
    console = Console()
    try:
        schema = load(home.config).schema
        groups, unused = days(home.data / "stream.csv", schema, start, rows)
        client = DemoClient(server_url(home, url))
        hidden = {schema.target.name} | ({unused} if unused else set())
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        with bar:
            task = bar.add_task(f"rows to {client.url}", total=sum(map(len, groups)))
            for scores, done in play(client, groups, schema, hidden, speed):
                bar.update(task, advance=done, description=scores.text())
        console.print(scores.table())
    except MillraceError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
