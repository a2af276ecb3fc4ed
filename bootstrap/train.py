"""Stream the bootstrap rows through the pipeline and write ``model_v1``."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bootstrap.reading.bootstrap_rows import pairs
from bootstrap.reading.split import read_frame
from online.core.config import Config
from online.core.errors import InputError, MissingLibraryError, SnapshotError
from online.core.home import Home
from online.learning.fold import Fold, FoldState
from online.learning.prequential import errors
from online.learning.progressive import DelayedRow, Progressive
from online.learning.training_rows import fill_missing, save_training_rows
from online.model import train_boosted as boosting
from online.model.pipeline import BOOSTED, BOOSTED_RECENT, ENCODER, build_pipeline
from online.scoring.compile_plan import compile_plan
from online.scoring.plan import ScoringPlan
from online.storage.snapshot import Manifest, Provenance, SnapshotStore

__all__ = ["train"]

log = logging.getLogger(__name__)

MICRO_BATCH_ROWS = 200  # rows that are predicted and learned together

Row = tuple[dict[str, Any], float]


class PrequentialScores:
    """Predictions beside the truth and two baselines: the mean and the last value of the rows before."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float, float, float]] = []
        self._sum = 0.0
        self._seen = 0
        self._last = 0.0

    def score(self, prediction: float, truth: float) -> None:
        """Note a prediction made before its truth was known."""
        mean = self._sum / self._seen if self._seen else 0.0
        self._rows.append((truth, prediction, mean, self._last))

    def observe(self, truth: float) -> None:
        """Let the baselines see a truth."""
        self._sum += truth
        self._seen += 1
        self._last = truth

    def report(self) -> dict[str, dict[str, float | None]]:
        """Errors of the model and of the baselines; empty without rows."""
        if not self._rows:
            return {}
        truth, *predictions = np.array(self._rows).T
        names = ("model", "mean", "last_value")
        return {name: errors(truth, guess) for name, guess in zip(names, predictions, strict=True)}

    def restart(self) -> None:
        """Forget the noted predictions, keep what the baselines saw."""
        self._rows.clear()


def train(home: Home, config: Config, console: Console) -> None:
    """Learn ``data/train.csv``, score ``data/validation.csv`` with the frozen result, learn that too.

    Writes ``models/model_v1.pkl``, its manifest and the first plan, and prints a table of errors.

    Parameters
    ----------
    home
        The home; its folders are made where they are missing.
    config
        The settings, with the schema.
    console
        Where the progress and the errors are shown.

    Raises
    ------
    SnapshotError
        There is a model already.
    InputError
        A CSV file is missing or has no usable rows.
    """
    store = SnapshotStore(home.create().models, config.learner.snapshot_key)
    if store.next_version() > 1:
        raise SnapshotError(
            f"{home.models} has a model already: use another --home, or delete models/ and data/*.db"
        )
    rows = {part: labelled_rows(home, part, config) for part in ("train", "validation")}
    if not rows["train"]:
        raise InputError(
            f"{home.data / 'train.csv'} has no row with a label: split the data again", field="data"
        )
    fold = Fold(
        build_pipeline(config.schema, config.model, config.experts),
        FoldState(config),
        restore=lambda version: store.load(version).pipeline,
    )
    training = BootstrapTraining(fold, config)
    reports = learn(training, rows, console)
    training.write_rows(home)
    manifest = save(config, store, fold, reports)
    training.plan(manifest.version).save(home.plan)
    console.print(errors_table(reports, config))
    console.print(
        f"[bold]model_v{manifest.version}[/] written: {manifest.size_bytes / 1e6:.1f} MB in {home.models}"
    )


class BootstrapTraining:
    """Teaches a pipeline row by row, labels coming as late as they will when it serves.

    Parameters
    ----------
    fold
        What learns.
    config
        How late labels come, and the seed.
    """

    def __init__(self, fold: Fold, config: Config) -> None:
        self.fold = fold
        self.scores = PrequentialScores()
        self._config = config
        self._progressive = Progressive(fold, config.model.bootstrap_delay)
        self._encoded: list[list[float]] = []
        self._targets: list[float] = []

    def prequential(self, rows: Iterable[Row]) -> None:
        """Predict and score each row; learn its label some rows later, and the last ones at the end."""
        rows = iter(rows)
        while micro_batch := list(itertools.islice(rows, MICRO_BATCH_ROWS)):
            self._record(self._progressive.run(micro_batch))
        self._record(self._progressive.finish())

    def _record(self, delayed_rows: Iterable[tuple[DelayedRow, bool]]) -> None:
        """Keep score, and the rows that were learned."""
        for row, learned in delayed_rows:
            if learned:
                self.scores.observe(row.target)
                self._encoded.append(row.values)
                self._targets.append(row.target)
            else:
                self.scores.score(row.details.prediction, row.target)

    def train_boosted(self) -> None:
        """Train the batch experts on the rows so far; without LightGBM they stay out, which is said."""
        columns = self.fold.pipeline[ENCODER].columns
        rows = fill_missing(np.array(self._encoded).reshape(-1, len(columns)))[-self._config.refresh.rows :]
        targets = np.array(self._targets)[-self._config.refresh.rows :]
        try:
            model = boosting.train(rows, targets, columns, self._config.model.seed)
        except MissingLibraryError as exc:
            log.warning("%s", exc)
            return
        if model is not None:
            self.fold.replace_batch_model(model, BOOSTED, BOOSTED_RECENT)

    def plan(self, version: int = 0) -> ScoringPlan:
        """What has been learned, as a plan."""
        fold = self.fold
        return compile_plan(
            fold.pipeline, self._config.schema, version=version, seq=0, interval=fold.state.interval
        )

    def write_rows(self, home: Home) -> None:
        """Write down the rows for the batch experts to come."""
        save_training_rows(
            home.training_rows, self._config.schema, np.array(self._encoded), np.array(self._targets)
        )


def learn(training: BootstrapTraining, rows: dict[str, list[Row]], console: Console) -> dict[str, Any]:
    """Prequential errors of the training rows, errors of the frozen model on the validation rows.

    The batch experts are trained half-way, so that the pool gets to know them on rows they have not seen,
    and again at the end of either part.
    """
    reports = {}
    half = len(rows["train"]) // 2
    with progress(console) as bars:
        train_rows = iter(bars.track(rows["train"], description="learning train.csv"))
        training.prequential(itertools.islice(train_rows, half))
        training.train_boosted()
        training.prequential(train_rows)
        training.train_boosted()
        reports["prequential"] = training.scores.report()
        training.scores.restart()
        frozen = training.plan()
        for features, target in bars.track(rows["validation"], description="scoring validation.csv"):
            training.scores.score(frozen.score_row(features), target)
        reports["validation"] = training.scores.report()
        training.prequential(bars.track(rows["validation"], description="learning validation.csv"))
    training.train_boosted()
    return {part: report for part, report in reports.items() if report}


def save(config: Config, store: SnapshotStore, fold: Fold, reports: dict[str, Any]) -> Manifest:
    """Write the snapshot."""
    measured = reports.get("validation", reports["prequential"])["model"]
    provenance = Provenance(
        schema=config.schema,
        seq=0,
        parent=None,
        reason="bootstrap",
        created_at=time.time(),
        metrics=measured | {"bootstrap": reports},
    )
    return store.save(fold.pipeline, fold.state, fold.state.probe, provenance)


def labelled_rows(home: Home, part: str, config: Config) -> list[tuple[dict[str, Any], float]]:
    """Rows of a CSV file in order: features as a client would send them, and the label."""
    path = home.data / f"{part}.csv"
    frame = read_frame(path)
    if config.target.name not in frame:
        raise InputError(f"{path} has no column {config.target.name!r}", field=config.target.name)
    return list(pairs(frame, config.schema))


def progress(console: Console) -> Progress:
    """The progress bars of training."""
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def errors_table(reports: dict[str, Any], config: Config) -> Table:
    """The reports as a table for people."""
    table = Table(title=f"errors on {config.stream}, target {config.target.name}")
    for column in ("rows", "predicted by", "MAE", "RMSE", "R²"):
        table.add_column(column, justify="left" if column in ("rows", "predicted by") else "right")
    for part, report in reports.items():
        for name, figures in report.items():
            cells = ["-" if figures[key] is None else f"{figures[key]:,.4g}" for key in ("mae", "rmse", "r2")]
            table.add_row(part, name.replace("_", " "), *cells, style="bold" if name == "model" else "")
    return table
