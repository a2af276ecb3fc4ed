"""Measure the accuracy of what the server serves, beside other models on the same rows.

    python -m scripts.bench.bench_accuracy                      everything: hours, River's ensembles are slow
    python -m scripts.bench.bench_accuracy --stream energy --model millrace --model "LightGBM retrained"

Figures go to docs/benchmarks/accuracy.json and, as tables, into docs/benchmarks.md; plots of the rolling
error to artifacts/accuracy/. Interrupt it and it goes on with the next model. The streams are found as the
tests find them (MILLRACE_STREAMS); without them the generated stream is measured.
"""

from __future__ import annotations

import functools
import json
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import river
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from online.core.schema import Schema
from scripts.bench.accuracy_peers import CAPYMOA, PEERS, Model
from scripts.bench.accuracy_report import MILLRACE, MILLRACE_TOLD_DELAY, markdown, plot, rolling, screen
from scripts.bench.accuracy_server import millrace
from tests.support.accuracy_figures import measured
from tests.support.accuracy_stream import Stream, described, inferred, prepare, read_stream
from tests.support.benchmark_document import DOCUMENT, FIGURES, replace_section
from tests.support.streams import real_streams

DEFAULT_MODELS = {MILLRACE: millrace, **PEERS}
ALL_MODELS: dict[str, Model] = {
    **DEFAULT_MODELS,
    MILLRACE_TOLD_DELAY: functools.partial(millrace, told=True),
    **CAPYMOA,
}
SLOW_MODELS = ("ARF", "SRP")  # a millisecond a row and more: measured when all others have been
TESTED_ROWS = 12_000
console = Console(width=None if sys.stdout.isatty() else 140)


class Figures:
    """The figures kept so far; a stream's are dropped when its features have changed.

    Parameters
    ----------
    path
        The JSON file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: dict[str, Any] = {"pairs": {}}
        if path.exists():
            self.kept = json.loads(path.read_text(encoding="utf-8"))

    def models(self, name: str, schema: Schema, rows: int) -> dict[str, Any]:
        """The models measured on one stream and delay; none when it was measured otherwise.

        Parameters
        ----------
        name
            The stream and its delay.
        schema
            What its features are now.
        rows
            How many rows are to be scored at most.
        """
        asked = {"schema": schema.hash, "asked": rows}
        pair = self.kept["pairs"].get(name, {})
        if {part: pair.get(part) for part in asked} != asked:
            pair = self.kept["pairs"][name] = asked | {"models": {}}
        models: dict[str, Any] = pair["models"]
        return models

    def describe(self, stream: Stream) -> dict[str, Any]:
        """The figures of a prepared stream, with its size."""
        pair: dict[str, Any] = self.kept["pairs"][title(stream.name, stream.delay)]
        pair |= {"bootstrap": stream.bootstrap, "deviation": stream.deviation}
        pair["rows"] = len(stream.targets) - stream.bootstrap
        return pair

    def save(self) -> None:
        """Write them down."""
        self.kept["versions"] = {"python": platform.python_version(), "river": river.__version__}
        self.kept["versions"]["numpy"] = np.__version__
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = re.sub(r"\[[^][{}]*\]", one_line, json.dumps(self.kept, indent=1))
        self.path.write_text(text + "\n", encoding="utf-8")


def one_line(numbers: re.Match[str]) -> str:
    """A list of numbers as one line of JSON."""
    return " ".join(numbers[0].split())


def title(stream: str, delay: int) -> str:
    """What a stream with labels so many rows late is called."""
    return f"{stream}, {delay}"


def measure(stream: Stream, names: Sequence[str], figures: Figures) -> Iterator[None]:
    """Measure models, one a step."""
    pair, what = figures.describe(stream), title(stream.name, stream.delay)
    for name in names:
        try:
            with progress() as bars:
                task = bars.add_task(f"{what}: {name}", total=pair["rows"])
                forecast = ALL_MODELS[name](stream, functools.partial(bars.advance, task))
        except ImportError as exc:
            console.print(f"{name} is left out: {exc}")
            continue
        model_figures = measured(forecast, stream) | {"rolling": rolling(forecast, stream)}
        pair["models"][name] = model_figures
        console.print(f"{what}: {name} {model_figures['mae_sd']:.4f} in {forecast.seconds:.0f} s")
        figures.save()
        yield


def progress() -> Progress:
    """One bar a model; rows learned before the first is tested are not counted."""
    return Progress(
        TextColumn("{task.description:<40}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def draw(stream: Stream, figures: Figures, folder: Path) -> None:
    """The plot of one stream and delay."""
    pair = figures.describe(stream)
    lines = {name: model_figures["rolling"] for name, model_figures in pair["models"].items()}
    heading = f"{stream.name}, labels {stream.delay} rows late: rolling error / standard deviation"
    plot(folder / f"{stream.name}_{stream.delay}.svg", heading, lines, pair["rows"])


def run(asked: Scope, names: Sequence[str], figures: Figures, plots: Path) -> None:
    """Measure models on all streams and delays asked for, those that have not been yet."""
    entries = described(asked.folder)
    for name in asked.streams or list(entries):
        frame, entry = read_stream(asked.folder, name)
        schema = inferred(frame, entry, name)
        for delay in asked.delays or entry["delays"]:
            known = figures.models(title(name, delay), schema, asked.rows)
            missing = [model for model in names if asked.again or model not in known]
            if missing:
                stream = prepare(frame, entry, schema, delay, asked.rows)
                for _ in measure(stream, missing, figures):
                    draw(stream, figures, plots)


class Scope(NamedTuple):
    """What to measure: on which streams and delays (all when empty), how many rows, and whether again."""

    folder: Path | None
    streams: Sequence[str]
    delays: Sequence[int]
    rows: int
    again: bool


@click.command()
@click.option("--stream", "streams", multiple=True, help="Only these streams.")
@click.option("--delay", "delays", multiple=True, type=int, help="Only these delays, in rows.")
@click.option(
    "--model", "models", multiple=True, type=click.Choice(list(ALL_MODELS)), help="Only these models."
)
@click.option("--peer", type=click.Choice(["capymoa"]), help="CapyMOA's models too, where it is installed.")
@click.option(
    "--rows", default=TESTED_ROWS, show_default=True, help="Rows scored after the bootstrap, at most."
)
@click.option("--again", is_flag=True, help="Measure also what has been measured.")
@click.option(
    "--figures", "path", type=click.Path(path_type=Path), default=FIGURES / "accuracy.json", show_default=True
)
@click.option("--document", type=click.Path(path_type=Path), default=DOCUMENT, show_default=True)
@click.option(
    "--plots", type=click.Path(path_type=Path), default=Path("artifacts/accuracy"), show_default=True
)
def main(  # noqa: PLR0913 - one argument an option
    streams: tuple[str, ...],
    delays: tuple[int, ...],
    models: tuple[str, ...],
    peer: str | None,
    rows: int,
    again: bool,
    path: Path,
    document: Path,
    plots: Path,
) -> None:
    """Measure, and write the figures down."""
    asked, figures = Scope(real_streams(), streams, delays, rows, again), Figures(path)
    for stream in streams:
        if stream not in described(asked.folder):
            there = ", ".join(described(asked.folder))
            raise click.BadParameter(f"{stream!r} is none of {there}", param_hint="--stream")
    names = list(models or [*DEFAULT_MODELS, *(CAPYMOA if peer else ())])
    try:
        for part in (
            [name for name in names if name not in SLOW_MODELS],
            [name for name in names if name in SLOW_MODELS],
        ):
            run(asked, part, figures, plots)
    finally:
        console.print(screen(figures.kept, list(ALL_MODELS)))
        replace_section("accuracy", markdown(figures.kept, list(ALL_MODELS)), document)


if __name__ == "__main__":
    main()
