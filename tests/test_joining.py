"""The process that joins labels: it takes in what a joiner here would, and may die at any time."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import online.labels.label_joiner
import server.processes.label_worker
from online.core import config as configuration
from online.core.config import LedgerConfig
from online.core.errors import JournalError
from online.core.home import Home
from online.labels.ingest import LabelIngest
from online.labels.label_joiner import InlineLabelStore, LabelJoiner
from online.labels.label_messages import (
    CommitRequest,
    CommitResponse,
    Committed,
    Label,
    LabelStore,
    Rejected,
    SettleCommit,
    StoreReady,
    error_of,
)
from online.storage.journal import Journal
from online.storage.label_validation import LabelValidator
from online.storage.prediction_log import PredictionLog
from online.storage.records import Receipt, Record
from online.storage.served_predictions import Served
from server.processes.label_worker import LabelWorker
from tests.support.rows import TARGET, stream_rows
from tests.support.running import Server, serving, until

ALONE = [CommitRequest(1, [Label(1.0, None, {"hour": "3"})], 5.0)]  # a label of a row that nobody asked about


def expect(values: np.ndarray) -> list[float | None]:
    """A model of its own kind: cannot tell for rows with little in them."""
    return [None if np.isnan(row).sum() > 3 else float(np.nansum(row)) for row in values]


def commit(store: LabelStore, requests: list[CommitRequest]) -> list[Receipt]:
    """Have requests committed; the receipts of all, in order."""
    replies: dict[int, Future[CommitResponse]] = {request.id: Future() for request in requests}
    ready = threading.Event()
    store.commit(requests, lambda reply: replies[reply.request_id].set_result(reply), ready.set)
    receipts = []
    for future in replies.values():
        reply = future.result(60)
        if isinstance(reply, Rejected):
            raise error_of(reply)
        receipts += reply.receipts
    assert ready.wait(60)
    return receipts


@pytest.fixture
def worker(home: Path) -> Iterator[LabelWorker]:
    schema = configuration.load(Home(home).config).schema
    with contextlib.closing(LabelWorker(Home(home), schema)) as running:
        yield running


class Kept:
    """A store that outlives the ingests that use it."""

    def __init__(self, store: LabelStore) -> None:
        self.commit = store.commit

    def close(self) -> None:
        """Leave it open."""


def records(home: Home) -> list[Record]:
    journal = Journal(home.journal, "energy")
    with contextlib.closing(journal):
        return journal.read(0, 100_000)


VALUES = st.one_of(
    st.floats(), st.integers(-(2**70), 2**70), st.text(st.characters(exclude_categories=["Cs"])), st.none(),
    st.booleans(), st.lists(st.integers()),
)  # fmt: skip
TARGETS = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_labels_get_what_a_joiner_here_gives_them(
    home: Path, tmp_path: Path, worker: LabelWorker, data: st.DataObject
) -> None:
    config = configuration.load(Home(home).config)
    names = [feature.name for feature in config.schema.features]
    row = st.fixed_dictionaries({TARGET: TARGETS}, optional=dict.fromkeys(names, VALUES))
    with_id = st.builds(lambda row, name: {**row, "id": name}, row, st.sampled_from("abcde"))
    asked = data.draw(st.lists(st.lists(with_id, min_size=1, max_size=4), min_size=1, max_size=3))

    def receipts(store: LabelStore) -> list[list[Receipt]]:
        clock = itertools.count()
        ingest = LabelIngest(config.schema, Kept(store), lambda: float(next(clock)), expect=expect)
        with contextlib.closing(ingest):
            futures = [ingest.accept(ingest.validate(rows), "them") for rows in asked]
            return [future.result(60) for future in futures]

    other = Home(tmp_path / "other").create()
    theirs = PredictionLog.of(other, config)
    here = LabelJoiner(
        config.schema,
        lambda: Journal(other.journal, config.stream, LabelValidator(config.schema, config.quarantine)),
        theirs,
    )
    with contextlib.closing(theirs), contextlib.closing(here):
        assert receipts(worker) == receipts(InlineLabelStore(here))
        assert records(other) == records(Home(home))


class Held:
    """A store that is ready for more when the test says so."""

    def __init__(self) -> None:
        self.frames: list[list[CommitRequest]] = []
        self.ready: list[Callable[[], None]] = []

    def commit(self, requests: Sequence[CommitRequest], settle: SettleCommit, ready: StoreReady) -> None:
        for request in requests:
            settle(Committed(request.id, [Receipt("accepted", 1) for _ in request.labels]))
        self.ready.append(ready)
        self.frames.append(list(requests))

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 150])
def test_what_comes_while_the_store_is_busy_is_handed_over_together_and_in_order(
    home: Path, size: int
) -> None:
    schema, store = configuration.load(Home(home).config).schema, Held()
    ingest = LabelIngest(schema, store)
    row = {"hour": "3"}
    futures = [ingest.accept([Label(0.0, None, row)])]
    until(lambda: store.frames, "the first labels to be handed over")
    futures += [ingest.accept([Label(float(n), None, row)] * size) for n in range(1, 100)]
    while not all(future.done() for future in futures):
        frames = len(store.frames)
        store.ready[-1]()
        until(lambda: len(store.frames) > frames, "the next labels to be handed over")  # noqa: B023 - called here
    store.ready[-1]()
    ingest.close()
    assert [request.labels[0].target for frame in store.frames for request in frame] == list(range(100))
    assert [len(future.result()) for future in futures] == [1, *[size] * 99]
    assert len(store.frames) < 5
    assert max(sum(len(request.labels) for request in frame) for frame in store.frames) <= 20_000


class BrokenOnce(Held):
    """A store that fails at its first commit."""

    broken = True

    def commit(self, requests: Sequence[CommitRequest], settle: SettleCommit, ready: StoreReady) -> None:
        if self.broken:
            self.broken = False
            raise RuntimeError("no room")
        super().commit(requests, settle, ready)
        ready()


def test_a_store_that_fails_is_told_of_and_the_next_labels_are_kept(home: Path) -> None:
    schema = configuration.load(Home(home).config).schema
    with contextlib.closing(LabelIngest(schema, BrokenOnce())) as ingest:
        with pytest.raises(JournalError, match=r"may have been kept or not: .*no room"):
            ingest.accept([Label(1.0, None, {"hour": "3"})]).result(60)
        assert ingest.accept([Label(2.0, None, {"hour": "3"})]).result(60) == [Receipt("accepted", 1)]


@pytest.mark.slow
def test_predictions_that_cannot_be_read_keep_nothing(home: Path, worker: LabelWorker) -> None:
    commit(worker, ALONE)
    with sqlite3.connect(Home(home).ledger) as db:
        db.execute("ALTER TABLE block RENAME TO elsewhere")
    with pytest.raises(JournalError, match=r"no label of this request was kept: .*block"):
        commit(worker, ALONE)
    assert len(records(Home(home))) == 1
    with sqlite3.connect(Home(home).ledger) as db:
        db.execute("ALTER TABLE elsewhere RENAME TO block")
    assert commit(worker, ALONE) == [Receipt("accepted", 2)]


def test_an_unwritten_prediction_is_sent_along_whatever_numbers_its_row_holds(
    home: Path, worker: LabelWorker
) -> None:
    config = configuration.load(Home(home).config)
    log = PredictionLog(
        Home(home).ledger, config.schema, LedgerConfig(10, flush_seconds=3600.0, max_queued=10)
    )
    rows = [{"id": 10**30, "Source": "x"}, {"Source": "x", "Start_Hour": 10**25}]
    with (
        contextlib.closing(log),
        contextlib.closing(LabelIngest(config.schema, Kept(worker), predictions=log)) as ingest,
    ):
        for number, row in enumerate(rows):
            log.record([Served(f"p{number}", 1.0, row, {}, (), 2.0, 1.0, 3.0, (), (), 1, 0)])
            labels = ingest.validate([{"id": f"p{number}", TARGET: 5.0}])
            assert [receipt.status for receipt in ingest.accept(labels).result(60)] == ["accepted"]
        assert log.waiting == 2
    assert [record.prediction for record in records(Home(home))] == [2.0, 2.0]
    assert [record.features for record in records(Home(home))] == [
        {"Source": "x"},
        {"Source": "x", "Start_Hour": str(10**25)},
    ]


@pytest.mark.slow
def test_one_that_says_nothing_is_replaced(
    home: Path, worker: LabelWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(worker, ALONE)
    monkeypatch.setattr(server.processes.label_worker, "ANSWER_SECONDS", 0.2)
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(JournalError, match="send them again"):
        commit(worker, ALONE)
    monkeypatch.setattr(server.processes.label_worker, "ANSWER_SECONDS", 60.0)
    assert commit(worker, ALONE) == [Receipt("accepted", 2)]
    assert len(records(Home(home))) == 2


class Waiting:
    """A joiner with a prediction log that others write to, and a clock that is set."""

    def __init__(self, home: Home, flush_seconds: float = 1.0) -> None:
        config = configuration.load(home.config)
        self.home = home
        self.now = 100.0
        self.log = PredictionLog(
            home.ledger, config.schema, LedgerConfig(1000, flush_seconds=3600.0, max_queued=1000)
        )
        self.log.flush_seconds = flush_seconds
        self.joiner = LabelJoiner(
            config.schema, lambda: Journal(home.journal, config.stream), self.log, clock=lambda: self.now
        )

    def request(self, number: int, *names: str, target: float = 1.0) -> CommitRequest:
        return CommitRequest(number, [Label(target, name, None) for name in names], self.now)

    def serve(self, name: str) -> None:
        """Another worker's prediction is written."""
        self.log.record([Served(name, 1.0, {"hour": "4"}, {}, (), 2.0, 1.0, 3.0, (), (), 1, 0)])
        self.log.flush()

    def statuses(self, replies: list[CommitResponse]) -> dict[int, list[str]]:
        assert all(isinstance(reply, Committed) for reply in replies)
        return {r.request_id: [one.status for one in r.receipts] for r in replies if isinstance(r, Committed)}

    def close(self) -> None:
        self.joiner.close()
        self.log.close()


@pytest.fixture
def waiting(home: Path) -> Iterator[Waiting]:
    with contextlib.closing(Waiting(Home(home))) as found:
        yield found


def test_a_request_with_an_unknown_id_waits_and_others_are_answered(waiting: Waiting) -> None:
    waiting.serve("known")
    joiner = waiting.joiner
    assert joiner.pause is None
    first, second = waiting.request(1, "early"), waiting.request(2, "known")
    assert waiting.statuses(joiner.process([first])) == {}
    assert waiting.statuses(joiner.process([second])) == {2: ["accepted"]}
    assert joiner.pause == 1.0
    waiting.serve("early")
    waiting.now += 0.5
    assert joiner.process(()) == []
    waiting.now += 0.5
    assert waiting.statuses(joiner.process(())) == {1: ["accepted"]}
    assert joiner.pause is None


def test_an_id_that_stays_unknown_is_set_aside_when_the_wait_ends(waiting: Waiting) -> None:
    joiner = waiting.joiner
    assert joiner.process([waiting.request(1, "nobody")]) == []
    while (pause := joiner.pause) is not None:
        waiting.now += pause
        replies = joiner.process(())
    assert waiting.statuses(replies) == {1: ["quarantined"]}
    assert waiting.now == 102.0  # twice the time in which predictions are written
    assert records(waiting.home) == []


def test_the_label_that_came_last_wins_though_the_first_one_had_to_wait(waiting: Waiting) -> None:
    joiner = waiting.joiner
    assert joiner.process([waiting.request(1, "early", target=1.0)]) == []
    waiting.serve("early")
    waiting.now += 0.5
    assert joiner.process([waiting.request(2, "early", target=2.0)]) == []
    waiting.now += 2.0
    assert waiting.statuses(joiner.process(())) == {1: ["accepted"], 2: ["correction"]}
    assert [record.target for record in records(waiting.home)] == [1.0, 2.0]


def test_a_label_that_is_known_is_not_waited_for_without_its_prediction(waiting: Waiting) -> None:
    joiner = waiting.joiner
    whole = CommitRequest(1, [Label(1.0, "mine", {"hour": "4"})], 5.0)
    assert waiting.statuses(joiner.process([whole])) == {1: ["accepted"]}
    assert waiting.statuses(joiner.process([waiting.request(2, "mine")])) == {2: ["duplicate"]}


def test_when_too_many_wait_the_next_does_not(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online.labels.label_joiner, "DEFERRED_LABELS", 3)
    joiner = waiting.joiner
    assert joiner.process([waiting.request(1, "a", "b"), waiting.request(2, "c")]) == []
    assert waiting.statuses(joiner.process([waiting.request(3, "d")])) == {3: ["quarantined"]}
    assert waiting.statuses(joiner.process((), last=True)) == {1: ["quarantined"] * 2, 2: ["quarantined"]}


def test_a_killed_label_worker_is_back_with_the_next_labels_and_ends_with_its_scorer(server: Server) -> None:
    rows, labels = stream_rows(server.home, 3)
    ids = server.predict(rows)["ids"]
    pairs = [{"id": name, TARGET: y} for name, y in zip(ids, labels, strict=True)]
    assert server.learn(pairs[0])["seq"] == 1
    old = server.kill("label-worker")
    until(lambda: ended(old), "the label worker's end")
    assert server.learn(pairs[1])["seq"] == 2
    assert "the label worker ended with code -9; it is started again" in server.log()
    (new,) = server.pids("label-worker")
    assert new != old
    server.kill("scorer")
    until(lambda: not Path(f"/proc/{new}").exists(), "the label worker to end")
    until(server.ready, "the scorer to be back")
    assert server.learn(pairs, wait=True)["duplicates"] == 2


def test_a_label_in_a_worker_that_dies_is_to_be_sent_again_and_is_learned_once(server: Server) -> None:
    (row,), (label,) = stream_rows(server.home, 1)
    taught = {"id": server.predict(row)["id"], TARGET: label}
    (pid,) = server.pids("label-worker")
    server.learn({**row, "id": "before", TARGET: label})
    journal = sqlite3.connect(server.home / "data" / "journal.db", isolation_level=None)
    with contextlib.closing(journal), ThreadPoolExecutor() as pool:
        journal.execute("BEGIN IMMEDIATE")
        before = pauses(pid)
        answer = pool.submit(server.client.post, "/learn", json=taught)
        until(lambda: pauses(pid) > before + 5, "the label worker to wait for the journal")
        os.kill(pid, signal.SIGKILL)
        assert answer.result().status_code == 503
        assert "send them again" in answer.result().json()["detail"]
        journal.execute("ROLLBACK")
    assert server.learn(taught)["accepted"] == 1
    assert server.learn(taught, wait=True)["duplicates"] == 1


def ended(pid: int) -> bool:
    """Whether all threads of a process have ended, reaped or not."""
    tasks = list(Path(f"/proc/{pid}/task").glob("*"))
    try:
        return len(tasks) <= 1 and all("State:\tZ" in (task / "status").read_text() for task in tasks)
    except (FileNotFoundError, ProcessLookupError):  # one went while it was looked at: look again
        return False


def pauses(pid: int) -> int:
    """How often a process' main thread has waited for something."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


@pytest.mark.server
@pytest.mark.parametrize("named", [True, False], ids=["by id", "by features"])
def test_what_was_just_served_is_found_however_seldom_it_is_written(home: Path, named: bool) -> None:
    with serving(home, environ={"MILLRACE_LEDGER_FLUSH_SECONDS": "3600"}) as server:
        (row,), (label,) = stream_rows(home, 1)
        served = server.predict(row)
        taught: dict[str, Any] = {"id": served["id"]} if named else dict(row)
        assert server.learn(taught | {TARGET: label}, wait=True)["seq"] == 1
    (record,) = records(Home(home))
    assert (record.id, record.prediction, record.target) == (served["id"], served["prediction"], label)


@pytest.mark.server
def test_an_id_that_is_predicted_again_is_labelled_as_it_was_served_last(home: Path) -> None:
    with serving(home, environ={"MILLRACE_LEDGER_FLUSH_SECONDS": "3600"}) as server:
        rows, labels = stream_rows(home, 3)
        server.predict({**rows[0], "id": "mine"})
        server.learn({**rows[1], TARGET: labels[1]})  # has what was served written
        again = server.predict({**rows[2], "id": "mine"})
        server.learn({"id": "mine", TARGET: labels[2]}, wait=True)
    assert records(Home(home))[-1].prediction == again["prediction"]
