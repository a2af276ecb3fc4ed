"""What the routes of one worker share, opened and closed with the app."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from online.core.config import Config
from online.core.home import Home
from online.drift.flag_limits import FlagLimitsWatcher
from online.drift.store import DriftScoreStore
from online.features.segments import Segments
from online.labels.ingest import LabelIngest, fulfil
from online.scoring.scored import Scored
from online.scoring.scorer import PlanWatch, Scorer
from online.storage.journal import Journal
from online.storage.metrics_store import MetricsStore
from online.storage.prediction_log import PredictionLog
from online.storage.records import Receipt
from online.storage.snapshot import SnapshotStore
from server.http.loop_mailbox import LoopMailbox
from server.observability.buffered_metrics import PeriodicFlush
from server.observability.metrics import Metrics
from server.processes.health import learner_state
from server.processes.label_worker import LabelWorker

__all__ = ["SERVED_WAIT_SECONDS", "Service", "last_seq"]

SERVED_WAIT_SECONDS = 60.0  # how long a call waits until what it changed is served
LEARN_POLL_SECONDS = 0.01
HEARD_SECONDS = 2.0  # a learner whose plan came so lately is at work
FLUSH_SECONDS = 0.25  # how far metrics may lag behind the requests of another worker


class Service:
    """Scoring, taking in labels, and reading what the learner left.

    Parameters
    ----------
    home, config
        The stream served.
    metrics
        Where counts go.
    """

    def __init__(self, home: Home, config: Config, metrics: Metrics) -> None:
        self.home = home.create()
        self.config = config
        self.metrics = metrics
        self.segments = Segments(config.schema)
        self.store = SnapshotStore(home.models, config.learner.snapshot_key)
        self.watch = PlanWatch(home.plan)
        self.flag_limits = FlagLimitsWatcher(home.flag_limits)
        self.scorer = Scorer(self.watch)
        self.ledger = PredictionLog.of(home, config)
        self.metrics_flush = PeriodicFlush(metrics.flush, FLUSH_SECONDS)
        self.label_ingest = LabelIngest(
            config.schema,
            LabelWorker(home, config.schema),
            learned_seq=self._learned,
            predictions=self.ledger,
            expect=self._expect,
        )
        self._label_requests = 0  # under way

    def _learned(self) -> int | None:
        """The last journal record that the plan at hand reflects."""
        plan = self.watch.plan
        return None if plan is None else plan.info.seq

    def _expect(self, values: np.ndarray) -> Sequence[float | None]:
        """What the plan at hand says of rows that come with their labels."""
        plan = self.watch.plan
        return [None] * len(values) if plan is None else plan.score_values(values)

    def close(self) -> None:
        """Commit what waits and stop the threads."""
        self.label_ingest.close()
        self.ledger.close()
        self.watch.close()
        self.flag_limits.close()
        self.metrics_flush.close()

    def predict(
        self, rows: Sequence[Mapping[str, Any]], *, record: bool = True, independent: bool = False
    ) -> Scored:
        """Score rows, put them on the ledger and count them.

        Parameters
        ----------
        rows
            As they came.
        record
            Whether the ledger keeps them.
        independent
            They came in requests of their own, at most ``FEW``: an id may repeat.

        Returns
        -------
        Scored
            In the rows' order.

        Raises
        ------
        InputError
            A row's id is wrong, or repeats in one request.
        PlanError
            There is no plan yet.
        """
        scored = self.scorer.serve_each(rows) if independent else self.scorer.serve(rows)
        self.flag_limits.limits.add(scored, self.segments)
        if record:
            self.ledger.record(scored)
        self.metrics.count_predictions(scored, self.ledger.lost)
        return scored

    async def learn(self, rows: Sequence[Mapping[str, Any]], source: str | None = None) -> list[Receipt]:
        """Accept labels: durable on return. A client that outruns the learner is answered later.

        Parameters
        ----------
        rows
            Labels as they came.
        source
            Who sends them.

        Returns
        -------
        list of Receipt
            What became of each, in order.

        Raises
        ------
        InputError
            A row is no label, or its label no finite number: nothing was kept.
        BusyError
            Too many labels wait to be learned: nothing was kept.
        JournalError
            The journal failed: nothing was kept, or, where the message says so, nobody knows.
        """
        labels = self.label_ingest.validate(rows)
        committed: asyncio.Future[list[Receipt]] = asyncio.get_running_loop().create_future()
        self._label_requests += 1
        try:
            self.label_ingest.submit(labels, source, functools.partial(self._mailbox.post, fulfil, committed))
            receipts = await committed
            self.metrics.count_labels(receipts)
            await self._apply_backpressure(last_seq(receipts) - self.config.learner.backpressure_labels)
        finally:
            self._label_requests -= 1
        return receipts

    @functools.cached_property
    def _mailbox(self) -> LoopMailbox:
        return LoopMailbox(asyncio.get_running_loop())

    async def _apply_backpressure(self, seq: int) -> None:
        """Wait for the learner to be at a journal record; one that is down slows nobody.

        Only a request that is alone waits: its client would learn from fresher predictions. Several at once
        want throughput.
        """
        if not self._behind(seq):
            return
        heard = time.time() - self.watch.loaded_at < HEARD_SECONDS
        if heard or await asyncio.to_thread(self.learner_alive):
            deadline = time.monotonic() + self.config.learner.backpressure_seconds
            while self._behind(seq) and time.monotonic() < deadline:
                await asyncio.sleep(LEARN_POLL_SECONDS)

    def _behind(self, seq: int) -> bool:
        """Whether the only request under way is of labels beyond what is served."""
        plan = self.watch.plan
        return self._label_requests == 1 and plan is not None and plan.info.seq < seq

    def learner_alive(self) -> bool:
        """Whether the learner is at work, by its last words."""
        with self.history() as history:
            return bool(learner_state(history.status())["alive"])

    async def learned(self, seq: int, seconds: float) -> bool:
        """Wait until this worker serves a plan that has learned up to a journal record.

        Parameters
        ----------
        seq
            The record's.
        seconds
            How long to wait at most.

        Returns
        -------
        bool
            False when time ran out.
        """
        deadline = time.monotonic() + seconds
        while (plan := self.watch.plan) is None or plan.info.seq < seq:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LEARN_POLL_SECONDS)
        return True

    @contextlib.contextmanager
    def journal(self) -> Iterator[Journal]:
        """The journal, for one thread and one call."""
        journal = Journal(self.home.journal, self.config.stream)
        try:
            yield journal
        finally:
            journal.close()

    @contextlib.contextmanager
    def drift_scores(self) -> Iterator[DriftScoreStore]:
        """The watcher's scores, for one thread and one call."""
        store = DriftScoreStore(self.home.history)
        try:
            yield store
        finally:
            store.close()

    @contextlib.contextmanager
    def history(self) -> Iterator[MetricsStore]:
        """The history, for one thread and one call."""
        history = MetricsStore(self.home.history, self.config.learner.history_rows)
        try:
            yield history
        finally:
            history.close()


def last_seq(receipts: Sequence[Receipt]) -> int:
    """The last journal record that labels are in; 0 when all were set aside."""
    return max([receipt.seq for receipt in receipts if receipt.status != "quarantined"], default=0)
