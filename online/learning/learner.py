"""The one process that learns: journal in; plans, snapshots and history out.

:meth:`Learner.step` is the loop: read records from the journal, apply them (:mod:`~online.learning.fold`),
write what they showed (:mod:`~online.learning.history_writer`), publish the model
(:mod:`~online.learning.publisher`), take a snapshot (:mod:`~online.learning.snapshot_schedule`), start a
training of the batch experts (:mod:`~online.learning.refresh`).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from online.core.config import Config
from online.core.errors import JournalError, SnapshotError
from online.core.home import Home, lock
from online.core.schema import check_same
from online.features.segments import Segments
from online.learning.challenger_monitor import ChallengerMonitor
from online.learning.fold import Applied, Fold, FoldState
from online.learning.history_writer import HistoryWriter
from online.learning.outcomes import OutcomeBuilder
from online.learning.publisher import PlanPublisher
from online.learning.reference_model import ReferenceModel
from online.learning.refresh import Refresher
from online.learning.snapshot_schedule import Snapshotter, newest_good
from online.learning.stage_timer import StageTimer
from online.model.pipeline import BOOSTED_RECENT, POOL
from online.scoring.compile_plan import compile_plan
from online.scoring.plan import ScoringPlan
from online.storage.journal import Journal
from online.storage.metrics_store import Alarm, MetricsStore
from online.storage.records import LABELS, Record
from online.storage.snapshot import LoadedSnapshot, SnapshotStore

__all__ = ["Learner"]

log = logging.getLogger(__name__)

STEP_RECORDS = 100  # between looks at the clock: some tens of milliseconds of learning


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
        self._timer = StageTimer()
        self._open_model(loaded)
        self._journal = Journal(self._home.journal, self._config.stream)
        self._open_outputs(loaded)
        self._refresher = self._new_refresher()
        self._publisher.publish(self.seq)
        self._history.write()

    def _open_model(self, loaded: LoadedSnapshot) -> None:
        """The model, and what it is compared with."""
        self._baseline = self._load_baseline()
        self._schema_hash = self._config.schema.hash  # worked out once: every step compares with it
        segment_of = Segments(self._config.schema).segment_of
        outcomes = OutcomeBuilder(self._baseline.predict if self._baseline else None, segment_of)
        self._fold = Fold(loaded.pipeline, loaded.state, self._restore, self._records_between, outcomes)
        self._fold.warm_up()
        self._challenger = ChallengerMonitor(loaded.state.guard, self._config.guard, self._load_plan)

    def _open_outputs(self, loaded: LoadedSnapshot) -> None:
        """What writes plans, snapshots and the history."""
        settings, clock, timer = self._config.learner, self._clock, self._timer
        history = MetricsStore(self._home.history, settings.history_rows)
        self._history = HistoryWriter(history, self._status, self._weights, clock, timer)
        self._snapshots = Snapshotter(self._store, self._config, clock, timer, loaded)
        self._publisher = PlanPublisher(
            self._home.plan, self._compile_model, settings.publish_seconds, clock, timer
        )
        self._challenger.offer_candidate(self.version)
        check_journal(self._journal, max(self.seq, self._publisher.served_seq))

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
        return self._snapshots.version

    # The loop

    def run(self, stopped: Callable[[], bool]) -> None:
        """Learn until told to stop."""
        while not stopped():
            if not self.step():
                time.sleep(self._config.learner.poll_seconds)

    def catch_up(self) -> None:
        """Learn all the journal has, and publish it."""
        while self.step():
            pass
        self._publisher.publish(self.seq)

    def step(self) -> bool:
        """Learn the next records, publish and snapshot when due; False when there was nothing to learn."""
        records = self._journal.read(self.seq, STEP_RECORDS)
        if records:
            with self._timer.measure("learn"):
                self._ingest(records)
        idle = not records
        self._history.write_when_due(idle=idle)
        self._publisher.publish_when_due(self.seq, idle=idle)
        if reason := self._snapshots.due(self._fold):
            self._snapshot(reason)
        if self._refresher:
            self._refresher.step(self._fold.state.learned, self.seq)
        return not idle

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After any other error a record may be learned by half: such a model is neither kept nor served.
        model_is_whole = kind is None or issubclass(kind, JournalError)
        try:
            if self._refresher:
                self._refresher.close()
            if model_is_whole and self._snapshots.new_labels(self._fold):
                self._snapshot("shutdown")
            if model_is_whole:
                self._publisher.publish(self.seq)
                self._history.write(last=True)
        finally:
            self._history.close()
            self._journal.close()
            self._lock.close()

    # Records

    def _ingest(self, records: list[Record]) -> None:
        """Apply records; what can be done for all of them at once is."""
        labels = [record for record in records if record.kind in LABELS]
        values = self._fold.prepare_batch(labels, self._schema_hash)
        if self._baseline:
            self._baseline.prepare_batch(labels, values)
        self._challenger.prepare_batch(labels, values)
        with self._fold.batched():
            for record in records:
                self._apply(record)

    def _apply(self, record: Record) -> None:
        try:
            applied = self._fold.apply(record)
        except SnapshotError as exc:
            self._refuse_rollback(record, exc)
            return
        self._history.add(applied)
        self._publisher.mark_changed()
        if applied.outcome is not None:
            self._compare(record)
        if record.kind in ("rollback", "replay"):
            reason = "rollback" if record.kind == "rollback" else "adopted"
            self._snapshot(reason, parent=record.payload["version"])
            self._challenger.compare_with(self.version)
        elif record.kind == "snapshot":
            self._snapshot("request")

    def _compare(self, record: Record) -> None:
        """Compare with the last good snapshot; go back to it where that is wished."""
        alarm = self._challenger.compare(record)
        if alarm is None:
            return
        self._history.add(Applied(alarm=alarm))
        log.warning("%s", alarm.message)
        # A learner that passes this label again, after a crash or in a replay, alarms again. The order's name
        # makes it one, and where the journal has a rollback after this label, none is added.
        if self._config.guard.rollback and not self._journal.versions_needed(record.seq):
            good = self._fold.state.guard.version
            self._journal.append_command(
                "rollback", self._clock(), f"guard-{record.seq}", version=good, reason=alarm.message
            )

    def _refuse_rollback(self, record: Record, exc: SnapshotError) -> None:
        """Leave the model as it is where a version cannot be loaded, and raise an alarm."""
        log.error("rollback at seq %d refused: %s", record.seq, exc)
        alarm = Alarm(
            record.seq, record.received_at, "rollback", "snapshot", 0.0, 0.0, str(exc), kind="operation"
        )
        self._history.add(Applied(alarm=alarm))
        self._fold.skip(record)
        self._publisher.mark_changed()

    # Models

    def _restore(self, version: int) -> Any:
        return self._store.load(version).pipeline

    def _records_between(self, after: int, before: int) -> Iterator[Record]:
        while after + 1 < before:
            records = self._journal.read(after, min(STEP_RECORDS, before - 1 - after))
            yield from records
            after = records[-1].seq

    def _load_baseline(self) -> ReferenceModel | None:
        """The frozen first model, scored beside the live one on every label; None where it is damaged."""
        try:
            first = self._store.load(min(self._store.versions()))
        except SnapshotError as exc:
            log.warning("the first model cannot be scored beside the live one: %s", exc)
            return None
        plan = self._compile(first.pipeline, first.state, version=first.manifest.version, seq=0)
        return ReferenceModel(plan, as_served=False)

    def _load_plan(self, version: int) -> ScoringPlan:
        """A version's plan, to compare with."""
        loaded = self._store.load(version)
        return self._compile(loaded.pipeline, loaded.state, version=version, seq=loaded.manifest.seq)

    def _compile_model(self) -> ScoringPlan:
        """The model as it is now, as a plan."""
        return self._compile(self._fold.pipeline, self._fold.state, version=self.version, seq=self.seq)

    def _compile(self, pipeline: Any, state: FoldState, *, version: int, seq: int) -> ScoringPlan:
        return compile_plan(pipeline, self._config.schema, version=version, seq=seq, interval=state.interval)

    def _snapshot(self, reason: str, parent: int | None = None) -> None:
        self._history.write()  # a restart from this snapshot does not see again what led to it
        if self._snapshots.take(self._fold, reason, parent) is None:
            return
        self._challenger.offer_candidate(self.version)
        guard = self._fold.state.guard
        self._snapshots.remove_old(self._journal, (guard.version, guard.candidate))
        self._publisher.mark_changed()  # a plan names the version it comes from

    def _new_refresher(self) -> Refresher | None:
        """What has the batch expert trained anew; None where that is not wanted."""
        if BOOSTED_RECENT not in self._fold.pipeline[POOL].experts or not self._config.refresh.every_labels:
            return None
        return Refresher(self._home, self._config, self._fold.state.learned, self.seq)

    # Status

    def _weights(self) -> dict[str, float]:
        weights: dict[str, float] = self._fold.pipeline[POOL].weights()
        return weights

    def _status(self, now: float) -> dict[str, Any]:
        """What ``GET /model`` and the metrics tell of the learner."""
        state = self._fold.state
        return {
            "learner": {
                "alive": True,
                "updated_at": now,
                "pid": os.getpid(),
                "error": self._publisher.error or self._snapshots.error,
            },
            "learned": {"seq": state.seq, "labels": state.learned, "version": self.version},
            "prequential": state.prequential.report(),
            "guard": {"version": state.guard.version, "evidence": state.guard.evidence},
            "experts": state.prequential.expert_maes(),
            "busy_seconds": self._timer.busy_seconds,
        }


def check_journal(journal: Journal, learned: int) -> None:
    """Refuse a journal that ends before what was learned: its next labels would be taken for learned ones.

    Raises
    ------
    JournalError
        It does.
    """
    if journal.last_seq() < learned:
        raise JournalError(
            f"the journal ends at record {journal.last_seq()}, but {learned} were learned from it:"
            " restore data/journal.db from a backup"
        )
