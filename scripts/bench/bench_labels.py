"""Measure what labelling a tenth of the rows is worth, beside labelling all of them, none, or a random tenth.

    python arena.py host --port 9009 &
    python -m scripts.bench.bench_labels --endpoint http://127.0.0.1:9009 \\
        --traffic "python arena.py play --url {url} --no-labels --rows 6000"

Every run is ``scripts/challenge.py`` on a copy of one bootstrapped home, labels coming through label requests
alone. Figures go to docs/benchmarks/drift.json and docs/benchmarks.md.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track

from online.core.home import Home
from scripts.bench.bench_drift import DRIFT_FIGURES
from scripts.challenge import prepare
from tests.support.benchmark_document import replace_section

RUNS: dict[str, tuple[float, float]] = {  # share of the rows labelled, and of these at random
    "no labels": (0.0, 0.0),
    "all rows": (1.0, 0.2),
    "the wanted tenth": (0.1, 0.2),
    "a random tenth": (0.1, 1.0),
}


def played(home: Path, endpoint: str, traffic: str, target: str, labels: tuple[float, float]) -> Any:
    """One run's report; ``labels`` are the share of rows to label, and of these at random."""
    share, random = labels
    out = home / "report.json"
    subprocess.run(  # noqa: S603 - our own script
        [
            sys.executable,
            "-m",
            "scripts.challenge",
            "--home",
            str(home),
            "--endpoint",
            endpoint,
            "--target",
            target,
            "--traffic",
            traffic,
            "--share",
            str(share),
            "--random",
            str(random),
            "--out",
            str(out),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return json.loads(out.read_text())


def recovered(errors: dict[str, float], name: str) -> float:
    """What a run takes away of the error that labelling all rows takes away."""
    return (errors["no labels"] - errors[name]) / (errors["no labels"] - errors["all rows"])


def section(reports: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md."""
    errors = {name: report["played"]["mae"] for name, report in reports.items()}
    lines = ["| labelled | labels | mean absolute error | R² | of the reduction |", "|---|---|---|---|---|"]
    for name, report in reports.items():
        seen = report["played"]
        cells = (f"{report['labels_learned']:,}", f"{seen['mae']:,.0f}", f"{seen['r2']:.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} | {recovered(errors, name):.0%} |")
    return f"""## Labels worth having

`python -m scripts.bench.bench_labels --endpoint URL --traffic CMD`, here with the energy stream of a
challenge:
{next(iter(reports.values()))["played"]["rows"]:,} rows served in batches of 24, labels through label requests
alone, every 240 rows; raw figures in `docs/benchmarks/drift.json`. One run each: they differ by some percent
from stream to stream, and one stream is no proof for others.

{chr(10).join(lines)}
"""


@click.command(help=__doc__)
@click.option("--endpoint", required=True, help="Answers GET /data and POST /labels.")
@click.option("--traffic", required=True, help="Command that sends the rows to {url}.")
@click.option("--target", default="Production", show_default=True, help="The column to predict.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("artifacts/labels"), show_default=True)
def main(endpoint: str, traffic: str, target: str, work: Path) -> None:
    """Run all, and write the figures and the section."""
    first = Home((work / "first").resolve()).create()
    prepare(first, endpoint.rstrip("/"), target)
    reports = {}
    for name, labels in track(RUNS.items(), "playing"):
        copy = work / name.replace(" ", "-")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(first.root, copy)
        reports[name] = played(copy.resolve(), endpoint, traffic, target, labels)
    figures = json.loads(DRIFT_FIGURES.read_text()) if DRIFT_FIGURES.exists() else {}
    DRIFT_FIGURES.write_text(json.dumps(figures | {"labels": reports}, indent=1) + "\n")
    replace_section("labels", section(reports))
    Console().print(section(reports))


if __name__ == "__main__":
    main()
