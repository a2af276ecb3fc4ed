"""How much poison among the labels harms: two homes learn the same stream, one with poison in it.

    python -m scripts.chaos.poison --home HOME --labels 10000 --share 0.05

HOME is bootstrapped and has data/stream.csv, the rows still to come; it is copied, never changed. Every
kind of poison takes its turn; the error is that of predictions as served on the rows left clean.
"""

from __future__ import annotations

import itertools
import math
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.progress import track

from bootstrap.home_option import home_option
from online.core.config import Config, LedgerConfig, load
from online.core.csv_rows import csv_rows
from online.core.errors import InputError
from online.core.home import Home
from online.labels.ingest import LabelIngest
from online.labels.label_joiner import InlineLabelStore, LabelJoiner
from online.learning.learner import Learner
from online.scoring.scorer import PlanWatch, Scorer
from online.storage.journal import Journal
from online.storage.label_validation import LabelValidator
from online.storage.prediction_log import PredictionLog

Row = dict[str, Any]
ROWS_TOGETHER = 24  # rows asked, then labelled, together


class CleanLabel(NamedTuple):
    """What a label would be: by which id, for which row, its value, another row's, and chance."""

    id: str
    row: Row
    value: float
    other: float
    rng: random.Random


def absurd_feature(clean: CleanLabel, target: str) -> Row:
    """A full row with a number no sensor gives."""
    numbers = [name for name, value in clean.row.items() if isinstance(value, (int, float))]
    absurd = {clean.rng.choice(numbers): clean.rng.choice([1e12, -1e9, math.inf])}
    return clean.row | absurd | {target: clean.value}


POISONS: dict[str, Callable[[CleanLabel, str], Row]] = {
    "other unit": lambda clean, target: {"id": clean.id, target: 1000.0 * clean.value},
    "sign and digit": lambda clean, target: {"id": clean.id, target: -10.0 * clean.value - 1.0},
    "not a number": lambda clean, target: {"id": clean.id, target: clean.rng.choice([math.nan, math.inf])},
    "largest": lambda clean, target: {"id": clean.id, target: clean.rng.choice([1e308, -1e308, 1e31])},
    "another row's": lambda clean, target: {"id": clean.id, target: clean.other},
    "stuck at zero": lambda clean, target: {"id": clean.id, target: 0.0},
    "unknown id": lambda clean, target: {"id": f"nobody-{clean.rng.random()}", target: clean.value},
    "absurd feature": absurd_feature,
}


class Run:
    """One home that learns the stream.

    Parameters
    ----------
    home, config
        Where, and what.
    poison
        Whether the chosen labels are spoiled.
    """

    def __init__(self, home: Home, config: Config, *, poison: bool) -> None:
        self._target = config.target.name
        self._poison = poison
        self._plans = PlanWatch(home.plan, 3600.0)
        self._scorer = Scorer(self._plans)
        self._ledger = PredictionLog(
            home.ledger, config.schema, LedgerConfig(10**6, flush_seconds=0.05, max_queued=10**6)
        )
        watch = LabelValidator(config.schema, config.quarantine)
        joiner = LabelJoiner(config.schema, lambda: Journal(home.journal, config.stream, watch), self._ledger)
        self._label_ingest = LabelIngest(
            config.schema, InlineLabelStore(joiner), predictions=self._ledger, expect=self._expect
        )
        self.learner = Learner(home, config)
        self.errors: dict[int, float] = {}
        self.fates: dict[str, dict[str, int]] = {}

    def _expect(self, values: np.ndarray) -> list[float]:
        return self._scorer.plan.score_values(values)

    def chunk(self, first: int, rows: list[Row], labels: list[float], spoiled: dict[int, str]) -> None:
        """Ask, then label; the labels of ``spoiled`` rows are poison, or left out of the clean run."""
        self._plans.refresh()
        served = self._scorer.score(rows)
        self._ledger.record(served)
        self._ledger.flush()
        for number, prediction in enumerate(served, start=first):
            rng = random.Random(number)  # noqa: S311 - a seed, no secret
            label = labels[number - first]
            if number not in spoiled:
                self.errors[number] = abs(prediction.prediction - label)
                self._send({"id": prediction.id, self._target: label}, "clean")
            elif self._poison:
                clean = CleanLabel(prediction.id, rows[number - first], label, rng.choice(labels), rng)
                self._send(POISONS[spoiled[number]](clean, self._target), spoiled[number])
        self.learner.catch_up()

    def _send(self, label: Row, kind: str) -> None:
        fates = self.fates.setdefault(kind, {})
        try:
            (receipt,) = self._label_ingest.accept(self._label_ingest.validate([label])).result(60)
            fate: str = receipt.status
        except InputError:
            fate = "refused"
        fates[fate] = fates.get(fate, 0) + 1

    def close(self) -> None:
        """Stop the threads."""
        self._label_ingest.close()
        self._ledger.close()
        self._plans.close()


def read_stream(home: Home, config: Config, count: int) -> tuple[list[Row], list[float]]:
    """The rows still to come, as a client holds them, and their labels."""
    with (home.data / "stream.csv").open(newline="") as file:
        rows = list(itertools.islice(csv_rows(file), count))
    labels = [float(row.pop(config.target.name) or "nan") for row in rows]
    return [{name: number_of(text) for name, text in row.items()} for row in rows], labels


def number_of(text: str | None) -> Any:
    """A cell as a client would send it."""
    if text is None:
        return None
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


@click.command()
@home_option(default=None, exists=True)
@click.option("--labels", "count", type=int, default=10_000, show_default=True)
@click.option("--share", type=float, default=0.05, show_default=True, help="Share of poison.")
@click.option("--seed", type=int, default=1, show_default=True)
def main(home: Home, count: int, share: float, seed: int) -> None:
    """Print the error on clean rows with and without poison among the labels."""
    rng, config = random.Random(seed), load(home.config)  # noqa: S311 - a seed, no secret
    rows, labels = read_stream(home, config, count)
    spoiled = {n: rng.choice(list(POISONS)) for n in range(len(rows)) if rng.random() < share}
    means = {}
    for poison in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            copy = Home(Path(shutil.copytree(home.root, Path(folder) / "home")))
            run = Run(copy, config, poison=poison)
            with run.learner:
                for first in track(range(0, len(rows), ROWS_TOGETHER), "poisoned" if poison else "clean"):
                    last = first + ROWS_TOGETHER
                    run.chunk(first, rows[first:last], labels[first:last], spoiled)
            run.close()
        means[poison] = sum(run.errors.values()) / len(run.errors)
    for kind, fates in sorted(run.fates.items()):
        Console().print(f"{kind:<16} " + ", ".join(f"{fate} {n:,}" for fate, n in sorted(fates.items())))
    change = 100.0 * (means[True] / means[False] - 1.0)
    Console().print(
        f"{len(rows):,} labels, {len(spoiled):,} of them poison: error on clean rows {means[True]:,.4g},"
        f" without poison {means[False]:,.4g} ({change:+.2f} %)"
    )


if __name__ == "__main__":
    main()
