"""The process that joins labels: it takes in what a joiner here would, and may die at any time."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import server.processes.label_worker
from online.core import config as configuration
from online.core.config import LedgerConfig
from online.core.errors import JournalError
from online.core.home import Home
from online.labels.ingest import Intake
from online.labels.label_joiner import Joiner, Label, Request
from online.storage.journal import Journal
from online.storage.label_validation import LabelValidator
from online.storage.prediction_log import PredictionLog
from online.storage.records import Receipt, Record
from online.storage.served_predictions import Served
from server.processes.label_worker import JoinerProcess
from tests.support.rows import TARGET, stream_rows
from tests.support.running import Server, serving, until

ALONE = [Request([Label(1.0, None, {"hour": "3"})], 5.0)]  # a label of a row that nobody asked about


def expect(values: np.ndarray) -> list[float | None]:
    """A model of its own kind: cannot tell for rows with little in them."""
    return [None if np.isnan(row).sum() > 3 else float(np.nansum(row)) for row in values]


@pytest.fixture
def ledger(home: Path) -> Iterator[PredictionLog]:
    """The scorer's: nothing is written but when it has to be."""
    config = configuration.load(Home(home).config)
    ledger = PredictionLog(
        Home(home).ledger, config.schema, LedgerConfig(1000, flush_seconds=3600.0, max_queued=1000)
    )
    with contextlib.closing(ledger):
        yield ledger


@pytest.fixture
def process(home: Path, ledger: PredictionLog) -> Iterator[JoinerProcess]:
    with contextlib.closing(JoinerProcess(Home(home), ledger, expect)) as joiner:
        yield joiner


def records(home: Home) -> list[Record]:
    journal = Journal(home.journal, "energy")
    with contextlib.closing(journal):
        return journal.read(0, 100_000)


VALUES = st.one_of(
    st.floats(), st.integers(-(2**70), 2**70), st.text(st.characters(exclude_categories=["Cs"])), st.none(),
    st.booleans(), st.lists(st.integers()),
)  # fmt: skip
TARGETS = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_labels_get_what_a_joiner_here_gives_them(
    home: Path, tmp_path: Path, process: JoinerProcess, data: st.DataObject
) -> None:
    config = configuration.load(Home(home).config)
    names = [feature.name for feature in config.schema.features]
    row = st.fixed_dictionaries({TARGET: TARGETS}, optional=dict.fromkeys(names, VALUES))
    with_id = st.builds(lambda row, name: {**row, "id": name}, row, st.sampled_from("abcde"))
    asked = data.draw(st.lists(st.lists(with_id, min_size=1, max_size=4), min_size=1, max_size=3))

    other = Home(tmp_path / "other").create()
    theirs = PredictionLog.of(other, config)
    here = Joiner(
        config.schema,
        lambda: Journal(other.journal, config.stream, LabelValidator(config.schema, config.quarantine)),
        theirs, expect=expect,
    )  # fmt: skip
    with contextlib.closing(theirs), contextlib.closing(Intake(config.schema, here)) as intake:
        requests = [Request(intake.validate(rows), float(n), "them") for n, rows in enumerate(asked)]
        assert process.take_in(requests, 0) == here.take_in(requests, 0)
        assert records(other) == records(Home(home))


def test_what_is_asked_of_the_scorer_and_cannot_be_had_keeps_nothing(
    home: Path, ledger: PredictionLog, process: JoinerProcess
) -> None:
    process.take_in(ALONE, None)
    ledger.record([Served("a", 1.0, {"hour": "4"}, {}, (), 2.0, 1.0, 3.0, (), (), 1, 0)])
    with sqlite3.connect(Home(home).ledger) as db:
        db.execute("ALTER TABLE block RENAME TO elsewhere")
    with pytest.raises(
        JournalError, match=r"no label of this request was kept: the ledger cannot be written"
    ):
        process.take_in(ALONE, None)
    assert len(records(Home(home))) == 1
    with sqlite3.connect(Home(home).ledger) as db:
        db.execute("ALTER TABLE elsewhere RENAME TO block")
    assert process.take_in(ALONE, None) == [Receipt("accepted", 2)]


def test_one_that_says_nothing_is_replaced(
    home: Path, process: JoinerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.take_in(ALONE, None)
    monkeypatch.setattr(server.processes.label_worker, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(server.processes.label_worker, "END_SECONDS", 0.2)
    os.kill(process._process.pid, signal.SIGSTOP)
    with pytest.raises(JournalError, match="send them again"):
        process.take_in(ALONE, None)
    monkeypatch.setattr(server.processes.label_worker, "ANSWER_SECONDS", 60.0)
    assert process.take_in(ALONE, None) == [Receipt("accepted", 2)]
    assert len(records(Home(home))) == 2


def test_a_killed_joiner_is_back_with_the_next_labels_and_ends_with_its_scorer(server: Server) -> None:
    rows, labels = stream_rows(server.home, 3)
    ids = server.predict(rows)["ids"]
    pairs = [{"id": name, TARGET: y} for name, y in zip(ids, labels, strict=True)]
    assert server.learn(pairs[0])["seq"] == 1
    old = server.kill("joiner")
    until(lambda: ended(old), "the joiner's end")
    assert server.learn(pairs[1])["seq"] == 2
    assert "the joiner ended with code -9; it is started again" in server.log()
    (new,) = server.pids("joiner")
    assert new != old
    server.kill("scorer")
    until(lambda: not Path(f"/proc/{new}").exists(), "the joiner to end")
    until(server.ready, "the scorer to be back")
    assert server.learn(pairs, wait=True)["duplicates"] == 2


def test_a_label_in_a_joiner_that_dies_is_to_be_sent_again_and_is_learned_once(server: Server) -> None:
    (row,), (label,) = stream_rows(server.home, 1)
    taught = {"id": server.predict(row)["id"], TARGET: label}
    (pid,) = server.pids("joiner")
    server.learn({**row, "id": "before", TARGET: label})
    journal = sqlite3.connect(server.home / "data" / "journal.db", isolation_level=None)
    with contextlib.closing(journal), ThreadPoolExecutor() as pool:
        journal.execute("BEGIN IMMEDIATE")
        before = pauses(pid)
        answer = pool.submit(server.client.post, "/learn", json=taught)
        until(lambda: pauses(pid) > before + 5, "the joiner to wait for the journal")
        os.kill(pid, signal.SIGKILL)
        assert answer.result().status_code == 503
        assert "send them again" in answer.result().json()["detail"]
        journal.execute("ROLLBACK")
    assert server.learn(taught)["accepted"] == 1
    assert server.learn(taught, wait=True)["duplicates"] == 1


def ended(pid: int) -> bool:
    """Whether all threads of a process have ended, reaped or not."""
    tasks = list(Path(f"/proc/{pid}/task").glob("*"))
    return len(tasks) <= 1 and all("State:\tZ" in (task / "status").read_text() for task in tasks)


def pauses(pid: int) -> int:
    """How often a process' main thread has waited for something."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


@pytest.mark.parametrize("named", [True, False], ids=["by id", "by features"])
def test_what_was_just_served_is_found_however_seldom_it_is_written(home: Path, named: bool) -> None:
    with serving(home, environ={"MILLRACE_LEDGER_FLUSH_SECONDS": "3600"}) as server:
        (row,), (label,) = stream_rows(home, 1)
        served = server.predict(row)
        taught: dict[str, Any] = {"id": served["id"]} if named else dict(row)
        assert server.learn(taught | {TARGET: label}, wait=True)["seq"] == 1
    (record,) = records(Home(home))
    assert (record.id, record.prediction, record.target) == (served["id"], served["prediction"], label)


def test_an_id_that_is_predicted_again_is_labelled_as_it_was_served_last(home: Path) -> None:
    with serving(home, environ={"MILLRACE_LEDGER_FLUSH_SECONDS": "3600"}) as server:
        rows, labels = stream_rows(home, 3)
        server.predict({**rows[0], "id": "mine"})
        server.learn({**rows[1], TARGET: labels[1]})  # has what was served written
        again = server.predict({**rows[2], "id": "mine"})
        server.learn({"id": "mine", TARGET: labels[2]}, wait=True)
    assert records(Home(home))[-1].prediction == again["prediction"]
