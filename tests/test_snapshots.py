"""Snapshots and rollback: over HTTP, by command, of a running server and of a stopped one."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from online.core.home import Home
from online.scoring.plan import ScoringPlan
from tests.support.rows import TARGET, stream_rows
from tests.support.running import Server, serving, until

ROOT = Path(__file__).parent.parent


def rollback(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``millrace rollback``."""
    return run("-m", "millrace", "rollback", "--home", str(home), *arguments)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"COLUMNS": "160", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, env=environ, check=False
    )


def teach(server: Server, factor: float, count: int = 60) -> None:
    """Learn labels that are `factor` times the truth."""
    rows, labels = stream_rows(server.home, count)
    full = [{**row, TARGET: factor * label} for row, label in zip(rows, labels, strict=True)]
    server.learn(full, wait=True)


def test_a_rollback_over_http_serves_the_old_model_from_the_next_prediction_on(server: Server) -> None:
    rows, _ = stream_rows(server.home, 50)
    old = server.predict(rows)
    teach(server, 3.0)
    taken = server.client.post("/snapshots").json()
    assert (taken["version"], taken["parent"]) == (2, 1)
    changed = server.predict(rows)
    assert changed["model_version"] == 2 and changed["predictions"] != old["predictions"]
    answer = server.client.post("/snapshots/rollback", json={"version": 1})
    assert (answer.status_code, answer.json()["version"], answer.json()["parent"]) == (201, 3, 1)
    back = server.predict(rows)
    assert (back["predictions"], back["model_version"]) == (old["predictions"], 3)
    listed = server.get("/snapshots")
    assert listed["active"] == 3
    assert [(s["version"], s["reason"]) for s in listed["snapshots"]] == [
        (3, "rollback"), (2, "request"), (1, "bootstrap"),
    ]  # fmt: skip
    teach(server, 1.0, 10)
    assert server.predict(rows)["predictions"] != back["predictions"]


@pytest.mark.server
def test_snapshots_come_every_so_many_labels_and_at_shutdown(home: Path) -> None:
    with serving(home, environ={"MILLRACE_LEARNER_SNAPSHOT_EVERY_LABELS": "50"}) as server:
        teach(server, 1.0, 120)
        until(lambda: server.get("/snapshots")["active"] >= 2, "a snapshot")
        teach(server, 1.0, 10)
        assert server.stop() == 0
    reasons = [json.loads(path.read_text())["reason"] for path in sorted((home / "models").glob("*.json"))]
    assert reasons[:2] == ["bootstrap", "labels"] and reasons[-1] == "shutdown"


@pytest.mark.server
def test_snapshots_come_every_so_many_minutes_in_which_something_was_learned(home: Path) -> None:
    with serving(home, environ={"MILLRACE_LEARNER_SNAPSHOT_EVERY_MINUTES": "0.0001"}) as server:
        teach(server, 1.0, 5)
        until(lambda: server.get("/snapshots")["snapshots"][0]["reason"] == "time", "a snapshot by time")


@pytest.mark.server
def test_a_snapshot_is_a_river_pipeline_for_anyone_with_this_package(home: Path) -> None:
    with serving(home) as server:
        rows, _ = stream_rows(home, 20)
        teach(server, 1.0)
        version = server.client.post("/snapshots").json()["version"]
        served = server.predict(rows)["predictions"]
    with (home / "models" / f"model_v{version}.pkl").open("rb") as file:
        pipeline = pickle.load(file)
    assert [pipeline.predict_one(row) for row in rows] == pytest.approx(served, rel=1e-9)


def test_the_command_lists_versions_and_rolls_back_a_running_server(server: Server) -> None:
    rows, _ = stream_rows(server.home, 20)
    old = server.predict(rows)["predictions"]
    teach(server, 3.0)
    server.client.post("/snapshots")
    done = rollback(server.home, "1")
    assert done.returncode == 0, done.stderr
    assert server.predict(rows)["predictions"] == old
    listed = rollback(server.home).stdout
    assert "rollback" in listed and "bootstrap" in listed and "served" in listed


@pytest.mark.server
def test_the_command_rolls_back_a_stopped_home(home: Path) -> None:
    with serving(home) as server:
        rows, _ = stream_rows(home, 20)
        old = server.predict(rows)["predictions"]
        teach(server, 3.0)
    done = rollback(home, "1")
    assert done.returncode == 0, done.stderr
    assert ScoringPlan.load(Home(home).plan).info.version == 3
    with serving(home) as server:
        reply = server.predict(rows)
        assert (reply["predictions"], reply["model_version"]) == (old, 3)


@pytest.mark.slow
def test_the_script_is_the_command(home: Path) -> None:
    by_script = run(str(ROOT / "scripts" / "rollback.py"), "--home", str(home))
    assert (by_script.returncode, by_script.stdout) == (0, rollback(home).stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("version", "words"), [("9", "no model_v9"), ("0", "no model_v0")])
def test_a_version_that_is_not_there_is_named(home: Path, version: str, words: str) -> None:
    done = rollback(home, version)
    assert done.returncode == 1 and words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_version_is_refused_before_anything_changes(server: Server) -> None:
    path = server.home / "models" / "model_v1.pkl"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    answer = server.client.post("/snapshots/rollback", json={"version": 1})
    assert answer.status_code == 404 and "sha256" in answer.json()["detail"]
    assert server.client.post("/snapshots/rollback", json={"version": 7}).status_code == 404
    assert server.get("/model")["journal_seq"] == 0


@pytest.mark.parametrize("body", [{}, {"version": "x"}, {"version": 1, "more": 2}])
def test_a_wrong_rollback_body_is_a_problem(shared_server: Server, body: Any) -> None:
    answer = shared_server.client.post("/snapshots/rollback", json=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.server
def test_with_an_admin_key_only_its_holder_changes_what_is_served(home: Path) -> None:
    with serving(home, environ={"MILLRACE_SERVER_ADMIN_KEY": "secret"}) as server:
        post = server.client.post
        assert post("/snapshots").status_code == 401
        assert post("/snapshots", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert post("/snapshots", headers={"Authorization": "Bearer secret"}).status_code == 201
        assert post("/quarantine/1/release").status_code == 401


def test_a_page_of_another_origin_is_no_operator(shared_server: Server) -> None:
    answer = shared_server.client.post("/snapshots", headers={"Origin": "http://elsewhere.example"})
    assert answer.status_code == 403


@pytest.mark.slow
def test_a_rollback_needs_no_models_folder_and_no_whole_advert(home: Path) -> None:
    (home / "data" / "server.json").write_text("torn")
    assert rollback(home, "1").returncode == 0
    shutil.rmtree(home / "models")
    done = rollback(home, "1")
    assert done.returncode == 1 and "no model_v1" in done.stderr and "Traceback" not in done.stderr
