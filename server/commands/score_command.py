"""``millrace score``: predictions for a file of rows, from a home's plan or through a server."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import httpx
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bootstrap.home_option import home_option
from online.core.errors import InputError
from online.core.home import Home
from online.scoring.plan import ScoringPlan
from online.scoring.scorer import Scorer
from server.commands.score_tables import Row, read_rows, writing

__all__ = ["score"]

ADDED = ("prediction", "lower", "upper")


class Fixed(NamedTuple):
    """One plan for the whole file, whatever is published meanwhile."""

    plan: ScoringPlan


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("result", type=click.Path(path_type=Path))
@home_option(help_text="Folder with the model to score with.")
@click.option("--url", help="Score through the server there instead; its ledger keeps the predictions.")
@click.option("--rows", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Rows a part.")
def score(source: Path, result: Path, home: Home, url: str | None, rows: int) -> None:
    """Add prediction, lower and upper to every row of SOURCE and write RESULT.

    Both are CSV, NDJSON (.ndjson, .jsonl) or Parquet by their ending. RESULT is written whole or not at all.
    Through a server, RESULT has the ids that labels are sent with, too.
    """
    done = 0
    with progress() as bar, writing(result) as sink:
        task = bar.add_task("scoring", total=1.0)
        with_scores = through(url) if url else offline(home)
        for part, share in read_rows(source, rows):
            sink.write(columns(part, with_scores, done))
            done += len(part)
            bar.update(task, completed=share, description=f"{done:,} rows")
    click.echo(f"{done} rows in {result}")


Scores = Callable[[Sequence[Row]], dict[str, Sequence[Any]]]


def columns(part: list[Row], with_scores: Scores, done: int) -> list[Row]:
    """A part's rows with what was added; an error counts its row from the file's first."""
    taken = next((name for name in ADDED if name in part[0]), None)
    if taken is not None:
        raise InputError(f"the rows have a column {taken!r} already: rename it", field=taken)
    try:
        added = with_scores(part)
    except InputError as exc:
        if exc.index is None:
            raise
        row = done + exc.index
        raise InputError(f"row {row}, field {exc.field!r}: {exc}", field=exc.field, index=row) from exc
    return [
        row | dict(zip(added, values, strict=True))
        for row, values in zip(part, zip(*added.values(), strict=True), strict=True)
    ]


def offline(home: Home) -> Scores:
    """Score with the plan a home serves now; ids are of no use and left alone."""
    # a server may publish meanwhile: all rows of a file are scored by the same plan
    scorer = Scorer(Fixed(ScoringPlan.load(home.plan)))

    def scores(part: Sequence[Row]) -> dict[str, Sequence[Any]]:
        scored = scorer.serve([{k: v for k, v in row.items() if k != "id"} for row in part])
        return dict(zip(ADDED, (scored.predictions, scored.lower, scored.upper), strict=True))

    return scores


def through(url: str) -> Scores:
    """Score by asking a server."""
    return functools.partial(asked, httpx.Client(base_url=url, timeout=60.0))


def asked(client: httpx.Client, part: Sequence[Row]) -> dict[str, Sequence[Any]]:
    """What a server answers for some rows. Raises InputError with what it says is wrong."""
    try:
        body = msgspec.json.encode(part)
        reply = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
        answer = reply.json()
    except (httpx.HTTPError, ValueError) as exc:
        raise InputError(f"{client.base_url} did not answer as a Millrace server does: {exc}") from exc
    if reply.status_code != 200:
        detail = answer.get("detail", reply.text) if isinstance(answer, dict) else reply.text
        raise InputError(f"{detail} (status {reply.status_code})", answer.get("field"), answer.get("index"))
    scores = {name: answer[key] for name, key in zip(ADDED, ("predictions", "lower", "upper"), strict=True)}
    return scores if "id" in part[0] else {"id": answer["ids"]} | scores


def progress() -> Progress:
    """A bar on stderr, so that what is printed stays plain."""
    return Progress(
        TextColumn("{task.description:<24}"), BarColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    )
