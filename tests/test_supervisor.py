"""The processes of a server: killed, restarted, stopped."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.rows import TARGET, stream_rows
from tests.support.running import Server, serving, until


class Traffic:
    """A client that predicts and labels until told to stop, and remembers every answer."""

    def __init__(self, server: Server) -> None:
        self.rows, self.labels = stream_rows(server.home, 300)
        self.url = server.url
        self.statuses: list[int] = []
        self.accepted: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def has_labelled_more_than(self, count: int) -> bool:
        return len(self.accepted) > count

    def _run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60.0) as client:
            count = 0
            while not self._stop.is_set():
                row, label = self.rows[count % 300], self.labels[count % 300]
                count += 1
                answer = client.post("/predict", json=row)
                self.statuses.append(answer.status_code)
                name = answer.json()["id"]
                taken = client.post("/learn", json={"id": name, TARGET: label})
                self.statuses.append(taken.status_code)
                if taken.json()["accepted"]:
                    self.accepted.append(name)


def test_predictions_never_fail_while_the_learner_is_killed_and_learning_goes_on(server: Server) -> None:
    with Traffic(server) as traffic:
        for _ in range(3):
            enough = len(traffic.accepted) + 20
            until(functools.partial(traffic.has_labelled_more_than, enough), "labels")
            old = server.kill("learner")
            until(functools.partial(server.replaced, "learner", old), "a new learner")
        until(lambda: server.ready(), "the learner's word")
    assert set(traffic.statuses) == {200, 202}
    report = until(lambda: caught_up(server), "the learner to catch up")
    assert report["journal_seq"] == len(traffic.accepted)
    assert len(server.get(f"/predictions/{traffic.accepted[-1]}")["label"]["experts"]) == len(
        report["experts"]
    )


def caught_up(server: Server) -> Any:
    """The report once every label is learned."""
    report = server.get("/model")
    return report if report["learned_seq"] == report["journal_seq"] else None


@pytest.mark.server
def test_labels_are_accepted_durably_while_there_is_no_learner(home: Path) -> None:
    rows, labels = stream_rows(home, 30)
    with serving(home) as server:
        ids = server.predict(rows)["ids"]
        server.stop()
    scorer = Roles(home, "scorer")
    try:
        body = [{"id": name, TARGET: label} for name, label in zip(ids, labels, strict=True)]
        answer = httpx.post(f"{scorer.url}/learn", json=body, timeout=30.0)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 30)
        assert httpx.post(f"{scorer.url}/predict", json=rows[0]).json()["learned_seq"] == 0
    finally:
        assert scorer.stop() == 0
    with serving(home) as server:
        until(lambda: server.get("/model")["learned_seq"] == 30, "the labels to be learned")


class Roles:
    """One role of a server, as a container runs it."""

    def __init__(self, home: Path, role: str) -> None:
        command = [
            sys.executable,
            "-m",
            "millrace",
            "serve",
            "--home",
            str(home),
            "--role",
            role,
            "--port",
            "0",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[1]
        until(self.ready, "the role to answer")

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return httpx.get(f"{self.url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.mark.server
def test_for_a_torn_or_lost_plan_the_one_before_stands_in(home: Path) -> None:
    rows, labels = stream_rows(home, 5)
    with serving(home) as server:
        server.learn([{**row, TARGET: label} for row, label in zip(rows, labels, strict=True)], wait=True)
    plan = home / "models" / "plan.safetensors"
    for spoil in (lambda: plan.write_bytes(plan.read_bytes()[:2000]), plan.unlink):
        spoil()
        scorer = Roles(home, "scorer")
        try:
            answer = httpx.post(f"{scorer.url}/predict", json=rows[0])
            assert answer.status_code == 200 and answer.json()["learned_seq"] <= 5
        finally:
            assert scorer.stop() == 0


def test_a_killed_scorer_and_a_killed_monitor_come_back(server: Server) -> None:
    for role in ("scorer", "monitor"):
        old = server.kill(role)
        until(functools.partial(server.replaced, role, old), f"a new {role}")
    until(server.ready, "the scorer to answer")
    until(lambda: answers(server.monitor_url), "the monitor to answer")


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel knows no autogroups")
def test_what_answers_goes_before_what_learns_and_watches_also_between_sessions(server: Server) -> None:
    for role, more in (("scorer", 0), ("label-worker", 5), ("monitor", 5), ("learner", 10), ("watcher", 15)):
        for pid in server.pids(role):
            until(functools.partial(has_niceness, pid, more), f"the {role} to be {more} nice")
    (scorer,) = server.pids("scorer")
    own = os.getpriority(os.PRIO_PROCESS, scorer)
    behind = [int(one.name) for one in Path(f"/proc/{scorer}/task").iterdir() if int(one.name) != scorer]
    assert any(os.getpriority(os.PRIO_PROCESS, thread) == own + 5 for thread in behind)


def test_a_label_worker_that_was_started_again_is_as_nice_as_the_first(server: Server) -> None:
    (scorer,) = server.pids("scorer")
    rows, labels = stream_rows(server.home, 1)
    (first,) = server.pids("label-worker")
    wanted = os.getpriority(os.PRIO_PROCESS, scorer) + 5
    until(lambda: os.getpriority(os.PRIO_PROCESS, first) == wanted, "the first to be nice")
    server.kill("label-worker")
    until(
        lambda: server.client.post("/learn", json={**rows[0], TARGET: labels[0]}).is_success,
        "a new label worker",
    )
    (second,) = server.pids("label-worker")
    assert second != first and os.getpriority(os.PRIO_PROCESS, second) == wanted


def niceness_of(pid: int) -> int:
    """How nice a process's session is."""
    return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])


def has_niceness(pid: int, niceness: int) -> bool:
    return niceness_of(pid) == niceness


def answers(url: str) -> bool:
    """Whether a page answers."""
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.server
def test_when_the_supervisor_is_killed_its_children_end_and_the_next_start_works(home: Path) -> None:
    rows, labels = stream_rows(home, 10)
    server = Server(home)
    ids = server.predict(rows)["ids"]
    server.learn([{"id": name, TARGET: label} for name, label in zip(ids, labels, strict=True)])
    server.crash()
    (home / "data" / "server.json").unlink(missing_ok=True)
    with serving(home) as again:
        until(lambda: again.get("/model")["learned_seq"] == 10, "the labels to be learned")


@pytest.mark.server
def test_sigterm_snapshots_and_exits_with_0(home: Path) -> None:
    server = Server(home)
    rows, labels = stream_rows(home, 5)
    server.learn([{**row, TARGET: label} for row, label in zip(rows, labels, strict=True)], wait=True)
    assert server.stop() == 0
    assert (home / "models" / "model_v2.json").exists()
    assert not (home / "data" / "server.json").exists()
    assert "Traceback" not in server.log()


@pytest.mark.server
def test_several_homes_are_served_at_once(home: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(home, tmp_path / "other"))
    with serving(home) as first, serving(other) as second:
        rows, labels = stream_rows(home, 10)
        first.learn([{**row, TARGET: label} for row, label in zip(rows, labels, strict=True)], wait=True)
        assert (first.get("/model")["learned_seq"], second.get("/model")["learned_seq"]) == (10, 0)


@pytest.mark.server
def test_several_workers_serve_the_same_plan_and_their_metrics_add_up(home: Path) -> None:
    with serving(home, "--workers", "2") as server:
        assert len(server.pids("scorer")) == 2
        rows, labels = stream_rows(home, 10)
        server.learn([{**row, TARGET: label} for row, label in zip(rows, labels, strict=True)], wait=True)
        asked: list[int] = []

        def learned() -> int:
            asked.append(1)
            seq: int = server.predict(rows[0], headers={"Connection": "close"})["learned_seq"]
            return seq

        until(lambda: {learned() for _ in range(8)} == {10}, "both")
        until(lambda: {predictions_counted(server) for _ in range(6)} == {len(asked)}, "all to be counted")
        for _ in range(20):
            learned()
        until(lambda: {predictions_counted(server) for _ in range(6)} == {len(asked)}, "all to be counted")


def predictions_counted(server: Server) -> float:
    """millrace_predictions_total, from whichever worker answers."""
    lines = server.client.get("/metrics", headers={"Connection": "close"}).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("millrace_predictions_total"))


@pytest.mark.slow
def test_a_taken_port_and_a_missing_model_are_told_in_one_line(home: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(home, "--port", str(port))
        assert done.returncode == 1 and str(port) in done.stderr and "Traceback" not in done.stderr
    done = serve(tmp_path / "empty")
    assert done.returncode == 1 and "millrace bootstrap" in done.stderr and "Traceback" not in done.stderr


def serve(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`millrace serve`, expected to end by itself."""
    command = [sys.executable, "-m", "millrace", "serve", "--home", str(home), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.server
def test_a_damaged_ledger_or_history_is_set_aside_and_a_second_server_of_a_home_is_refused(
    home: Path,
) -> None:
    for name in ("ledger.db", "history.db"):
        (home / "data" / name).write_bytes(b"no database" * 100)
    rows, labels = stream_rows(home, 1)
    with serving(home, "--workers", "2") as server:
        name = server.predict(rows[0])["id"]
        assert server.learn({"id": name, TARGET: labels[0]}, wait=True)["accepted"] == 1
        assert (home / "data" / "ledger.db.damaged").exists() and (
            home / "data" / "history.db.damaged"
        ).exists()
        advert = (home / "data" / "server.json").read_bytes()
        done = serve(home, "--port", "0", "--monitor-port", "0")
        assert done.returncode == 1 and "already" in done.stderr and "Traceback" not in done.stderr
        assert (home / "data" / "server.json").read_bytes() == advert
        assert "Traceback" not in server.log() and "started again" not in server.log()


@pytest.mark.slow
def test_edited_features_and_a_damaged_journal_are_told_in_one_line(home: Path) -> None:
    settings = (home / "millrace.toml").read_text()
    (home / "millrace.toml").write_text(settings.replace('stream = "energy"', 'stream = "other"'))
    done = serve(home, "--port", "0", "--monitor-port", "0")
    assert done.returncode == 1 and "undo the edit" in done.stderr and "Traceback" not in done.stderr
    (home / "millrace.toml").write_text(settings)
    (home / "data" / "journal.db").write_bytes(b"no database" * 100)
    done = serve(home, "--port", "0", "--monitor-port", "0")
    assert done.returncode == 1 and "journal.db" in done.stderr and "Traceback" not in done.stderr
