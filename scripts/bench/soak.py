"""Memory of the learner over a long stream of labels: it must stop growing.

    python -m scripts.bench.soak                     a million labels
    python -m scripts.bench.soak --labels 50000      fewer

Labels of the made stream go into a home's journal as fast as its learner takes them, in one process; memory
is read at every tenth. Figures go to docs/benchmarks/soak.json and docs/benchmarks.md. Exits with 1 when the
last is more than 1.5 times the first.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from online.core import config as configuration
from online.core.home import Home
from online.learning.learner import Learner
from online.storage.journal import Journal
from online.storage.records import Submission
from scripts.bench.benchmark_document import FIGURES, replace_section
from scripts.bench.speed_home import made_rows, make_home
from scripts.bench.speed_servers import resident_mb

__all__ = ["soak"]

Rows = Callable[[int, int], tuple[list[dict[str, Any]], list[float]]]

PART = 1000
MOST = 1.5
console = Console()


def soak(home: Home, labels: int, part: int, rows_of: Rows = made_rows) -> dict[str, Any]:
    """Learn so many labels, ``part`` at a time, in this process; megabytes held after every tenth of them.

    ``rows_of`` makes so many rows and their labels from a seed.
    """
    config = configuration.load(home.config)
    journal = Journal(home.journal, config.stream)
    marks: dict[int, float] = {}
    begun = time.perf_counter()
    with Learner(home, config) as learner:
        for done in range(part, labels + 1, part):
            rows, targets = rows_of(part, done)
            now = time.time()
            journal.append([Submission(y, now, None, row) for row, y in zip(rows, targets, strict=True)])
            learner.catch_up()
            if done % (labels // 10) < part:
                marks[done] = resident_mb(os.getpid())
                console.print(f"{done:,} labels: {marks[done]:.0f} MB")
    journal.close()
    seconds = time.perf_counter() - begun
    return {"labels": labels, "resident_mb": marks, "labels_per_second": labels / seconds}


def section(found: dict[str, Any]) -> str:
    """The document's section."""
    sizes = found["resident_mb"]
    rows = "\n".join(f"| {int(labels):,} | {size:.0f} |" for labels, size in sizes.items())
    return (
        "## Memory\n\n`make soak`; raw figures in `docs/benchmarks/soak.json`. What the learner's process"
        " holds while it learns labels of the made stream, with the default pool:"
        f" {found['ratio']:.2f} times from the first tenth to the end.\n\n"
        f"| labels learned | MB |\n|---|---|\n{rows}\n"
    )


@click.command()
@click.option("--labels", default=1_000_000, show_default=True)
@click.option("--home", "root", type=click.Path(path_type=Path), default="artifacts/speed", show_default=True)
@click.option("--bootstrap-rows", default=20_000, show_default=True, help="Rows its model is trained on.")
def main(labels: int, root: Path, bootstrap_rows: int) -> None:
    """Learn LABELS and watch the memory."""
    home = make_home(root.resolve(), bootstrap_rows)
    with tempfile.TemporaryDirectory() as folder:
        copy = Home(Path(shutil.copytree(home.root, Path(folder) / "home")))
        found = soak(copy, labels, PART)
    sizes = list(found["resident_mb"].values())
    found["ratio"] = sizes[-1] / sizes[0]
    (FIGURES / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    replace_section("soak", section(found))
    console.print(f"from the first tenth to the end: {found['ratio']:.2f} times")
    sys.exit(found["ratio"] > MOST)


if __name__ == "__main__":
    main()
