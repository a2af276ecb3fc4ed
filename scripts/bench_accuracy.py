"""Measure the accuracy of what the server serves, beside other models on the same rows.

    python -m scripts.bench_accuracy                      everything: hours, River's ensembles are slow
    python -m scripts.bench_accuracy --stream energy --model millrace --model "LightGBM retrained"

Figures go to docs/benchmarks/accuracy.json and, as tables, into docs/benchmarks.md; plots of the rolling
error to artifacts/accuracy/. Interrupt it and it goes on with the next model. The streams are found as the
tests find them (MILLRACE_STREAMS); without them the generated stream is measured.
"""

from __future__ import annotations

import functools
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import river
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scripts.accuracy_peers import CAPYMOA, PEERS
from scripts.accuracy_report import OURS, markdown, measured, plot, rolling, screen
from scripts.accuracy_server import millrace
from scripts.accuracy_stream import Stream, described, inferred, prepare, read_stream
from scripts.benchmark_document import DOCUMENT, FIGURES, replace_section
from tests.streams import real_streams

MODELS = {OURS: millrace, **PEERS}
ALL = {**MODELS, **CAPYMOA}
ROWS = 12_000
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

    def pair(self, stream: Stream) -> dict[str, Any]:
        """The figures of one stream and delay."""
        name, rows = f"{stream.name}, {stream.delay}", len(stream.targets) - stream.bootstrap
        fresh = {"schema": stream.schema.hash, "rows": rows, "bootstrap": stream.bootstrap}
        known = self.kept["pairs"].get(name, {})
        if {part: known.get(part) for part in fresh} != fresh:
            self.kept["pairs"][name] = fresh | {"deviation": stream.deviation, "models": {}}
        pair: dict[str, Any] = self.kept["pairs"][name]
        return pair

    def save(self) -> None:
        """Write them down."""
        self.kept["versions"] = {"python": platform.python_version(), "river": river.__version__}
        self.kept["versions"]["numpy"] = np.__version__
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.kept, indent=1) + "\n", encoding="utf-8")


def measure(stream: Stream, names: Sequence[str], figures: Figures, again: bool) -> Iterator[str]:
    """Measure the models that have not been yet; gives the name of each that now is."""
    for name in names:
        models = figures.pair(stream)["models"]
        if name in models and not again:
            continue
        try:
            with progress() as bars:
                rows = len(stream.targets) - stream.bootstrap
                task = bars.add_task(f"{stream.name}, {stream.delay}: {name}", total=rows)
                forecast = ALL[name](stream, functools.partial(bars.advance, task))
        except ImportError as exc:
            console.print(f"{name} is left out: {exc}")
            continue
        models[name] = measured(forecast, stream) | {"rolling": rolling(forecast, stream)}
        console.print(
            f"{stream.name}, {stream.delay}: {name} {models[name]['mae_sd']:.4f} in {forecast.seconds:.0f} s"
        )
        figures.save()
        yield name


def progress() -> Progress:
    """One bar a model; rows learned before the first is tested are not counted."""
    return Progress(
        TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True,
    )  # fmt: skip


def draw(stream: Stream, figures: Figures, folder: Path) -> None:
    """The plot of one stream and delay."""
    pair = figures.pair(stream)
    lines = {name: one["rolling"] for name, one in pair["models"].items()}
    if lines:
        title = f"{stream.name}, labels {stream.delay} rows late: rolling error / standard deviation"
        plot(folder / f"{stream.name}_{stream.delay}.svg", title, lines, pair["rows"])


def run(
    folder: Path | None, streams: Sequence[str], names: Sequence[str], rows: int, figures: Figures,
    plots: Path, again: bool = False, delays: Sequence[int] = (),
) -> None:  # fmt: skip
    """Measure all models on all streams and delays."""
    entries = described(folder)
    for stream_name in streams or list(entries):
        frame, entry = read_stream(folder, stream_name)
        schema = inferred(frame, entry, stream_name)
        for delay in delays or entry["delays"]:
            stream = prepare(frame, entry, schema, delay, rows)
            for _ in measure(stream, names, figures, again):
                draw(stream, figures, plots)


@click.command()
@click.option("--stream", "streams", multiple=True, help="Only these streams.")
@click.option("--delay", "delays", multiple=True, type=int, help="Only these delays, in rows.")
@click.option("--model", "models", multiple=True, type=click.Choice(list(ALL)), help="Only these models.")
@click.option("--peer", type=click.Choice(["capymoa"]), help="CapyMOA's models too, where it is installed.")
@click.option("--rows", default=ROWS, show_default=True, help="Rows scored after the bootstrap, at most.")
@click.option("--again", is_flag=True, help="Measure also what has been measured.")
@click.option(
    "--figures", "path", type=click.Path(path_type=Path), default=FIGURES / "accuracy.json", show_default=True
)
@click.option("--document", type=click.Path(path_type=Path), default=DOCUMENT, show_default=True)
@click.option(
    "--plots", type=click.Path(path_type=Path), default=Path("artifacts/accuracy"), show_default=True
)
def main(
    streams: tuple[str, ...], delays: tuple[int, ...], models: tuple[str, ...], peer: str | None, rows: int,
    again: bool, path: Path, document: Path, plots: Path,
) -> None:  # fmt: skip
    """Measure, and write the figures down."""
    folder, figures = real_streams(), Figures(path)
    for stream in streams:
        if stream not in described(folder):
            raise click.BadParameter(
                f"{stream!r} is none of {', '.join(described(folder))}", param_hint="--stream"
            )
    names = list(models or [*MODELS, *(CAPYMOA if peer else ())])
    try:
        run(folder, streams, names, rows, figures, plots, again, delays)
    finally:
        shown = [
            name for name in ALL if any(name in pair["models"] for pair in figures.kept["pairs"].values())
        ]
        console.print(screen(figures.kept, shown))
        replace_section("accuracy", markdown(figures.kept, list(ALL)), document)


if __name__ == "__main__":
    main()
