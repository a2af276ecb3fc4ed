"""How much poison among the labels harms: two homes learn the same stream, one with poison in it.

    python -m scripts.chaos.poison --home HOME --labels 10000 --share 0.05

HOME is bootstrapped and has data/stream.csv, the rows still to come; it is copied, never changed. Every
kind of poison takes its turn; the error is that of predictions as served on the rows left clean.
"""

from __future__ import annotations

import csv
import math
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import track

from online.core.config import Config, LedgerConfig, load
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
CHUNK = 24  # rows asked, then labelled, together


def absurd_feature(row: Row, label: Row, rng: random.Random, target: str) -> Row:
    """A full row with a number no sensor gives."""
    numbers = [name for name, value in row.items() if isinstance(value, (int, float))]
    return row | {rng.choice(numbers): rng.choice([1e12, -1e9, math.inf])} | {target: label[target]}


KINDS: dict[str, Callable[[Row, Row, random.Random, str], Row]] = {
    "other unit": lambda row, label, rng, target: label | {target: 1000.0 * label[target]},
    "sign and digit": lambda row, label, rng, target: label | {target: -10.0 * label[target] - 1.0},
    "not a number": lambda row, label, rng, target: label | {target: rng.choice([math.nan, math.inf])},
    "largest": lambda row, label, rng, target: label | {target: rng.choice([1e308, -1e308, 1e31])},
    "another row's": lambda row, label, rng, target: label | {target: label["other"]},
    "stuck at zero": lambda row, label, rng, target: label | {target: 0.0},
    "unknown id": lambda row, label, rng, target: {"id": f"nobody-{rng.random()}", target: label[target]},
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
        for n, one in enumerate(served, start=first):
            rng = random.Random(n)  # noqa: S311 - a seed, no secret
            label: Row = {"id": one.id, self._target: labels[n - first]}
            if n not in spoiled:
                self.errors[n] = abs(one.prediction - labels[n - first])
                self._send(label, "clean")
            elif self._poison:
                other = label | {"other": rng.choice(labels)}
                self._send(KINDS[spoiled[n]](rows[n - first], other, rng, self._target), spoiled[n])
        self.learner.catch_up()

    def _send(self, label: Row, kind: str) -> None:
        fates = self.fates.setdefault(kind, {})
        try:
            label.pop("other", None)
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
        rows = [row for row, _ in zip(csv.DictReader(file), range(count), strict=False)]
    labels = [float(row.pop(config.target.name)) for row in rows]
    return [{name: number_of(text) for name, text in row.items()} for row in rows], labels


def number_of(text: str) -> Any:
    """A cell as a client would send it."""
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


@click.command()
@click.option("--home", "root", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--labels", "count", type=int, default=10_000, show_default=True)
@click.option("--share", type=float, default=0.05, show_default=True, help="Share of poison.")
@click.option("--seed", type=int, default=1, show_default=True)
def main(root: Path, count: int, share: float, seed: int) -> None:
    """Print the error on clean rows with and without poison among the labels."""
    rng, config = random.Random(seed), load(Home(root).config)  # noqa: S311 - a seed, no secret
    rows, labels = read_stream(Home(root), config, count)
    spoiled = {n: rng.choice(list(KINDS)) for n in range(len(rows)) if rng.random() < share}
    means = {}
    for poison in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            home = Home(Path(shutil.copytree(root, Path(folder) / "home")))
            run = Run(home, config, poison=poison)
            with run.learner:
                for first in track(range(0, len(rows), CHUNK), "poisoned" if poison else "clean"):
                    last = first + CHUNK
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
