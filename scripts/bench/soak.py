"""Memory of the learner over a long stream of labels: it must stop growing.

    python -m scripts.bench.soak                     a million labels
    python -m scripts.bench.soak --labels 50000      fewer

Labels of the made stream go into a home's journal as fast as its learner takes them, in one process; memory
is read at every tenth. Figures go to docs/benchmarks/soak.json and docs/benchmarks.md. Exits with 1 when the
last is more than 1.5 times the first.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bootstrap.home_option import home_option
from online.core.home import Home
from scripts.bench.speed_home import made_rows, make_home
from tests.support.benchmark_document import FIGURES, replace_section
from tests.support.soaking import soak

JOURNAL_BATCH = 1000
MOST_GROWTH = 1.5
console = Console()


def section(outcome: dict[str, Any]) -> str:
    """The document's section."""
    sizes = outcome["resident_mb"]
    rows = "\n".join(f"| {int(labels):,} | {size:.0f} |" for labels, size in sizes.items())
    return (
        "## Memory\n\n`make soak`; raw figures in `docs/benchmarks/soak.json`. What the learner's process"
        " holds while it learns labels of the made stream, with the default pool:"
        f" {outcome['ratio']:.2f} times from the first tenth to the end.\n\n"
        f"| labels learned | MB |\n|---|---|\n{rows}\n"
    )


@click.command()
@click.option("--labels", default=1_000_000, show_default=True)
@home_option(default="artifacts/speed")
@click.option("--bootstrap-rows", default=20_000, show_default=True, help="Rows its model is trained on.")
def main(labels: int, home: Home, bootstrap_rows: int) -> None:
    """Learn LABELS and watch the memory."""
    home = make_home(home.root.resolve(), bootstrap_rows)
    with tempfile.TemporaryDirectory() as folder:
        copy = Home(Path(shutil.copytree(home.root, Path(folder) / "home")))
        outcome = soak(copy, labels, JOURNAL_BATCH, made_rows, console)
    sizes = list(outcome["resident_mb"].values())
    outcome["ratio"] = sizes[-1] / sizes[0]
    (FIGURES / "soak.json").write_text(json.dumps(outcome, indent=1) + "\n")
    replace_section("soak", section(outcome))
    console.print(f"from the first tenth to the end: {outcome['ratio']:.2f} times")
    sys.exit(outcome["ratio"] > MOST_GROWTH)


if __name__ == "__main__":
    main()
