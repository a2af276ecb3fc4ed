"""What is kept of snapshots, journal and ledger, and that what went is said and never learned again."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online.core.config import Config, LedgerConfig, RetentionConfig
from online.core.errors import JournalError, SnapshotError
from online.core.schema import Feature, Schema, Target
from online.learning.learner import Learner
from online.learning.retention import versions_to_keep
from online.storage.journal import Journal
from online.storage.prediction_log import PredictionLog, Served
from online.storage.records import Submission
from online.storage.snapshot import Manifest, SnapshotStore
from tests.support.rows import TARGET
from tests.support.running import serving
from tests.test_fold import Site

DAY = 86_400.0


@pytest.fixture(scope="module")
def manifest(trained_home: Path) -> Manifest:
    return SnapshotStore(trained_home / "models").manifest(1)


@given(
    times=st.lists(st.floats(0, 40 * DAY), min_size=1, max_size=40).map(sorted),
    last=st.integers(1, 8), daily=st.integers(0, 8), pinned=st.sets(st.integers(1, 40), max_size=4),
)  # fmt: skip
def test_the_last_the_daily_and_the_pinned_are_chosen_and_no_others(
    manifest: Manifest, times: list[float], last: int, daily: int, pinned: set[int]
) -> None:
    taken = [
        msgspec.structs.replace(manifest, version=version, created_at=at)
        for version, at in enumerate(times, start=1)
    ][::-1]
    kept = versions_to_keep(taken, pinned, RetentionConfig(last, daily))
    assert {one.version for one in taken[:last]} | pinned <= kept
    days = sorted({int(at // DAY) for at in times}, reverse=True)[:daily]
    for day in days:
        assert max(one.version for one in taken if int(one.created_at // DAY) == day) in kept
    assert len(kept) <= last + daily + len(pinned)


def keeping(site: Site, **settings: float) -> Config:
    retention = RetentionConfig(**settings)  # type: ignore[arg-type]
    return msgspec.structs.replace(site.config, retention=retention)


@pytest.mark.slow
def test_old_snapshots_go_and_what_a_replay_passes_stays(home: Path, tmp_path: Path) -> None:
    site = Site(home)
    site.config = keeping(site, snapshots_last=2, snapshots_daily=0)
    with site.learner() as learner:
        for _ in range(5):
            site.feed(10)
            site.append_command("snapshot")
            learner.catch_up()
        assert site.store.versions() == [1, 2, 5, 6]  # the guard is still proving model_v2
        site.store.pin(5)
        site.append_command("rollback", version=5)
        for _ in range(2):
            site.feed(10)
            site.append_command("snapshot")
            learner.catch_up()
        assert site.store.versions() == [1, 5, 7, 8, 9]  # the guard compares with model_v7
        site.store.pin(5, keep=False)
        site.feed(10)
        site.append_command("snapshot")
        learner.catch_up()
        assert site.store.versions() == [1, 7, 8, 9, 10]
        assert not list(site.home.models.glob("model_v5*"))
    wanted = site.plan().score_row(site.rows[0])
    again = Site(Path(shutil.copytree(site.home.root, tmp_path / "again")))
    again.forget(9)
    with again.learner() as learner:
        learner.catch_up()
    assert again.plan().score_row(site.rows[0]) == wanted


@pytest.mark.slow
def test_a_replay_from_a_kept_snapshot_finds_the_version_a_rollback_named(home: Path) -> None:
    site = Site(home)
    site.config = keeping(site, snapshots_last=4, snapshots_daily=0)
    with site.learner() as learner:
        site.feed(10)
        site.append_command("snapshot")
        learner.catch_up()  # model_v2
        for _ in range(3):
            site.feed(10)
            site.append_command("snapshot")
            learner.catch_up()
        site.append_command("rollback", version=2)
        learner.catch_up()  # model_v6
        site.feed(10)
        site.append_command("snapshot")
        learner.catch_up()
        assert site.store.versions() == [1, 2, 4, 5, 6, 7]  # model_v2 is needed by a replay from model_v4


def test_the_journal_is_cut_behind_the_oldest_snapshot_and_what_was_cut_is_still_known(home: Path) -> None:
    site = Site(home)
    site.config = keeping(site, snapshots_last=2, snapshots_daily=0, journal_records=5)
    with site.learner() as learner:
        served = site.feed(40)
        site.append_command("snapshot")
        site.feed(40)
        site.append_command("snapshot")
        learner.catch_up()
        journal = site.journal()
        assert journal.cut_up_to() == 41
        with pytest.raises(JournalError, match="records up to 41 were cut"):
            journal.read(0)
        assert [record.seq for record in journal.read(41)] == list(range(42, 83))
        first = site.label([{"id": served[0].id, TARGET: site.labels[0]}])
        assert (first[0].status, first[0].seq) == ("duplicate", 1)
        (other,) = site.label([{"id": served[0].id, TARGET: site.labels[0] + 5.0}])
        assert other.status == "quarantined" and "too old" in (other.reason or "")
        journal.close()
        learner.catch_up()
    for version in site.store.versions()[1:]:
        site.store.remove(version)
    with pytest.raises(JournalError, match="records up to 41 were cut"), site.learner() as learner:
        learner.catch_up()


def test_the_journal_is_cut_by_age_and_never_ahead_of_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", "s")
    journal.append([Submission(float(n), float(n), f"a-{n}", {"wind": n}) for n in range(20)])
    assert journal.cut(15, 10.0, 4) == 4
    assert [journal.cut(15, 10.0, 4) for _ in range(3)] == [4, 2, 0]
    assert (journal.cut_up_to(), journal.cut(15, 99.0, 100), journal.cut_up_to()) == (10, 5, 15)
    assert [record.seq for record in journal.read(15)] == [16, 17, 18, 19, 20]


def test_expired_predictions_leave_the_ledger(tmp_path: Path) -> None:
    schema = Schema("s", Target("y", 0, 100), (Feature("wind", "numeric"),))
    ledger = PredictionLog(
        tmp_path / "ledger.db", schema, LedgerConfig(1000, days=2.0, flush_seconds=60.0, max_queued=1000)
    )
    for day in range(5):
        ledger.record([Served(f"p{day}", day * DAY, {"wind": 1}, {}, (), 0.0, 0.0, 0.0, (), (), 1, 0)])
        ledger.flush()
    assert sorted(ledger.find([f"p{day}" for day in range(5)])) == ["p2", "p3", "p4"]
    ledger.close()


@pytest.mark.server
def test_a_version_is_pinned_over_http_and_told_as_pinned(home: Path) -> None:
    with serving(home) as server:
        assert server.client.post("/snapshots/1/pin").json() == {"version": 1, "pinned": True}
        assert [one["pinned"] for one in server.get("/snapshots")["snapshots"]] == [True]
        assert server.client.post("/snapshots/1/unpin").json() == {"version": 1, "pinned": False}
        assert server.client.post("/snapshots/9/pin").status_code == 404
    with pytest.raises(SnapshotError, match="no model_v9"):
        SnapshotStore(home / "models").pin(9)


def test_a_folder_that_cannot_be_changed_keeps_its_snapshots_and_learning_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(home)
    site.config = keeping(site, snapshots_last=1, snapshots_daily=0)

    def refused(_: SnapshotStore, version: int) -> None:
        raise SnapshotError(f"model_v{version} cannot be removed: read-only")

    monkeypatch.setattr(SnapshotStore, "remove", refused)
    with Learner(site.home, site.config, site.clock) as learner:
        for _ in range(3):
            site.feed(10)
            site.append_command("snapshot")
            learner.catch_up()
        assert learner.seq == 33
    assert site.store.versions() == [1, 2, 3, 4] and "cannot be removed" in caplog.text
