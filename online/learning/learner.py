"""The one process that learns: journal in; plans, snapshots and history out."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

from online.core.config import Config
from online.core.errors import JournalError, PlanError, SnapshotError
from online.core.home import Home, lock
from online.core.schema import check_same
from online.features.segments import Segments
from online.learning.challenger import ChallengerMonitor
from online.learning.fold import Fold, FoldState, Learned
from online.learning.reference_model import ReferenceModel
from online.learning.refresh import Refresher
from online.learning.retention import retire
from online.model.pipeline import BOOSTED_RECENT, POOL
from online.scoring.compile_plan import compile_plan
from online.scoring.plan import ScoringPlan
from online.storage.journal import Journal
from online.storage.metrics_store import Alarm, MetricsStore
from online.storage.records import LABELS, Record
from online.storage.snapshot import LoadedSnapshot, Provenance, SnapshotStore

__all__ = ["Learner"]

log = logging.getLogger(__name__)

BATCH = 100  # records between looks at the clock
STATUS_SECONDS = 1.0
TELL_SECONDS = 0.2  # between writes of the history while there is more to learn
SNAPSHOT_PAUSE_SECONDS = 1.0
PUBLISH_REST = 2.0  # times what it took, between plans at the least: workers have to read each
RETRY_SECONDS = 1.0
STAGES = ("learn", "publish", "snapshot", "history")  # what a learner spends its time on
SNAPSHOT_RETRY_SECONDS = 30.0
SHOWN_LIMIT = 10_000  # outcomes that wait for a history that cannot be written


class Learner:
    """Learns the journal of one home. Use as a context manager: it holds the home's lock meanwhile.

    On opening it loads the newest good snapshot. :meth:`step` learns what the journal has beyond it; on
    closing, what was learned since the last snapshot is snapshot.

    Parameters
    ----------
    home, config
        What to learn, and how.
    clock
        Unix seconds.

    Raises
    ------
    LockError
        Another learner is at work in this home.
    SnapshotError
        There is no good snapshot to start from.
    SchemaError
        millrace.toml no longer has the schema the model was bootstrapped with.
    JournalError
        The journal cannot be opened, or ends before what was learned from it.
    """

    def __init__(self, home: Home, config: Config, clock: Callable[[], float] = time.time) -> None:
        self._home = home
        self._config = config
        self._clock = clock
        self._store = SnapshotStore(home.models, config.learner.snapshot_key)

    def __enter__(self) -> Learner:
        self._lock = lock(self._home)
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise
        return self

    def _open(self) -> None:
        loaded = newest_good(self._store)
        check_same(loaded.manifest.schema, self._config.schema, f"model_v{loaded.manifest.version}")
        loaded.state.configure(self._config)
        self._version = loaded.manifest.version
        self._first = self._frozen()
        baseline = self._first.predict if self._first else None
        locate = Segments(self._config.schema).segment_of
        self._fold = Fold(
            loaded.pipeline, loaded.state, self._restore, baseline, self._between, locate,
            self._config.schema.hash,
        )  # fmt: skip
        self._fold.warm_up()
        self._journal = Journal(self._home.journal, self._config.stream)
        self._history = MetricsStore(self._home.history, self._config.learner.history_rows)
        self._shown: list[Learned] = []
        self._busy = dict.fromkeys(STAGES, 0.0)
        self._snapshot_at = self._published_at = self._clock()
        self._status_at = self._history_written_at = self._tell_at = 0.0
        self._challenger = ChallengerMonitor(self._fold.state.guard, self._config.guard, self._load_plan)
        self._challenger.offer_candidate(self._version)
        self._trouble: str | None = None
        self._snapshot_failed = False
        self._snapshot_learned = self._fold.state.learned
        self._served_seq = served_seq(self._home)
        check_journal(self._journal, max(self.seq, self._served_seq))
        self._refresher = self._new_refresher()
        self._unpublished = True
        self._publish()
        self._publishing_took = 0.0  # the first plan may have waited for kernels
        self._tell()

    @property
    def seq(self) -> int:
        """The last journal record learned."""
        return int(self._fold.state.seq)

    @property
    def fold(self) -> Fold:
        """The model and what was learned, to look at: only the learner changes it."""
        return self._fold

    @property
    def version(self) -> int:
        """The newest snapshot of this lineage."""
        return self._version

    def run(self, stopped: Callable[[], bool]) -> None:
        """Learn until told to stop."""
        while not stopped():
            if not self.step():
                time.sleep(self._config.learner.poll_seconds)

    def step(self) -> bool:
        """Learn the next records, publish and snapshot when due; False when there was nothing to learn."""
        records = self._journal.read(self.seq, BATCH)
        if records:
            with self._spending("learn"):
                self._ingest(records)
        if not records or self._clock() - self._history_written_at >= TELL_SECONDS:
            self._tell()
        self._publish_when_due(idle=not records)
        self._snapshot_when_due()
        if self._refresher:
            self._refresher.step(self._fold.state.learned, self.seq)
        return bool(records)

    def _ingest(self, records: list[Record]) -> None:
        """Learn records; what can be done for all of them at once is."""
        labels = [record for record in records if record.kind in LABELS]
        values = self._fold.prepare_batch(labels)
        if self._first:
            self._first.prepare_batch(labels, values)
        self._challenger.prepare_batch(labels, values)
        with self._fold.batched():
            for record in records:
                self._learn(record)

    def catch_up(self) -> None:
        """Learn all the journal has, and publish it."""
        while self.step():
            pass
        self._publish()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        whole = kind is None or issubclass(kind, JournalError)  # else a record may be learned by half
        try:
            if self._refresher:
                self._refresher.close()
            if whole and self._fold.state.learned != self._snapshot_learned:
                self._snapshot("shutdown")
            if whole:
                self._publish()
                self._tell(alive=False)
        finally:
            self._history.close()
            self._journal.close()
            self._lock.close()

    def _learn(self, record: Record) -> None:
        try:
            learned = self._fold.apply(record)
            self._shown.append(learned)
        except SnapshotError as exc:
            self._refuse_rollback(record, exc)
            return
        self._unpublished = True
        if learned.outcome is not None:
            self._guarded(record)
        if record.kind in ("rollback", "replay"):
            reason = "rollback" if record.kind == "rollback" else "adopted"
            self._snapshot(reason, parent=record.payload["version"])
            self._challenger.compare_with(self._version)
        elif record.kind == "snapshot":
            self._snapshot("request")

    def _guarded(self, record: Record) -> None:
        """Compare with the last good snapshot; a rollback it asks for is ordered once, whatever is killed."""
        alarm = self._challenger.compare(record)
        if alarm is None:
            return
        self._shown.append(Learned(alarm=alarm))
        log.warning("%s", alarm.message)
        if self._config.guard.rollback and not self._journal.versions_needed(record.seq):
            good = self._fold.state.guard.version
            self._journal.append_command(
                "rollback", self._clock(), f"guard-{record.seq}", version=good, reason=alarm.message
            )

    def _load_plan(self, version: int) -> ScoringPlan:
        """A version's plan, for the guard."""
        loaded = self._store.load(version)
        return self._plan(loaded.pipeline, loaded.state, version, loaded.manifest.seq)

    def _refuse_rollback(self, record: Record, exc: SnapshotError) -> None:
        """A version that cannot be loaded leaves the model as it is, and says so."""
        log.error("rollback at seq %d refused: %s", record.seq, exc)
        alarm = Alarm(
            record.seq, record.received_at, "rollback", "snapshot", 0.0, 0.0, str(exc), kind="operation"
        )
        self._shown.append(Learned(alarm=alarm))
        self._fold.skip(record)
        self._unpublished = True

    def _new_refresher(self) -> Refresher | None:
        """What has the batch expert trained anew; None where that is not wanted."""
        if BOOSTED_RECENT not in self._fold.pipeline[POOL].experts or not self._config.refresh.every_labels:
            return None
        return Refresher(self._home, self._config, self._fold.state.learned, self.seq)

    def _restore(self, version: int) -> Any:
        return self._store.load(version).pipeline

    def _between(self, after: int, before: int) -> Iterator[Record]:
        while after + 1 < before:
            records = self._journal.read(after, min(BATCH, before - 1 - after))
            yield from records
            after = records[-1].seq

    def _frozen(self) -> ReferenceModel | None:
        """The frozen first model."""
        try:
            first = self._store.load(min(self._store.versions()))
        except SnapshotError as exc:
            log.warning("the first model cannot be scored beside the live one: %s", exc)
            return None
        plan = self._plan(first.pipeline, first.state, first.manifest.version, 0)
        return ReferenceModel(plan, as_served=False)

    def _plan(self, pipeline: Any, state: FoldState, version: int, seq: int) -> ScoringPlan:
        return compile_plan(pipeline, self._config.schema, version=version, seq=seq, interval=state.interval)

    def _publish_when_due(self, *, idle: bool) -> None:
        """Publish a changed plan: soon when nothing is left to learn, else every so often."""
        pause = self._config.learner.publish_seconds
        if idle:
            pause = min(pause, PUBLISH_REST * self._publishing_took)
        if self._clock() - self._published_at >= pause:
            self._publish()

    def _publish(self) -> None:
        """Publish a changed plan; never one behind what is served."""
        if not self._unpublished or self.seq < self._served_seq:
            return
        state, began = self._fold.state, self._clock()
        try:
            with self._spending("publish"):
                plan = self._plan(self._fold.pipeline, state, self._version, state.seq)
                plan.save(self._home.plan)
        except OSError as exc:
            self._trouble = f"the plan cannot be written, scoring goes on from the last one: {exc}"
            log.error("%s", self._trouble)
            self._published_at = self._clock() + RETRY_SECONDS
            return
        self._served_seq = state.seq
        self._unpublished = False
        self._trouble = self._trouble if self._snapshot_failed else None
        self._published_at = self._clock()
        self._publishing_took = self._published_at - began

    def _snapshot_when_due(self) -> None:
        fresh = self._fold.state.learned - self._snapshot_learned
        waited = self._clock() - self._snapshot_at
        if fresh >= self._config.learner.snapshot_every_labels and waited >= SNAPSHOT_PAUSE_SECONDS:
            self._snapshot("labels")
        elif fresh and waited >= 60.0 * self._config.learner.snapshot_every_minutes:
            self._snapshot("time")

    def _snapshot(self, reason: str, parent: int | None = None) -> None:
        """Take a snapshot; a failure is logged and tried again later, and learning goes on."""
        self._tell()  # what a restart from this snapshot would not see again
        self._snapshot_at = self._clock()
        state = self._fold.state
        try:
            with self._spending("snapshot"):
                provenance = Provenance(
                    schema=self._config.schema,
                    seq=state.seq,
                    parent=self._version if parent is None else parent,
                    reason=reason,
                    created_at=self._clock(),
                    metrics=state.prequential.report(),
                )
                manifest = self._store.save(self._fold.pipeline, state, state.probe, provenance)
        except SnapshotError as exc:
            log.error("%s", exc)
            self._trouble, self._snapshot_failed = str(exc), True
            self._snapshot_at += SNAPSHOT_RETRY_SECONDS
            return
        self._trouble, self._snapshot_failed = None, False
        self._version = manifest.version
        self._challenger.offer_candidate(self._version)
        guard = state.guard
        in_use = (self._version, guard.version, guard.candidate)
        retire(self._store, self._journal, self._config.retention, in_use, self._clock())
        self._snapshot_learned = state.learned
        self._unpublished = True
        log.info("model_v%d at seq %d (%s)", manifest.version, state.seq, reason)

    def _tell(self, *, alive: bool = True) -> None:
        """Write what learning showed; the status at most once a second, and when stopping."""
        now = self._clock()
        due = not alive or now - self._status_at >= STATUS_SECONDS
        if not (self._shown or due) or now < self._tell_at:
            return
        outcomes = [learned.outcome for learned in self._shown if learned.outcome]
        alarms = [learned.alarm for learned in self._shown if learned.alarm]
        weights = self._fold.pipeline[POOL].weights() if outcomes or due else {}
        status = self._status(now, alive) | {"weights": weights} if due else {}
        try:
            with self._spending("history"):
                self._history.write(outcomes, alarms, status, weights)
        except sqlite3.Error as exc:
            log.error("the history cannot be written, it waits: %s", exc)
            self._tell_at = now + RETRY_SECONDS
            del self._shown[:-SHOWN_LIMIT]
            return
        self._shown.clear()
        self._history_written_at = now
        if due:
            self._status_at = now

    def _status(self, now: float, alive: bool) -> dict[str, Any]:
        state = self._fold.state
        return {
            "learner": {
                "alive": alive,
                "updated_at": now,
                "pid": os.getpid(),
                "error": self._trouble,
            },
            "learned": {"seq": state.seq, "labels": state.learned, "version": self._version},
            "prequential": state.prequential.report(),
            "guard": {"version": state.guard.version, "evidence": state.guard.evidence},
            "experts": state.prequential.expert_maes(),
            "busy_seconds": self._busy,
        }

    @contextlib.contextmanager
    def _spending(self, stage: str) -> Iterator[None]:
        """Add the time the block takes to a stage's; a stage inside another one counts for both."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._busy[stage] += time.perf_counter() - began


def newest_good(store: SnapshotStore) -> LoadedSnapshot:
    """The newest snapshot that passes its checks; those that fail are named in the log.

    One that a replay has made counts only once the journal ordered it, which made it another version, or
    when there is no other.
    """
    failures = []
    waiting = {manifest.version for manifest in store.manifests() if manifest.reason == "replay"}
    for version in sorted(store.versions(), key=lambda version: (version not in waiting, version))[::-1]:
        try:
            return store.load(version)
        except SnapshotError as exc:
            log.error("%s", exc)
            failures.append(str(exc))
    raise SnapshotError(
        "no snapshot can be loaded: " + ("; ".join(failures) or "run 'millrace bootstrap' first")
    )


def check_journal(journal: Journal, learned: int) -> None:
    """Refuse a journal that ends before what was learned: its next labels would be taken for learned ones."""
    if journal.last_seq() < learned:
        raise JournalError(
            f"the journal ends at record {journal.last_seq()}, but {learned} were learned from it:"
            " restore data/journal.db from a backup"
        )


def served_seq(home: Home) -> int:
    """The seq of the plan now served, 0 when there is none."""
    try:
        return ScoringPlan.load(home.plan).info.seq
    except PlanError:
        return 0
