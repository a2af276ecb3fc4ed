"""Replay: the same model again, or one that never learned the chosen labels, compared fairly and put live."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from online.core.errors import InputError, SnapshotError
from online.learning.fold import Fold
from online.learning.replay_engine import Replay
from online.storage.records import Record
from online.storage.snapshot import Provenance
from tests.support.rows import TARGET, stream_rows
from tests.support.running import Server, serving, until
from tests.test_fold import Site, copied, same_model


def run(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`millrace replay`."""
    command = [sys.executable, "-m", "millrace", "replay", "--home", str(home), *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=280, env=os.environ | {"COLUMNS": "160"}
    )


def replayed(site: Site, version: int = 1, without: Any = (), **options: Any) -> Replay:
    loaded = site.store.load(version)
    fold = Fold(loaded.pipeline, loaded.state, lambda number: site.store.load(number).pipeline)
    journal = site.journal()
    found = Replay(fold, journal, without, **options)
    for _ in found.run(journal.last_seq()):
        pass
    journal.close()
    return found


def lived(site: Site) -> list[Record]:
    """Labels late and out of order, a snapshot and a rollback on the way; the journal."""
    with site.learner() as learner:
        site.feed(60)
        learner.catch_up()
        late = site.serve(30)
        site.feed(30)
        site.append_command("snapshot")
        learner.catch_up()
        site.label([{"id": one.id, TARGET: 9.0} for one in reversed(late)])
        site.append_command("rollback", version=2)
        site.feed(30)
        learner.catch_up()
    return site.records()


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_a_replay_says_of_every_row_what_was_served_and_ends_at_the_live_model(
    home: Path, version: int
) -> None:
    site = Site(home)
    lived(site)
    found = replayed(site, version)
    report = found.comparison()
    assert report.labels == (150 if version == 1 else 30) and report.left_out == 0
    assert report.replayed == pytest.approx(report.served, rel=1e-9)
    for row in site.rows[:50]:
        assert found.fold.pipeline.predict_one(row) == pytest.approx(site.plan().score_row(row), rel=1e-9)


@pytest.mark.slow
def test_labels_left_out_are_neither_learned_nor_compared(home: Path, tmp_path: Path) -> None:
    clean = Site(home)
    site = copied(clean, tmp_path / "poisoned")
    for one, poison in ((clean, False), (site, True)):
        with one.learner() as learner:
            served = one.serve(80)
            labels = [{"id": s.id, TARGET: y} for s, y in zip(served, one.labels, strict=False)]
            spoiled = [{"id": s.id, TARGET: 0.0} for s in served[40:60]]
            one.label(labels[:40] + (spoiled if poison else []) + labels[60:])
            learner.catch_up()
    found = replayed(site, without=range(41, 61), changed=True)
    assert (found.comparison().labels, found.comparison().left_out) == (60, 20)
    rows = clean.rows[:50]
    wanted = [clean.plan().score_row(row) for row in rows]
    assert [found.fold.pipeline.predict_one(row) for row in rows] == pytest.approx(wanted, rel=1e-9)
    assert [site.plan().score_row(row) for row in rows] != pytest.approx(wanted, rel=1e-3)


def test_labels_are_chosen_by_an_expression_of_the_journals_columns(home: Path) -> None:
    site = Site(home)
    site.feed(30)
    journal = site.journal()
    source = site.rows[0]["Source"]
    wanted = {n for n, row in enumerate(site.rows[:30], start=1) if row["Source"] == source}
    assert journal.labels_where(f"features->>'Source' = '{source}'") == wanted
    assert journal.labels_where("seq between 3 and 5 or target < -1e30") == {3, 4, 5}
    for wrong in ("no_such_column = 1", "1; DROP TABLE journal", "1) ; DELETE FROM journal --", "("):
        with pytest.raises(InputError, match="cannot be asked"):
            journal.labels_where(wrong)
    assert journal.last_seq() == 30
    journal.close()


@pytest.mark.slow
def test_the_result_goes_live_in_a_stopped_home_through_the_journal(home: Path, tmp_path: Path) -> None:
    site = Site(home)
    with site.learner() as learner:
        site.feed(60)
        learner.catch_up()
    done = run(home, "--from", "1", "--without", "11-30", "--live")
    assert done.returncode == 0, done.stderr
    assert "40 labels compared, 20 left out" in done.stdout and "model_v4 is live" in done.stdout
    wanted = replayed(site, without=range(11, 31), changed=True).fold.pipeline
    for row in site.rows[:50]:
        assert site.plan().score_row(row) == pytest.approx(wanted.predict_one(row), rel=1e-9)
    assert [(m.version, m.parent, m.reason) for m in site.store.manifests()] == [
        (4, 3, "adopted"), (3, 1, "replay"), (2, 1, "shutdown"), (1, None, "bootstrap"),
    ]  # fmt: skip
    again = copied(site, tmp_path / "again")
    for version in (2, 4):
        again.store.remove(version)
    with again.learner() as learner:  # from the journal alone, the adoption included
        assert learner.seq == 0
        learner.catch_up()
    same_model(site, again)


@pytest.mark.server
def test_the_result_goes_live_in_a_running_server_and_no_label_is_missed(home: Path) -> None:
    with serving(home) as server:
        rows, labels = stream_rows(home, 60)
        body = [{**row, TARGET: label} for row, label in zip(rows, labels, strict=True)]
        server.learn(body[:20], wait=True)
        server.learn([{**row, TARGET: 0.0} for row in rows[20:30]], wait=True)
        server.learn(body[30:50], wait=True)
        done = run(home, "--from", "1", "--where", "target = 0 and seq between 21 and 30", "--live")
        assert done.returncode == 0, done.stderr
        report = server.get("/model")
        assert report["model_version"] == server.get("/snapshots")["active"] >= 3
        assert server.get("/snapshots")["snapshots"][0]["reason"] == "adopted"
        server.learn(body[50:], wait=True)
        assert server.stop() == 0
    assert Site(home).store.manifests()[0].seq == 61


@pytest.mark.slow
def test_a_model_of_another_river_is_refused_with_the_command_that_rebuilds_it(home: Path) -> None:
    site = Site(home)
    with site.learner() as learner:
        site.feed(40)
        learner.catch_up()
    for version in site.store.versions():
        path = site.home.models / f"model_v{version}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"river": "0.99.0"}))
    with pytest.raises(SnapshotError, match=r"millrace replay --from 1 --pipeline millrace\.toml --live"):
        site.store.load(1)
    done = run(home, "--from", "1", "--pipeline", str(home / "millrace.toml"), "--live")
    assert done.returncode == 0, done.stderr
    with site.learner() as learner:
        assert (learner.seq, learner.version) == (41, 4)
    assert "40 labels compared" in done.stdout


@pytest.mark.slow
def test_what_cannot_be_replayed_is_told_in_one_line(home: Path) -> None:
    Site(home).feed(5)
    for options, words in (
        (("--from", "9"), "no model_v9"),
        (("--without", "some"), "give a journal seq"),
        (("--where", "nothing ="), "cannot be asked"),
        (("--until", "-3"), "--until -3"),
    ):
        done = run(home, *options)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done


def test_a_candidate_that_was_never_ordered_is_not_what_a_learner_starts_from(server: Server) -> None:
    site = Site(server.home)
    loaded = site.store.load(1)
    site.store.save(
        loaded.pipeline,
        loaded.state,
        loaded.state.probe,
        Provenance(site.config.schema, 0, 1, "replay", 1.0, {}),
    )
    old = server.kill("learner")
    until(lambda: server.pids("learner") not in ([], [old]), "a new learner")
    rows, labels = stream_rows(server.home, 1)
    server.learn({**rows[0], TARGET: labels[0]}, wait=True)
    assert server.predict(rows[0])["model_version"] == 1
