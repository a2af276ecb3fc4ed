"""Measure the adaptive forest against River's ensembles: cost of a row, error on real streams, memory.

    python -m scripts.bench.bench_forest              everything
    python -m scripts.bench.bench_forest cost         one part: cost, errors or memory

Figures go to docs/benchmarks/forest.json and, as tables, into docs/benchmarks.md, after every step:
interrupt it and it goes on where it stopped. The streams are found as the tests find them (MILLRACE_STREAMS).
"""

from __future__ import annotations

import json
import pickle
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import river
from rich.console import Console
from river import base, ensemble, forest, tree

from online.forest.regressor import AdaptiveForestRegressor
from scripts.bench.stream_rows import StreamRows, load
from tests.support.benchmark_document import FIGURES, REPOSITORY, replace_section
from tests.support.streams import real_streams

FOREST_FIGURES = FIGURES / "forest.json"
DEFAULT_FOREST = "forest-10"
SEEDS = (
    1,
    2,
    3,
)  # of ours, whose errors are means over them; River's ensembles cost a minute each, and have one
console = Console()


def quantised() -> Any:
    """River's QO observer with the radius it is commonly used with on standardised features."""
    return tree.splitter.QOSplitter(0.25)


def srp_quantised() -> base.Regressor:
    """River's SRP with its own default tree, but QO observers."""
    member = tree.HoeffdingTreeRegressor(grace_period=50, delta=0.01, splitter=quantised())
    return ensemble.SRPRegressor(model=member, n_models=10, seed=1)


COMPARED_MODELS: dict[str, Callable[[], base.Regressor]] = {
    DEFAULT_FOREST: lambda: AdaptiveForestRegressor(n_models=10, seed=1),
    "forest-30": lambda: AdaptiveForestRegressor(n_models=30, seed=1),
    "HATR": lambda: tree.HoeffdingAdaptiveTreeRegressor(seed=1),
    "HATR-QO": lambda: tree.HoeffdingAdaptiveTreeRegressor(seed=1, splitter=quantised()),
    "ARF-10": lambda: forest.ARFRegressor(n_models=10, seed=1),
    "ARF-10-QO": lambda: forest.ARFRegressor(n_models=10, seed=1, splitter=quantised()),
    "SRP-10": lambda: ensemble.SRPRegressor(n_models=10, seed=1),
    "SRP-10-QO": srp_quantised,
}


def kept() -> dict[str, Any]:
    """The figures so far."""
    if FOREST_FIGURES.exists():
        figures: dict[str, Any] = json.loads(FOREST_FIGURES.read_text())
        return figures
    return {"cost": {}, "errors": {}, "memory": {}}


def keep(part: str, name: str, figures: Any) -> None:
    """Add figures to the file, and bring the table up to date."""
    everything = kept()
    everything["versions"] = {"python": platform.python_version(), "river": river.__version__}
    everything[part][name] = figures
    FOREST_FIGURES.parent.mkdir(parents=True, exist_ok=True)
    FOREST_FIGURES.write_text(json.dumps(everything, indent=1) + "\n")
    replace_section("forest", section(everything))


# Cost


def made_rows(n: int, features: int, seed: int = 0) -> tuple[list[dict[str, float]], list[float]]:
    """A stream with thresholds, lines and noise; its first feature changes its sign half-way."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features))
    sign = np.where(np.arange(n) < n // 2, 1.0, -1.0)
    y = 3 * sign * x[:, 0] + 2 * np.where(x[:, 1] > 0, x[:, 2], -x[:, 3]) + np.sin(3 * x[:, 4])
    y += rng.normal(size=n) * 0.3
    names = [f"f{i}" for i in range(features)]
    return [dict(zip(names, row, strict=True)) for row in x.tolist()], y.tolist()


class CapyMOAForest:
    """CapyMOA's ARF-Reg of ten trees behind River's two calls; rows are made its instances beforehand.

    Raises ImportError where CapyMOA or Java is missing.
    """

    def __init__(self, rows: list[dict[str, float]], targets: list[float]) -> None:
        from capymoa.core import RegressionInstance
        from capymoa.regressor import AdaptiveRandomForestRegressor
        from capymoa.stream import Schema

        schema = Schema.from_custom(features=[*rows[0], "target"], target="target", name="rows")
        self._model = AdaptiveRandomForestRegressor(schema=schema, ensemble_size=10, random_seed=1)
        self._instances = {
            id(row): RegressionInstance.from_array(schema, np.array(list(row.values())), target)
            for row, target in zip(rows, targets, strict=True)
        }

    def predict_one(self, row: dict[str, float]) -> float:
        """Its prediction."""
        prediction: float = self._model.predict(self._instances[id(row)])
        return prediction

    def learn_one(self, row: dict[str, float], target: float) -> None:  # noqa: ARG002 - River's signature
        """Teach it: the row was made with its target."""
        self._model.train(self._instances[id(row)])


def measure_cost(warm: int, rounds: int, chunk: int) -> None:
    """Microseconds to predict and to learn a row, the models taking turns."""
    rows, targets = made_rows(warm + rounds * chunk, 16)
    models: dict[str, Any] = {
        name: COMPARED_MODELS[name]() for name in (DEFAULT_FOREST, "forest-30", "ARF-10", "SRP-10", "HATR")
    }
    try:
        models["CapyMOA ARF-Reg-10"] = CapyMOAForest(rows, targets)
    except ImportError as exc:
        console.print(f"cost: CapyMOA is left out: {exc}")
    names = list(models)
    for name, model in models.items():
        console.print(f"cost: warming {name}")
        run(model, rows[:warm], targets[:warm])
    spent: dict[str, list[list[float]]] = {name: [] for name in names}
    for start in range(warm, len(rows), chunk):
        for name, model in models.items():
            spent[name].append(run(model, rows[start : start + chunk], targets[start : start + chunk]))
    figures = {}
    for name in names:
        predict, learn = (statistics.median(times) for times in zip(*spent[name], strict=True))
        figures[name] = {"predict_us": predict, "learn_us": learn, "both_us": predict + learn}
    keep(
        "cost", "16 features", {"warm_rows": warm, "rounds": rounds, "rows_a_round": chunk, "models": figures}
    )


def run(model: Any, rows: list[dict[str, float]], targets: list[float]) -> list[float]:
    """Predict, then learn these rows; microseconds a row of each."""
    first = time.perf_counter()
    for row in rows:
        model.predict_one(row)
    middle = time.perf_counter()
    for row, target in zip(rows, targets, strict=True):
        model.learn_one(row, target)
    last = time.perf_counter()
    return [(middle - first) / len(rows) * 1e6, (last - middle) / len(rows) * 1e6]


# Error


def measure_errors(folder: Path, models: list[str], bootstrap: int, tested: int) -> None:
    """Error of each model on each stream and delay; what has been measured is not measured again."""
    entries = json.loads((folder / "streams.json").read_text())
    for name in models:
        for stream, delay in [(stream, d) for stream, entry in entries.items() for d in entry["delays"]]:
            key = f"{stream}/{delay}/{bootstrap}+{tested}/{name}"
            rows = load(folder, stream, delay, REPOSITORY / "artifacts" / "streams")
            if kept()["errors"].get(key, {}).get("columns") == len(rows.columns):
                continue
            figures = {"columns": len(rows.columns)} | measure_error(name, rows, bootstrap, tested)
            keep("errors", key, figures)
            console.print(f"errors: {key} {figures['error']:.4f} in {figures['seconds']:.0f} s")


def measure_error(name: str, rows: StreamRows, bootstrap: int, tested: int) -> dict[str, float]:
    """One model's error on a stream; of ours the mean over several seeds, which are single draws too."""
    model = COMPARED_MODELS[name]()
    if not isinstance(model, AdaptiveForestRegressor):
        return prequential(model, rows, bootstrap, tested)
    models = [model.clone({"delay": rows.delay, "seed": seed}) for seed in SEEDS]
    runs = [prequential(model, rows, bootstrap, tested) for model in models]
    return runs[0] | {
        "error": statistics.mean(run["error"] for run in runs),
        "seeds": len(SEEDS),
        "lowest": min(run["error"] for run in runs),
        "highest": max(run["error"] for run in runs),
    }


def prequential(model: base.Regressor, rows: StreamRows, bootstrap: int, tested: int) -> dict[str, float]:
    """Learn the last ``bootstrap`` rows of the bootstrap part, then go on for ``tested`` rows, scoring them.

    The error is the mean absolute one over the standard deviation of the bootstrap targets. An output that is
    not finite counts as zero was predicted.
    """
    first, last = max(0, rows.bootstrap - bootstrap), min(len(rows.y), rows.bootstrap + tested)
    x, y = rows.dicts(first, last), rows.y[first:last].tolist()
    begun, total, count = time.perf_counter(), 0.0, 0
    for row_index, row in enumerate(x):
        if row_index > rows.delay:
            model.learn_one(x[row_index - rows.delay - 1], y[row_index - rows.delay - 1])
        if first + row_index >= rows.bootstrap:
            guess = model.predict_one(row)
            total += abs(y[row_index] - (guess if guess is not None and np.isfinite(guess) else 0.0))
            count += 1
    error = total / count / rows.deviation
    return {"error": error, "rows": count, "learned": len(x), "seconds": time.perf_counter() - begun}


# Memory


def measure_memory(marks: tuple[int, ...]) -> None:
    """Bytes of 30 trees on 32 features, live and pickled, after so many rows."""
    model = AdaptiveForestRegressor(n_models=30, seed=1)
    figures: dict[str, dict[str, float]] = {}
    learned = 0
    for block in range(max(marks) // 10_000):
        for x, y in zip(*made_rows(10_000, 32, seed=block), strict=True):
            model.learn_one(x, y)
        learned += 10_000
        if learned in marks:
            begun = time.perf_counter()
            size = len(pickle.dumps(model))
            seconds = time.perf_counter() - begun
            figures[str(learned)] = {"live": model.n_bytes, "pickled": size, "pickle_seconds": seconds}
            console.print(f"memory: {learned:,} rows {figures[str(learned)]}")
    keep("memory", "30 trees, 32 features", figures)


# The section


def section(figures: dict[str, Any]) -> str:
    """All figures as Markdown."""
    parts = [
        FOREST_INTRODUCTION,
        *cost_lines(figures["cost"]),
        *error_lines(figures["errors"]),
        *memory_lines(figures["memory"]),
    ]
    return "\n".join(parts) + "\n"


FOREST_INTRODUCTION = """## The adaptive forest

`make bench-forest`; raw figures in `docs/benchmarks/forest.json`. All models see the same rows: encoded, with
context features from the labels that had arrived, imputed and standardised.

How to read the figures: an empty cell was not measured, and `best` is the best of those that were. The
forest's settings were chosen on these same streams, so its errors flatter it; other streams are the proof.
Errors were gathered over several runs of the same rows, those of the forests being means over three seeds;
costs are of one run, on a shared two-core machine.
"""


def cost_lines(costs: dict[str, Any]) -> list[str]:
    """The table of costs."""
    lines = []
    for title, cost in costs.items():
        lines += [f"### Microseconds a row, {title}", ""]
        lines += [
            f"Medians of {cost['rounds']} rounds of {cost['rows_a_round']} rows in turn, after "
            f"{cost['warm_rows']:,} rows.",
            "",
            "| model | predict | learn | both | times forest-10 |",
            "|---|---|---|---|---|",
        ]
        ours = cost["models"][DEFAULT_FOREST]["both_us"]
        for name, us in cost["models"].items():
            cells = [f"{us[key]:,.1f}" for key in ("predict_us", "learn_us", "both_us")]
            lines.append(f"| {name} | {' | '.join(cells)} | {us['both_us'] / ours:.1f} |")
        lines.append("")
    return lines


def error_lines(errors: dict[str, Any]) -> list[str]:
    """One table for each way of cutting the streams."""
    lines = []
    for cut in sorted({key.split("/")[2] for key in errors}):
        cells: dict[tuple[str, str], dict[str, float]] = {}
        for key, figure in errors.items():
            stream, delay, part, name = key.split("/")
            if part == cut:
                cells.setdefault((stream, delay), {})[name] = figure["error"]
        names = [name for name in COMPARED_MODELS if any(name in row for row in cells.values())]
        learned, tested = (f"{int(n):,}" for n in cut.split("+"))
        lines += [
            f"### Error: at most {learned} rows learned first, then at most {tested} scored",
            "",
            "Mean absolute error over the bootstrap targets' standard deviation; best is River's best.",
            "",
            f"| stream, delay | {' | '.join(names)} | forest-10 / best |",
            f"|---|{'---|' * len(names)}---|",
        ]
        ratios = []
        for (stream, delay), row in cells.items():
            others = [error for name, error in row.items() if not name.startswith("forest")]
            ratio = row[DEFAULT_FOREST] / min(others) if DEFAULT_FOREST in row and others else float("nan")
            ratios.append(ratio)
            shown = [f"{row[name]:.4f}" if name in row else "" for name in names]
            compared = f"{ratio:.3f}" if ratio == ratio else ""
            lines.append(f"| {stream}, {delay} | {' | '.join(shown)} | {compared} |")
        mean = float(np.exp(np.nanmean(np.log(ratios)))) if np.isfinite(ratios).any() else float("nan")
        lines += [f"| geometric mean | {'| ' * len(names)}{mean:.3f} |", ""]
    return lines


def memory_lines(memory: dict[str, Any]) -> list[str]:
    """The table of bytes."""
    lines = []
    for title, sizes in memory.items():
        lines += [
            f"### Memory, {title}",
            "",
            "| rows | MB live | MB pickled | seconds to pickle |",
            "|---|---|---|---|",
        ]
        for rows, size in sizes.items():
            megabytes = f"{size['live'] / 1e6:.1f} | {size['pickled'] / 1e6:.1f}"
            lines.append(f"| {int(rows):,} | {megabytes} | {size['pickle_seconds']:.2f} |")
        lines.append("")
    return lines


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(["cost", "errors", "memory", "table"]))
@click.option("--bootstrap", default=3000, show_default=True, help="Rows learned before scoring, at most.")
@click.option("--tested", default=3000, show_default=True, help="Rows scored, at most.")
@click.option(
    "--model", "models", multiple=True, type=click.Choice(list(COMPARED_MODELS)), help="Only these models."
)
@click.option("--warm", default=1000, show_default=True, help="Rows learned before the cost is measured.")
@click.option("--rounds", default=15, show_default=True, help="Rounds of which the cost is the median.")
def main(  # noqa: PLR0913 - one argument an option
    parts: tuple[str, ...], bootstrap: int, tested: int, models: tuple[str, ...], warm: int, rounds: int
) -> None:
    """Measure PARTS, by default all, and write the figures down."""
    folder = real_streams()
    if "cost" in parts or not parts:
        measure_cost(warm, rounds, 50)
    if "memory" in parts or not parts:
        measure_memory((200_000, 1_000_000))
    if "errors" in parts or not parts:
        if folder is None:
            raise click.ClickException("no real streams: set MILLRACE_STREAMS to a folder with streams.json")
        measure_errors(folder, list(models or COMPARED_MODELS), bootstrap, tested)
    replace_section("forest", section(kept()))


if __name__ == "__main__":
    main()
