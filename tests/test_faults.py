"""Damaged files and full disks: told where people look, predictions go on, and nothing is skipped."""

from __future__ import annotations

import resource
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.rows import TARGET, stream_rows
from tests.support.running import Server, serving, until


def teach(server: Server, count: int, first: int = 0) -> None:
    """Learn labels of rows nobody asked about."""
    rows, labels = stream_rows(server.home, first + count)
    full = [{**row, TARGET: label} for row, label in zip(rows, labels, strict=True)]
    server.learn(full[first:], wait=True)


def forget_snapshots(home: Path) -> None:
    """Leave the first model alone, so that the journal is replayed."""
    for path in (home / "models").glob("model_v*"):
        if not path.name.startswith("model_v1."):
            path.unlink()


def trouble(server: Server, words: str) -> Any:
    """The learner's state, once its error has the words."""

    def told() -> Any:
        state = server.get("/health/ready")["learner"]
        return state if words in (state["error"] or "") else None

    return until(told, f"word of {words!r}")


@pytest.mark.server
def test_a_damaged_record_stops_learning_and_a_backup_mends_it(home: Path) -> None:
    with serving(home) as server:
        teach(server, 5)
    journal = home / "data" / "journal.db"
    shutil.copy(journal, home / "backup.db")
    with sqlite3.connect(journal) as db:
        db.execute("UPDATE journal SET target = target + 1 WHERE seq = 3")
    db.close()
    forget_snapshots(home)
    with serving(home, learning=False) as server:
        state = trouble(server, "record 3 is damaged")
        assert not state["alive"] and "backup" in state["error"]
        assert server.get("/model")["learner"]["error"] == state["error"]
        assert "record 3 is damaged" in server.log()
        rows, labels = stream_rows(home, 6)
        name = server.predict(rows[5])["id"]
        assert "Traceback" not in server.log() and "started again" not in server.log()
    for path in (home / "data").glob("journal.db*"):
        path.unlink()
    shutil.copy(home / "backup.db", journal)
    with serving(home) as server:
        until(lambda: server.get("/model")["learned_seq"] == 5, "the labels to be learned")
        assert server.learn({"id": name, TARGET: labels[5]}, wait=True)["seq"] == 6
        assert server.get("/health/ready")["learner"]["error"] is None


@pytest.mark.server
def test_without_any_model_file_predictions_go_on_and_the_learner_says_what_is_missing(home: Path) -> None:
    kept = {path.name: path.read_bytes() for path in (home / "models").glob("*.pkl")}
    for name in kept:
        (home / "models" / name).unlink()
    with serving(home, learning=False) as server:
        assert "model_v1.pkl" in trouble(server, "no snapshot can be loaded")["error"]
        rows, labels = stream_rows(home, 1)
        served = server.predict(rows[0])
        assert server.learn({"id": served["id"], TARGET: labels[0]})["accepted"] == 1
        assert "Traceback" not in server.log() and "started again" not in server.log()
        for name, content in kept.items():
            (home / "models" / name).write_bytes(content)
        until(lambda: server.get("/model")["learned_seq"] == 1, "the learner to have begun by itself")


@pytest.mark.server
def test_a_journal_lost_under_way_refuses_labels_and_never_predictions(home: Path) -> None:
    with serving(home) as server:
        teach(server, 3)
        rows, labels = stream_rows(home, 4)
        for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
            (home / "data" / name).write_bytes(b"no database" * 1000)
        server.kill("scorer")
        server.kill("learner")
        until(lambda: answered(server, rows[0]), "a prediction")
        answer = server.client.post("/learn", json={**rows[3], TARGET: labels[3]})
        assert answer.status_code == 503 and "journal.db" in answer.json()["detail"]
        assert server.client.get("/health/ready").status_code == 503
        assert answered(server, rows[0])


def answered(server: Server, row: Any) -> bool:
    """Whether a prediction comes; the worker may just be coming back."""
    try:
        return server.client.post("/predict", json=row).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.server
def test_a_full_disk_under_the_learner_is_told_and_passes(home: Path) -> None:
    with serving(home) as server:
        teach(server, 5)
        (pid,) = server.pids("learner")
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        largest = (home / "models" / "model_v1.pkl").stat().st_size * 3 // 4  # no snapshot fits, a plan does
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, hard))
        refused = server.client.post("/snapshots")
        assert refused.status_code == 400 and "the learner refused" in refused.json()["detail"]
        assert trouble(server, "model_v2 cannot be written")["alive"]
        assert not list((home / "models").glob("*v2*")) and not list((home / "models").glob("*.tmp"))
        teach(server, 5, first=5)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert server.client.post("/snapshots").json()["version"] == 2
        until(lambda: server.get("/health/ready")["learner"]["error"] is None, "all well")
        assert server.pids("learner") == [pid]


@pytest.mark.server
def test_a_full_disk_refuses_labels_keeps_nothing_and_passes(home: Path) -> None:
    with serving(home) as server:
        teach(server, 5)
        (pid,) = server.pids("label-worker")
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1_000, hard))
        rows, labels = stream_rows(home, 10)
        server.predict(rows)
        body = [{**row, TARGET: y} for row, y in zip(rows, labels, strict=True)][5:]
        answer = server.client.post("/learn", json=body)
        assert answer.status_code == 503 and "no label of this request was kept" in answer.json()["detail"]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert server.learn(body, wait=True)["seq"] == 10


@pytest.mark.server
def test_labels_join_predictions_that_a_full_disk_keeps_from_being_written(home: Path) -> None:
    with serving(home) as server:
        teach(server, 5)
        (pid,) = server.pids("scorer")
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1_000, hard))
        rows, labels = stream_rows(home, 10)
        served = server.predict([{**row, "id": f"p{n}"} for n, row in enumerate(rows)])
        named = [{"id": f"p{n}", TARGET: y} for n, y in enumerate(labels)]
        assert server.learn(named, wait=True)["accepted"] == 10
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        for name, prediction in zip(served["ids"], served["predictions"], strict=True):
            assert server.get(f"/predictions/{name}")["label"]["prediction"] == prediction
