"""``millrace replay``: the model rebuilt from a snapshot and the journal, beside the one that served."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bootstrap.home_option import home_option
from bootstrap.train import BootstrapTraining, labelled_rows, learn
from online.core.config import Config, load
from online.core.errors import InputError, LockError, PlanError, SnapshotError
from online.core.home import Home, lock
from online.core.schema import check_same
from online.learning.fold import Fold, FoldState
from online.learning.learner import Learner
from online.learning.replay_engine import Comparison, Replay
from online.model.pipeline import build_pipeline
from online.scoring.plan import ScoringPlan
from online.storage.journal import Journal
from online.storage.snapshot import Provenance, SnapshotStore

__all__ = ["replay"]

CLOSE = 200  # labels that came while replaying and may be left to the learner
SERVED_SECONDS = 120.0
SEQ_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")


@click.command()
@home_option()
@click.option("--from", "start", type=int, default=1, show_default=True, help="The version to begin from.")
@click.option("--until", type=int, help="The last journal record to learn; by default all there are.")
@click.option("--without", multiple=True, help="Leave out a record, SEQ, or some, SEQ-SEQ; may repeat.")
@click.option(
    "--where",
    help="Leave out the labels for which this SQL expression holds, of the columns seq, id,"
    " received_at, target, prediction and features: \"features->>'Source' = 'Wind' and target > 9000\".",
)
@click.option(
    "--pipeline",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another millrace.toml, whose [model] is built anew and taught data/train.csv,"
    " data/validation.csv and the journal.",
)
@click.option("--live", is_flag=True, help="Put the result live, on a running server too.")
def replay(  # noqa: PLR0913 - one argument an option
    home: Home,
    start: int,
    until: int | None,
    without: tuple[str, ...],
    where: str | None,
    pipeline: Path | None,
    live: bool,
) -> None:
    """Rebuild the model from a snapshot and the journal, without chosen labels or with another pipeline."""
    console = Console()
    config = load(home.config)
    store = SnapshotStore(home.models, config.learner.snapshot_key)
    journal = Journal(home.journal, config.stream)
    origin = Origin(home, config, store, journal, start)
    try:
        left_out = chosen(journal, without, where)
        fold = begin(origin, pipeline, console)
        run = Replay(fold, journal, left_out, changed=bool(left_out) or pipeline is not None)
        last = last_record(journal, fold, until)
        advance(run, last, console)
        report = run.comparison()
        console.print(table(report, config, start))
        console.print(f"{report.labels:,} labels compared, {report.left_out:,} left out")
        if live:
            version = put_live(origin, run, until)
            console.print(f"[bold]model_v{version}[/] is live")
    finally:
        journal.close()


class Origin(NamedTuple):
    """What is replayed: a home's journal, from one of its versions on."""

    home: Home
    config: Config
    store: SnapshotStore
    journal: Journal
    version: int


def chosen(journal: Journal, without: tuple[str, ...], where: str | None) -> set[int]:
    """The labels to leave out. Raises InputError for what is no seq or expression."""
    seqs: set[int] = set()
    for text in without:
        match = SEQ_RANGE.fullmatch(text)
        if match is None:
            raise InputError(f"--without {text}: give a journal seq, or two with a dash", field="without")
        seqs |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return seqs | (journal.labels_where(where) if where else set())


def begin(origin: Origin, pipeline: Path | None, console: Console) -> Fold:
    """The model to replay from: a snapshot, or another pipeline taught what bootstrap taught the first."""
    home, config, store, journal, version = origin
    journal_seq = store.manifest(version).seq
    if pipeline is None:
        loaded = store.load(version)
        check_same(loaded.manifest.schema, config.schema, f"model_v{version}")
        loaded.state.configure(config)
        return Fold(loaded.pipeline, loaded.state, lambda number: store.load(number).pipeline)
    other = load(pipeline)
    check_same(config.schema, other.schema, f"{home.config}, which {pipeline} must share")
    fold = Fold(
        build_pipeline(other.schema, other.model, other.experts),
        FoldState(config),
        restore=lambda number: store.load(number).pipeline,
    )
    rows = {part: labelled_rows(home, part, other) for part in ("train", "validation")}
    learn(BootstrapTraining(fold, other), rows, console)
    advance(Replay(fold, journal, changed=True), journal_seq, console)
    return fold


def last_record(journal: Journal, fold: Fold, until: int | None) -> int:
    """Where to stop. Raises InputError when that lies before the beginning."""
    last = journal.last_seq() if until is None else min(until, journal.last_seq())
    if last < fold.state.seq:
        raise InputError(
            f"--until {until}: the snapshot has learned up to {fold.state.seq} already", field="until"
        )
    return last


def advance(run: Replay, until: int, console: Console) -> None:
    """Replay up to a record, with a bar."""
    begun = run.fold.state.seq
    steps = max(1, (until - begun + 199) // 200)
    for _ in track(run.run(until), "replaying", total=steps, console=console, transient=True):
        pass


def put_live(origin: Origin, run: Replay, until: int | None) -> int:
    """Write the replayed model and order it through the journal; the version that serves it."""
    home, config, store, journal, start = origin
    # labels come while this runs: what is left after this the learner takes in, in a moment
    while until is None and journal.last_seq() - run.fold.state.seq > CLOSE:
        for _ in run.run(journal.last_seq()):
            pass
    state = run.fold.state
    provenance = Provenance(
        schema=config.schema,
        seq=state.seq,
        parent=start,
        reason="replay",
        created_at=time.time(),
        metrics=run.comparison().replayed,
    )
    manifest = store.save(run.fold.pipeline, state, state.probe, provenance)
    # with --until, what came later is meant to be left out: the learner goes on from the journal's end
    learned = state.seq if until is None else journal.last_seq()
    seq = journal.append_command(
        "replay", time.time(), version=manifest.version, learned=learned, without=run.left_out
    )
    try:
        lock(home).close()  # free: no learner runs here, so the order is carried out in this process
    except LockError:
        return served(home, seq)
    with Learner(home, config) as learner:
        learner.catch_up()
        return learner.version


def served(home: Home, seq: int) -> int:
    """Wait until the running learner has carried out an order; the version it serves then."""
    deadline = time.monotonic() + SERVED_SECONDS
    while time.monotonic() < deadline:
        try:
            info = ScoringPlan.load(home.plan).info
        except PlanError:  # it is being replaced
            continue
        if info.seq >= seq:
            return info.version
        time.sleep(0.1)
    raise SnapshotError(f"the learner has not carried out order {seq} yet: its log says why")


def table(comparison: Comparison, config: Config, start: int) -> Table:
    """Both sides' errors."""
    shown = Table(
        title=f"{config.stream}, from model_v{start}",
        caption="each row scored with what was known when served",
    )
    for heading in ("predicted by", "MAE", "RMSE", "R²"):
        shown.add_column(heading, justify="left" if heading == "predicted by" else "right")
    for name, report in (("as served", comparison.served), ("replayed", comparison.replayed)):
        cells = [report[key] for key in ("mae", "rmse", "r2")]
        shown.add_row(name, *("-" if value is None else f"{value:,.4g}" for value in cells))
    return shown
