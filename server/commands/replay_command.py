"""``millrace replay``: the model rebuilt from a snapshot and the journal, beside the one that served."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bootstrap.train import Course, learn, read_rows
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
SPAN = re.compile(r"([0-9]+)(?:-([0-9]+))?")


@click.command()
@click.option(
    "--home", "root", type=click.Path(file_okay=False, path_type=Path), default=".", show_default=True,
    help="Folder of the stream: data/, models/ and millrace.toml.",
)  # fmt: skip
@click.option("--from", "start", type=int, default=1, show_default=True, help="The version to begin from.")
@click.option("--until", type=int, help="The last journal record to learn; by default all there are.")
@click.option("--without", multiple=True, help="Leave out a record, SEQ, or some, SEQ-SEQ; may repeat.")
@click.option(
    "--where", help="Leave out the labels for which this SQL expression holds, of the columns seq, id,"
    " received_at, target, prediction and features: \"features->>'Source' = 'Wind' and target > 9000\".",
)  # fmt: skip
@click.option(
    "--pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another millrace.toml, whose [model] is built anew and taught data/train.csv,"
    " data/validation.csv and the journal.",
)  # fmt: skip
@click.option("--live", is_flag=True, help="Put the result live, on a running server too.")
def replay(
    root: Path, start: int, until: int | None, without: tuple[str, ...], where: str | None,
    pipeline: Path | None, live: bool,
) -> None:  # fmt: skip
    """Rebuild the model from a snapshot and the journal, without chosen labels or with another pipeline."""
    home, console = Home(root.resolve()), Console()
    config = load(home.config)
    store = SnapshotStore(home.models, config.learner.snapshot_key)
    journal = Journal(home.journal, config.stream)
    try:
        left_out = chosen(journal, without, where)
        fold = begin(home, config, store, start, pipeline, console)
        run = Replay(fold, journal, left_out, changed=bool(left_out) or pipeline is not None)
        last = last_record(journal, fold, until)
        advance(run, last, console)
        report = run.comparison()
        console.print(table(report, config, start))
        console.print(f"{report.labels:,} labels compared, {report.left_out:,} left out")
        if live:
            version = put_live(home, config, store, journal, run, start, until)
            console.print(f"[bold]model_v{version}[/] is live")
    finally:
        journal.close()


def chosen(journal: Journal, without: tuple[str, ...], where: str | None) -> set[int]:
    """The labels to leave out. Raises InputError for what is no seq or expression."""
    seqs: set[int] = set()
    for text in without:
        found = SPAN.fullmatch(text)
        if found is None:
            raise InputError(f"--without {text}: give a journal seq, or two with a dash", field="without")
        seqs |= set(range(int(found[1]), int(found[2] or found[1]) + 1))
    return seqs | (journal.labels_where(where) if where else set())


def begin(
    home: Home, config: Config, store: SnapshotStore, start: int, pipeline: Path | None, console: Console
) -> Fold:
    """The model to replay from: a snapshot, or another pipeline taught what bootstrap taught the first."""
    journal_seq = store.manifest(start).seq
    if pipeline is None:
        loaded = store.load(start)
        check_same(loaded.manifest.schema, config.schema, f"model_v{start}")
        loaded.state.configure(config)
        return Fold(loaded.pipeline, loaded.state, lambda version: store.load(version).pipeline)
    other = load(pipeline)
    check_same(config.schema, other.schema, f"{home.config}, which {pipeline} must share")
    fold = Fold(
        build_pipeline(other.schema, other.model, other.experts),
        FoldState(config),
        restore=lambda version: store.load(version).pipeline,
    )
    learn(
        Course(fold, other), {part: read_rows(home, part, other) for part in ("train", "validation")}, console
    )
    journal = Journal(home.journal, config.stream)
    try:
        advance(Replay(fold, journal, changed=True), journal_seq, console)
    finally:
        journal.close()
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


def put_live(
    home: Home, config: Config, store: SnapshotStore, journal: Journal, run: Replay, start: int,
    until: int | None,
) -> int:  # fmt: skip
    """Write the replayed model and order it through the journal; the version that serves it."""
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
    learned = state.seq if until is None else journal.last_seq()
    seq = journal.append_command(
        "replay", time.time(), version=manifest.version, learned=learned, without=run.left_out
    )
    try:
        lock(home).close()
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
        except PlanError:
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
