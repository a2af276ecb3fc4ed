"""Ask a label endpoint for the labels that would help most, and have the server learn them.

    python scripts/request_labels.py --endpoint http://127.0.0.1:9009/labels
    python scripts/request_labels.py --endpoint ... --budget 100 --watch 60     again every minute

Each round takes the server's wanted rows, posts their features to the endpoint, appends what comes to
data/labeled_drift.csv, and teaches it by id. A round that is broken off goes on where it stopped: what was
asked for and not answered stands in data/label_requests.json. A row without a label there is asked for
again in later rounds, a few times.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from bootstrap.sources.label_endpoint import LabelEndpoint
from online.core.config import load
from online.core.errors import InputError, MillraceError
from online.core.home import Home, write_atomically
from online.core.schema import Schema
from online.drift.drift_log import complete_length
from server.processes.discovery import running

__all__ = ["Requests", "Round"]

ASKED_AGAIN = 3  # rounds in which a row without a label is asked for again
LEARNED_AT_ONCE = 500
DEFAULT_URL = "http://127.0.0.1:8000"


class State(msgspec.Struct):
    """What is under way: rows asked for (as the server listed them), and how often ids had no label."""

    pending: list[dict[str, Any]] = []
    unanswered: dict[str, int] = {}


@dataclasses.dataclass
class Round:
    """What one round came to: counts, and absolute errors of the rows labelled, as served and after."""

    asked: int = 0
    labelled: int = 0
    empty: int = 0
    errors: list[float] = dataclasses.field(default_factory=list)
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    again: list[float] = dataclasses.field(default_factory=list)


class Requests:
    """Label requests of one home; one process at a time.

    Parameters
    ----------
    home, schema
        The stream.
    server
        A client of its server.
    endpoint
        Where labels come from.
    """

    def __init__(self, home: Home, schema: Schema, server: httpx.Client, endpoint: LabelEndpoint) -> None:
        self._target = schema.target.name
        self._features = [feature.name for feature in schema.features]
        self._server = server
        self._endpoint = endpoint
        self._file = home.data / "label_requests.json"
        self._table = home.data / "labeled_drift.csv"
        self._state = self._recover()

    def round(self, budget: int, random: float) -> Round:
        """Ask for so many labels at most. Raises InputError when a side cannot be used; what came is kept."""
        done = Round()
        if not self._state.pending:
            self._state.pending = self._wanted(budget, random)
            self._save()
        while self._state.pending:
            asked = self._state.pending
            labels = self._endpoint.labels([row["features"] for row in asked])
            answered = list(zip(asked, labels, strict=False))
            done.asked += len(answered)
            self._take([(row, label) for row, label in answered if label is not None], done)
            for row, label in answered:
                if label is None:
                    done.empty += 1
                    self._state.unanswered[row["id"]] = self._state.unanswered.get(row["id"], 0) + 1
            self._state.pending = asked[len(answered) :]
            self._save()
        return done

    def _wanted(self, budget: int, random: float) -> list[dict[str, Any]]:
        hopeless = {name for name, times in self._state.unanswered.items() if times >= ASKED_AGAIN}
        asked = {"budget": min(10_000, budget + len(hopeless)), "random": random}
        rows = answered(self._server.get("/labels/wanted", params=asked))["wanted"]
        return [row for row in rows if row["id"] not in hopeless][:budget]

    def _take(self, labelled: list[tuple[dict[str, Any], float]], done: Round) -> None:
        """Keep labels, then teach them; teaching one twice changes nothing."""
        if not labelled:
            return
        self._append(labelled)
        for start in range(0, len(labelled), LEARNED_AT_ONCE):
            part = labelled[start : start + LEARNED_AT_ONCE]
            self._learn([{"id": row["id"], self._target: label} for row, label in part])
        again = self._server.post(
            "/predict", params={"record": "false"}, json=[row["features"] for row, _ in labelled]
        )
        for (row, label), prediction in zip(labelled, answered(again)["predictions"], strict=True):
            done.labelled += 1
            done.errors.append(abs(row["prediction"] - label))
            done.again.append(abs(prediction - label))
            done.reasons.update(row["reasons"])

    def _learn(self, labels: list[dict[str, Any]]) -> None:
        """Teach labels, waiting while the server has too many."""
        while True:
            came = self._server.post("/learn", params={"wait": "1"}, json=labels)
            if came.status_code != 429:
                answered(came)
                return
            time.sleep(min(10.0, float(came.headers.get("retry-after", "1"))))

    def _append(self, labelled: list[tuple[dict[str, Any], float]]) -> None:
        known = self._known
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not self._table.exists() or self._table.stat().st_size == 0:
            writer.writerow(["id", "served_at", "reasons", "prediction", *self._features, self._target])
        for row, label in labelled:
            if row["id"] not in known:
                features = [row["features"].get(name) for name in self._features]
                reasons = "; ".join(row["reasons"])
                writer.writerow([row["id"], row["served_at"], reasons, row["prediction"], *features, label])
                known.add(row["id"])
        with self._table.open("ab") as file:
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())

    def _recover(self) -> State:
        """What was under way; half a line that a crash left in the table is cut off."""
        self._known: set[str] = set()
        if self._table.exists():
            content = self._table.read_bytes()
            whole = complete_length(content)
            os.truncate(self._table, whole)
            rows = csv.DictReader(io.StringIO(content[:whole].decode(), newline=""))
            self._known = {row["id"] for row in rows}
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=State)
        except (FileNotFoundError, msgspec.MsgspecError):
            return State()

    def _save(self) -> None:
        write_atomically(self._file, msgspec.json.encode(self._state))


def answered(came: httpx.Response) -> Any:
    """The server's reply. Raises InputError when it refuses."""
    if not came.is_success:
        raise InputError(f"{came.url} answered {came.status_code}: {came.text[:300]}", field="url")
    return came.json()


def shown(done: Round, before: Any, after: Any) -> Table:
    """What a round changed, for people."""
    table = Table(
        title=f"{done.asked:,} labels asked for, {done.labelled:,} came, {done.empty:,} are not there"
    )
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="right" if heading else "left")
    if done.errors:
        was, now = sum(done.errors) / len(done.errors), sum(done.again) / len(done.again)
        table.add_row("mean absolute error on the rows labelled", f"{was:,.5g}", f"{now:,.5g}")
    errors = [report["prequential"].get("mae") for report in (before, after)]
    table.add_row("the same of the last 1,000 labelled as served", *(figure(one) for one in errors))
    table.add_row("labels learned", *(f"{report['labels']['learned']:,}" for report in (before, after)))
    for reason, count in done.reasons.most_common(6):
        table.add_row(f"asked for: {reason}", "", f"{count:,}")
    return table


def figure(value: float | None) -> str:
    """A number that may not be there."""
    return "-" if value is None else f"{value:,.5g}"


def pairs(given: tuple[str, ...], what: str) -> Iterator[tuple[str, str]]:
    """``NAME=VALUE`` options taken apart."""
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise InputError(f"--{what} {one}: give it as NAME=VALUE", field=what)
        yield name, value


@click.command(help=__doc__)
@click.option(
    "--home", "root", type=click.Path(file_okay=False, path_type=Path), default=".", show_default=True
)
@click.option("--url", help="The server; by default the one running in the home.")
@click.option("--endpoint", required=True, help="Where rows are posted for their labels.")
@click.option(
    "--budget", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Rows a round."
)
@click.option(
    "--random", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Share drawn at random."
)
@click.option(
    "--batch", type=click.IntRange(1), default=1000, show_default=True, help="Rows posted at once, at first."
)
@click.option("--field", help="The label's name in the answer; the target's by default.")
@click.option("--reply", default="", help="Where the answer's array stands, as data.rows.")
@click.option(
    "--name", "names", multiple=True, metavar="FEATURE=NAME", help="What a feature is called there."
)
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Sent to the endpoint.")
@click.option("--watch", type=click.FloatRange(min=0.1), help="Go on, a round every so many seconds.")
def main(
    root: Path, url: str | None, endpoint: str, budget: int, random: float, batch: int, field: str | None,
    reply: str, names: tuple[str, ...], headers: tuple[str, ...], watch: float | None,
) -> None:  # fmt: skip
    """Ask for labels, once or for good."""
    home, console = Home(root.resolve()), Console()
    try:
        schema = load(home.config).schema
        labels = LabelEndpoint(
            endpoint, field or schema.target.name, path=reply, names=dict(pairs(names, "name")), batch=batch,
            headers=dict(pairs(headers, "header")),
        )  # fmt: skip
        server = httpx.Client(base_url=url or running(home) or DEFAULT_URL, timeout=90.0)
        requests = Requests(home, schema, server, labels)
        while True:
            attempt(requests, server, budget, random, console, patient=watch is not None)
            if watch is None:
                return
            time.sleep(watch)
    except (MillraceError, httpx.HTTPError) as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(1)


def attempt(
    requests: Requests, server: httpx.Client, budget: int, random: float, console: Console, *, patient: bool
) -> None:
    """One round; a failure is shown and left for the next one when there is a next one."""
    try:
        before = answered(server.get("/model"))
        done = requests.round(budget, random)
        console.print(shown(done, before, answered(server.get("/model"))))
    except (InputError, httpx.HTTPError) as exc:
        if not patient:
            raise
        console.print(f"[red]{exc}[/]")


if __name__ == "__main__":
    main()
