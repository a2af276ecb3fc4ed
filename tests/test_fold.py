"""The model is a fold over the journal: replayed, restored or rolled back, it is the same to the last bit."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import pickle
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online.core.config import Config, LedgerConfig, ModelConfig, load
from online.core.errors import JournalError, LockError, SchemaError, SnapshotError
from online.core.home import Home
from online.features.row_encoder import RowEncoder
from online.labels.ingest import LabelIngest
from online.labels.label_joiner import InlineLabelStore, LabelJoiner
from online.learning.fold import Fold, FoldState
from online.learning.learner import Learner
from online.learning.prequential import Prequential
from online.model.pipeline import POOL, build_pipeline
from online.scoring.compile_plan import compile_plan
from online.scoring.plan import ScoringPlan
from online.scoring.scorer import PlanWatch, Scorer
from online.storage.journal import Journal
from online.storage.label_validation import LabelValidator
from online.storage.metrics_store import MetricsStore, Outcome
from online.storage.prediction_log import PredictionLog, Served
from online.storage.records import LABELS, Receipt, Record, to_row
from online.storage.snapshot import Provenance, SnapshotStore
from tests.support.rows import TARGET, stream_rows

ROOT = Path(__file__).resolve().parents[1]


class Site:
    """A home with everything around its learner, as a server has it."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.config = load(self.home.config, {})
        self.store = SnapshotStore(self.home.models)
        self.rows, self.labels = stream_rows(root, 600)
        self.next = 0
        self.now = 1000.0

    def clock(self) -> float:
        self.now += 0.25
        return self.now

    def learner(self) -> Learner:
        return Learner(self.home, self.config, self.clock)

    def serve(self, count: int) -> list[Served]:
        """Score the next rows with the plan now published, and note them in the ledger."""
        watch = PlanWatch(self.home.plan, 3600.0)
        served = Scorer(watch, self.clock).score(self.rows[self.next : self.next + count])
        watch.close()
        ledger = self.ledger()
        ledger.record(served)
        ledger.close()
        self.next += count
        return served

    def ledger(self) -> PredictionLog:
        return PredictionLog(
            self.home.ledger,
            self.config.schema,
            LedgerConfig(10_000, flush_seconds=0.01, max_queued=10_000),
        )

    def journal(self) -> Journal:
        watch = LabelValidator(self.config.schema, self.config.quarantine)
        return Journal(self.home.journal, self.config.stream, watch)

    def label(self, rows: list[dict[str, Any]]) -> list[Receipt]:
        ledger = self.ledger()
        joiner = LabelJoiner(self.config.schema, self.journal, ledger)
        ingest = LabelIngest(self.config.schema, InlineLabelStore(joiner), self.clock, predictions=ledger)
        receipts = ingest.accept(ingest.validate(rows)).result(30)
        ingest.close()
        ledger.close()
        return receipts

    def feed(self, count: int) -> list[Served]:
        """Serve rows, then take in their labels."""
        labels = self.labels[self.next : self.next + count]
        served = self.serve(count)
        self.label([{"id": one.id, TARGET: y} for one, y in zip(served, labels, strict=True)])
        return served

    def append_command(self, kind: Any, **payload: Any) -> int:
        journal = self.journal()
        seq = journal.append_command(kind, self.clock(), **payload)
        journal.close()
        return seq

    def records(self) -> list[Record]:
        journal = self.journal()
        records = journal.read(0, 10_000)
        journal.close()
        return records

    def plan(self) -> ScoringPlan:
        return ScoringPlan.load(self.home.plan)

    def history(self) -> MetricsStore:
        return MetricsStore(self.home.history)

    def forget(self, version: int) -> None:
        """Remove every snapshot after a version, and the plan: what a replay has to come back to."""
        for found in self.store.versions():
            if found > version:
                for suffix in ("pkl", "json"):
                    (self.home.models / f"model_v{found}.{suffix}").unlink()
        self.home.plan.unlink()
        for path in self.home.data.glob("history.db*"):
            path.unlink()


@pytest.fixture
def site(home: Path) -> Site:
    return Site(home)


def copied(site: Site, to: Path) -> Site:
    return Site(Path(shutil.copytree(site.home.root, to)))


def sameness(plan: ScoringPlan) -> Any:
    """All a plan scores by: two plans with the same of this score every row the same."""
    info = msgspec.structs.replace(plan.info, version=0)
    return info, {name: (array.shape, array.tobytes()) for name, array in plan.arrays.items()}


def random_rows(site: Site, count: int = 200) -> list[dict[str, Any]]:
    rng = random.Random(3)
    rows = []
    for _ in range(count):
        row = {name: rng.choice(site.rows)[name] for name in site.rows[0]}
        row |= {
            name: rng.choice([None, math.nan, "?", 1e9]) for name in rng.sample(sorted(row), rng.randrange(3))
        }
        rows.append(row)
    return rows


def same_model(site: Site, other: Site) -> None:
    assert sameness(site.plan()) == sameness(other.plan())
    rows = random_rows(site)
    assert [site.plan().score_row(row) for row in rows] == [other.plan().score_row(row) for row in rows]


# What a process of its own does in a home, so that it can have another hash seed, and be killed

CHILD = """
import sys
from pathlib import Path
from tests.test_fold import Site
site = Site(Path(sys.argv[1]))
"""
CATCH_UP = (
    CHILD
    + """
with site.learner() as learner:
    learner.catch_up()
    print(learner.seq)
"""
)
LEARN_AND_HANG = (
    CHILD
    + """
learner = site.learner().__enter__()
while True:
    learner.step()
    print(learner.seq, flush=True)
"""
)


def child(script: str, site: Site, hash_seed: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(site.home.root)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, env=os.environ | {"PYTHONHASHSEED": hash_seed},
    )  # fmt: skip


def test_predictions_one_by_one_and_together_are_found_each_as_it_was_served(site: Site) -> None:
    watch, ledger = PlanWatch(site.home.plan, 3600.0), site.ledger()
    scorer = Scorer(watch, site.clock)
    parts = [site.rows[at : at + 1] for at in range(40)] + [site.rows[40:60]]
    parts += [site.rows[at : at + 1] for at in range(60, 65)]
    given = []
    for rows in parts:
        scored = scorer.serve(rows)
        ledger.record(scored)
        given += scored.served()
    ledger.flush()
    found = ledger.find([one.id for one in given])
    ledger.close()
    watch.close()
    assert found == {one.id: one for one in given}
    assert len({one.served_at for one in given}) == len(parts)


@pytest.mark.slow
def test_the_learner_does_not_load_trees_that_are_off() -> None:
    script = "import sys, online.learning.learner; sys.exit('river.tree' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


# Replay


def lived_through(site: Site) -> int:
    """Labels with all there is to them, and a snapshot on the way; that snapshot's version."""
    with site.learner() as learner:
        site.feed(150)
        learner.catch_up()
        site.append_command("snapshot")
        learner.catch_up()
        version = learner.version
        served = site.feed(100)
        learner.catch_up()
        site.label([{"id": one.id, TARGET: one.prediction * 1.1 + 1.0} for one in served[:20]])  # corrections
        site.label([{"id": served[3].id, TARGET: 1e25}])  # quarantined
        late = site.serve(30)
        site.label([row | {TARGET: 7.0} for row in site.rows[400:420]])  # never served
        learner.catch_up()
        site.label([{"id": one.id, TARGET: 3.0} for one in reversed(late)])
        journal = site.journal()
        journal.release(1, site.clock())
        journal.close()
        learner.catch_up()
    return version


@pytest.mark.slow
def test_snapshot_and_the_records_after_it_give_the_model_that_lived_through_them(
    site: Site, tmp_path: Path
) -> None:
    version = lived_through(site)
    kinds = [record.kind for record in site.records()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"label": 300, "correction": 21, "snapshot": 1}
    replayed = copied(site, tmp_path / "replayed")
    replayed.forget(version)
    process = child(CATCH_UP, replayed, "77")
    output, _ = process.communicate(timeout=240)
    assert (process.returncode, output.split()) == (0, [str(len(kinds))])
    same_model(site, replayed)
    live, again = (s.store.load(s.store.versions()[-1]) for s in (site, replayed))
    assert live.manifest.seq == again.manifest.seq == len(kinds)
    assert live.manifest.probe == again.manifest.probe
    assert live.manifest.metrics == again.manifest.metrics
    # what does not show in a plan yet, such as random states, shows in what is learned next
    rng = random.Random(5)
    for row in random_rows(site):
        y = rng.uniform(0, 3000)
        live.pipeline.learn_one(row, y)
        again.pipeline.learn_one(row, y)
        assert live.pipeline.predict_one(row) == again.pipeline.predict_one(row)


@pytest.mark.slow
def test_replay_from_the_first_model_gives_the_same_model_and_history(site: Site, tmp_path: Path) -> None:
    lived_through(site)
    replayed = copied(site, tmp_path / "replayed")
    replayed.forget(1)
    with replayed.learner() as learner:
        learner.catch_up()
    same_model(site, replayed)
    for wanted, found in zip(histories(site), histories(replayed), strict=True):
        assert wanted == found


@pytest.mark.slow
def test_records_taken_in_together_leave_the_model_they_leave_one_by_one(site: Site) -> None:
    lived_through(site)
    records = site.records()

    def model(size: int) -> tuple[bytes, list[float]]:
        """The plan after records taken in so many at a time, and what is said after some more labels."""
        loaded = site.store.load(1)
        fold = Fold(loaded.pipeline, loaded.state, lambda _: loaded.pipeline)
        for first in range(0, len(records), size):
            part = records[first : first + size]
            fold.prepare_batch([one for one in part if one.kind in LABELS])
            with fold.batched():
                for record in part:
                    fold.apply(record)
        interval = fold.state.interval
        plan = compile_plan(fold.pipeline, site.config.schema, version=1, seq=1, interval=interval)
        rng, said = random.Random(5), []
        for row in random_rows(site):
            fold.learn(row, rng.uniform(0, 3000))
            said.append(fold.predict(row).prediction)
        return plan.dumps(), said

    one_by_one = model(1)
    for size in (2, 7, 50, len(records)):
        assert model(size) == one_by_one


def histories(site: Site) -> Iterator[Any]:
    history = site.history()
    status = history.status()
    yield status["prequential"]
    yield status["experts"]
    yield history.outcomes(1000, 1000)
    yield history.alarms()
    history.close()


@pytest.mark.slow
def test_restarting_at_every_step_changes_nothing(site: Site, tmp_path: Path) -> None:
    restarted = copied(site, tmp_path / "restarted")
    site.feed(160)
    shutil.copytree(site.home.data, restarted.home.data, dirs_exist_ok=True)
    with site.learner() as learner:
        learner.catch_up()
    for _ in range(4):
        with restarted.learner() as learner:
            learner.step()
    assert len(restarted.store.versions()) > 2
    same_model(site, restarted)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2])
def test_a_learner_killed_at_work_learns_every_label_once_when_it_is_back(
    site: Site, tmp_path: Path, steps: int
) -> None:
    site.feed(300)
    killed = copied(site, tmp_path / "killed")
    with site.learner() as learner:
        learner.catch_up()
    process = child(LEARN_AND_HANG, killed, "5")
    assert process.stdout is not None
    for _ in range(steps):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.stdout.read()
    process.wait()
    assert killed.store.versions() == [1]  # it was not let finish
    with killed.learner() as learner:
        assert learner.seq == 0
        learner.catch_up()
        assert learner.seq == 300
    same_model(site, killed)
    assert site.history().status()["learned"]["labels"] == killed.history().status()["learned"]["labels"]


def test_the_plan_served_never_goes_back_while_a_crashed_learner_catches_up(site: Site) -> None:
    with site.learner() as learner:
        site.feed(120)
        learner.catch_up()
        published = site.home.plan.read_bytes()
    for version in site.store.versions()[1:]:
        (site.home.models / f"model_v{version}.json").unlink()
    with site.learner() as learner:
        assert (learner.seq, site.plan().info.seq) == (0, 120)
        while learner.step():
            assert site.plan().info.seq >= 120
        learner.catch_up()
    assert sameness(site.plan())[1] == sameness_of(published, site)[1]


def sameness_of(content: bytes, site: Site) -> Any:
    path = site.home.models / "other.safetensors"
    path.write_bytes(content)
    return sameness(ScoringPlan.load(path))


@pytest.mark.slow
def test_labels_change_what_is_served(site: Site) -> None:
    before = site.plan()
    with site.learner() as learner:
        site.feed(50)
        learner.catch_up()
    rows = random_rows(site)
    assert [before.score_row(row) for row in rows] != [site.plan().score_row(row) for row in rows]
    assert site.plan().info.seq == 50


def test_a_label_trains_on_the_context_it_was_served_with(site: Site) -> None:
    """However much other labels changed the context meanwhile."""
    (late,) = site.serve(1)
    assert late.context
    with site.learner() as learner:
        site.feed(40)
        learner.catch_up()
        site.label([{"id": late.id, TARGET: 5.0}])
        learner.catch_up()
    record = site.records()[-1]
    assert (record.id, record.context, record.features) == (late.id, late.context, late.features)
    assert (record.experts, record.prediction, record.plan_seq) == (late.experts, late.prediction, 0)


# Rollback


def test_experts_are_weighted_by_the_outputs_that_were_served(site: Site) -> None:
    fold = untaught(site.config)
    for row, target in zip(site.rows[:20], site.labels[:20], strict=True):
        fold.learn(row, target)
    experts = list(fold.pipeline[POOL].experts)
    for seq, target in enumerate(site.labels[20:60], start=1):
        outputs = tuple(target if name == experts[-1] else target + 1e4 for name in experts)
        served = record(seq, target, prediction=target, features=site.rows[20 + seq], experts=outputs)
        fold.apply(served)
    assert fold.pipeline[POOL].weights()[experts[-1]] > 0.9


@pytest.mark.slow
def test_a_rollback_restores_the_old_predictions_as_a_new_version(site: Site, tmp_path: Path) -> None:
    rows = random_rows(site)
    with site.learner() as learner:
        site.feed(60)
        site.append_command("snapshot")
        learner.catch_up()
        second = [site.plan().score_row(row) for row in rows]
        site.feed(60)
        learner.catch_up()
        site.append_command("rollback", version=1)
        learner.catch_up()
        assert learner.version == 3
        first_model = site.store.load(1).pipeline
        plan = site.plan()
        assert [plan.score_row(row) for row in rows] == pytest.approx(
            [first_model.predict_one(row) for row in rows], rel=1e-9
        )
        site.append_command("rollback", version=2)
        learner.catch_up()
        assert learner.version == 4
        assert [site.plan().score_row(row) for row in rows] == second
        site.feed(40)
        learner.catch_up()
    lineage = [(m.version, m.parent, m.reason) for m in reversed(site.store.manifests())]
    assert lineage == [
        (1, None, "bootstrap"), (2, 1, "request"), (3, 1, "rollback"), (4, 2, "rollback"), (5, 4, "shutdown"),
    ]  # fmt: skip
    replayed = copied(site, tmp_path / "replayed")
    replayed.forget(2)
    with replayed.learner() as learner:
        learner.catch_up()
    same_model(site, replayed)


def test_a_rollback_to_what_is_not_there_is_an_alarm_and_learning_goes_on(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with site.learner() as learner:
        site.feed(10)
        site.append_command("rollback", version=9)
        site.feed(10)
        learner.catch_up()
        assert (learner.seq, learner.version) == (21, 1)
    assert "model_v9" in caplog.text
    (alarm,) = site.history().alarms()
    assert (alarm.seq, alarm.detector, alarm.subject) == (11, "rollback", "snapshot")
    assert "model_v9" in alarm.message


# Snapshots


def damage_pickle(folder: Path) -> None:
    path = folder / "model_v2.pkl"
    path.write_bytes(path.read_bytes()[:-100])


def damage_manifest(folder: Path) -> None:
    path = folder / "model_v2.json"
    path.write_bytes(path.read_bytes()[:-100])


def garble_manifest(folder: Path) -> None:
    path = folder / "model_v2.json"
    path.write_bytes(path.read_bytes().replace(b'"reason": "s', b'"reason": "\xff'))


def spoil_schema(folder: Path) -> None:
    edit(folder, lambda manifest: manifest["schema"]["target"].update(name=""))


def change_river(folder: Path) -> None:
    edit(folder, lambda manifest: manifest.update(river="0.1.0"))


def change_probe(folder: Path) -> None:
    edit(folder, lambda manifest: manifest["probe"].update(prediction=1e6))


def change_version(folder: Path) -> None:
    edit(folder, lambda manifest: manifest.update(version=1))


def remove_pickle(folder: Path) -> None:
    (folder / "model_v2.pkl").unlink()


def edit(folder: Path, change: Any) -> None:
    path = folder / "model_v2.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


DAMAGES = [
    damage_pickle, damage_manifest, garble_manifest, spoil_schema, change_river, change_probe, change_version,
    remove_pickle,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_snapshot_that_fails_a_check_is_named_and_an_older_one_used(
    site: Site, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with site.learner() as learner:
        site.feed(30)
        learner.catch_up()
    wanted = sameness(site.plan())
    damage(site.home.models)
    with pytest.raises(SnapshotError, match="model_v2"):
        site.store.load(2)
    with caplog.at_level(logging.ERROR), site.learner() as learner:
        assert learner.seq == 0
        learner.catch_up()
        assert learner.seq == 30
    assert "model_v2" in caplog.text
    assert sameness(site.plan()) == wanted
    assert site.store.versions()[-1] == 3  # numbers only grow
    assert site.store.load(3).manifest.parent == 1


def test_a_pickle_without_its_manifest_does_not_count_and_keeps_its_number(site: Site) -> None:
    (site.home.models / "model_v2.pkl").write_bytes(b"begun")
    (site.home.models / ".model_v9.pkl.1.tmp").write_bytes(b"torn")
    assert site.store.versions() == [1]
    assert site.store.next_version() == 3


def test_no_good_snapshot_at_all_is_an_error_that_names_them(site: Site) -> None:
    (site.home.models / "model_v1.pkl").write_bytes(b"")
    with pytest.raises(SnapshotError, match="model_v1"), site.learner():
        pass
    shutil.rmtree(site.home.models)
    with pytest.raises(SnapshotError, match="bootstrap"), site.learner():
        pass


@pytest.mark.parametrize("byte", [0, 1000, -1])
def test_an_edited_pickle_is_never_unpickled(site: Site, byte: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = site.home.models / "model_v1.pkl"
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(pickle, "load", lambda _: pytest.fail("unpickled"))
    with pytest.raises(SnapshotError, match=r"model_v1.*sha256"):
        site.store.load(1)
    with pytest.raises(SnapshotError, match="model_v1"):
        site.store.check(1)


def test_only_a_snapshot_signed_with_the_key_is_loaded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    config = msgspec.structs.replace(
        site.config, learner=msgspec.structs.replace(site.config.learner, snapshot_key="secret")
    )
    signed, unsigned = SnapshotStore(site.home.models, "secret"), site.store
    loaded = unsigned.load(1)
    manifest = signed.save(
        loaded.pipeline,
        loaded.state,
        loaded.state.probe,
        Provenance(config.schema, 0, 1, "request", 1.0, {"mae": 0.1}),
    )
    assert manifest.hmac is not None
    assert signed.load(2).manifest == manifest
    with monkeypatch.context() as patched:
        patched.setattr(pickle, "load", lambda _: pytest.fail("unpickled"))
        with pytest.raises(SnapshotError, match=r"model_v1.*HMAC"):
            signed.load(1)  # never signed
        with pytest.raises(SnapshotError, match=r"model_v2.*HMAC"):
            SnapshotStore(site.home.models, "guessed").load(2)
        content = (site.home.models / "model_v2.json").read_text()
        for change in (
            lambda m: m.update(seq=1), lambda m: m.update(hmac=None), lambda m: m.update(hmac="0" * 64),
            lambda m: m["metrics"].update(mae=0.2), lambda m: m.update(sha256="0" * 64),
        ):  # fmt: skip
            edit(site.home.models, change)
            with pytest.raises(SnapshotError, match=r"model_v2.*HMAC"):
                signed.load(2)
            (site.home.models / "model_v2.json").write_text(content)
    with Learner(site.home, config) as learner:
        assert learner.version == 2


def test_a_snapshot_is_loaded_by_anyone_with_pickle(site: Site) -> None:
    with (site.home.models / "model_v1.pkl").open("rb") as file:
        pipeline = pickle.load(file)
    for row in random_rows(site, 20):
        assert pipeline.predict_one(row) == pytest.approx(site.plan().score_row(row), rel=1e-9)


@pytest.mark.parametrize("value", [math.inf, math.nan, 10**400, [1.0], "x" * 10_000, {"a": {1, 2}}])
def test_a_snapshot_after_any_row_can_be_loaded(site: Site, value: Any) -> None:
    fold = untaught(site.config)
    row = dict(site.rows[0]) | {site.config.schema.used[0].name: value}
    fold.learn(row, 5.0)
    fold.learn(row, 7.0)
    manifest = site.store.save(
        fold.pipeline,
        fold.state,
        fold.state.probe,
        Provenance(site.config.schema, 2, 1, "request", 1.0, fold.state.prequential.report()),
    )
    loaded = site.store.load(manifest.version)
    assert loaded.pipeline.predict_one(row) == fold.pipeline.predict_one(row)


def test_a_snapshot_after_labels_that_hardly_vary_can_be_loaded(site: Site) -> None:
    fold = untaught(site.config)
    for seq, target in enumerate((0.0, 1e-160, 0.0), start=1):
        fold.apply(record(seq, target, prediction=5.0))
    report = fold.state.prequential.report()
    assert (report["mae"], report["r2"]) == (pytest.approx(5.0), None)
    manifest = site.store.save(
        fold.pipeline,
        fold.state,
        fold.state.probe,
        Provenance(site.config.schema, 3, 1, "request", 1.0, report),
    )
    assert site.store.load(manifest.version).manifest.metrics == report


# Opening


@pytest.mark.slow
def test_two_learners_in_one_home_are_refused_the_second(site: Site) -> None:
    with site.learner():
        with pytest.raises(LockError, match=str(site.home.root)), site.learner():
            pass
        process = child(CATCH_UP.replace("print(", "print('learned', "), site, "1")
        output, _ = process.communicate(timeout=240)
        assert (process.returncode, output) == (1, "")
    with site.learner() as learner:
        assert learner.seq == 0


def test_an_edited_schema_is_refused_until_it_is_undone(site: Site) -> None:
    good = site.config
    features = (*good.features[:-1], msgspec.structs.replace(good.features[-1], name="another"))
    for wrong in (
        msgspec.structs.replace(good, features=features),
        msgspec.structs.replace(good, target=msgspec.structs.replace(good.target, name="another")),
        msgspec.structs.replace(good, context=good.context[:-1]),
        msgspec.structs.replace(good, stream="another"),
    ):
        with pytest.raises(SchemaError, match="model_v1"), Learner(site.home, wrong):
            pass
    reasons = tuple(msgspec.structs.replace(feature, reason="edited") for feature in good.features)
    with Learner(site.home, msgspec.structs.replace(good, features=reasons)) as learner:
        assert learner.version == 1


def test_a_journal_that_ends_before_what_was_learned_is_refused(site: Site) -> None:
    """Else its next labels would have numbers already learned, and be skipped without a word."""
    with site.learner() as learner:
        site.feed(20)
        learner.catch_up()
    for path in site.home.data.glob("journal.db*"):
        path.unlink()
    with pytest.raises(JournalError, match=r"ends at record 0.*20"), site.learner():
        pass
    with pytest.raises(JournalError, match=r"ends at record 0"), site.learner():
        pass  # and the lock was given back


def test_a_missing_record_stops_learning_and_names_it(site: Site) -> None:
    site.feed(10)
    with contextlib.closing(sqlite3.connect(site.home.journal)) as db, db:
        db.execute("DELETE FROM journal WHERE seq = 4")
    with pytest.raises(JournalError, match="record 4"), site.learner() as learner:
        learner.catch_up()


# What is reported


def record(seq: int, target: float, prediction: float | None = None, **others: Any) -> Record:
    fields: dict[str, Any] = {"features": {}, "experts": (1.0, 2.0, 3.0), "served_at": 10.0 * seq}
    if prediction is not None:
        fields |= {"prediction": prediction, "lower": prediction - 1, "upper": prediction + 1, "plan_seq": 0}
    head = {"stream": "s", "id": str(seq), "received_at": 10.0 * seq + seq, "kind": "label"}
    return Record(**{"seq": seq, **head, **fields, "target": target, **others})


def untaught(config: Config) -> Fold:
    def restore(_: int) -> Any:
        raise SnapshotError("there is none")

    return Fold(build_pipeline(config.schema, ModelConfig(n_models=2)), FoldState(config), restore)


def test_prequential_error_is_that_of_predictions_as_served(site: Site) -> None:
    with site.learner() as learner:
        served = site.feed(100)
        learner.catch_up()
        served += site.feed(50)
        learner.catch_up()
        site.label([{"id": one.id, TARGET: 1.0} for one in served[:10]])  # corrections
        site.label([site.rows[500] | {TARGET: 2.0}])  # never served
        learner.catch_up()
    status = site.history().status()
    report, experts = status["prequential"], status["experts"]
    errors = [abs(y - one.prediction) for y, one in zip(site.labels, served, strict=False)]
    covered = [one.lower <= y <= one.upper for y, one in zip(site.labels, served, strict=False)]
    assert (report["n"], report["total"]) == (150, 150)
    assert report["mae"] == pytest.approx(sum(errors) / 150)
    assert report["rmse"] == pytest.approx(math.sqrt(sum(error**2 for error in errors) / 150))
    assert report["coverage"] == pytest.approx(sum(covered) / 150)
    for index, mae in enumerate(experts):
        own = [abs(y - one.experts[index]) for y, one in zip(site.labels, served, strict=False)]
        assert mae == pytest.approx(sum(own) / 150)
    first = site.store.load(1).pipeline
    baseline = [abs(y - first.predict_one(one.features)) for y, one in zip(site.labels, served, strict=False)]
    assert report["baseline_mae"] == pytest.approx(sum(baseline) / 150)
    outcomes = site.history().outcomes(150, 150)
    assert outcomes.prediction == [one.prediction for one in served]
    assert outcomes.truth == site.labels[:150]


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2), min_size=1, max_size=30), st.integers(1, 10))
@settings(max_examples=50, deadline=None)
def test_prequential_report_is_computed_over_its_window(
    pairs: list[tuple[float, float]], window: int
) -> None:
    prequential = Prequential(window)
    for seq, (truth, guess) in enumerate(pairs, start=1):
        outcome = Outcome(seq, 1.0, truth, guess, guess - 1, guess + 1, None, float(seq))
        prequential.update(outcome, (guess, 0.0))
    kept = pairs[-window:]
    report = prequential.report()
    assert (report["n"], report["total"], report["window"]) == (len(kept), len(pairs), window)
    assert report["mae"] == pytest.approx(sum(abs(y - p) for y, p in kept) / len(kept))
    assert report["baseline_mae"] is None
    assert report["coverage"] == pytest.approx(sum(p - 1 <= y <= p + 1 for y, p in kept) / len(kept))
    assert prequential.expert_maes() == pytest.approx(
        [report["mae"], sum(abs(y) for y, _ in kept) / len(kept)]
    )


def test_a_report_before_any_label_has_no_figures() -> None:
    report = Prequential().report()
    assert (report["n"], report["mae"], report["coverage"]) == (0, None, None)
    assert Prequential().expert_maes() == []


@pytest.mark.slow
def test_rows_stored_encoded_teach_the_same_as_rows_encoded_anew(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.rows[0]["Start_Hour"], site.rows[1]["Source"], site.rows[2]["Date"] = "N/A", "new", None
    site.feed(40)
    site.label([site.rows[500] | {TARGET: 2.0}])  # never served
    other = copied(site, tmp_path / "other")
    stored = site.records()
    assert {record.schema_hash for record in stored} == {site.config.schema.hash}
    with sqlite3.connect(other.home.journal) as db:
        for record in stored:
            bare = to_row(msgspec.structs.replace(record, schema_hash="", encoded=b""))
            db.execute("UPDATE journal SET checksum = ?, record = ? WHERE seq = ?", (*bare[-2:], record.seq))
    with other.learner() as learner:
        learner.catch_up()
    monkeypatch.setattr(RowEncoder, "encode_many", None)  # not called
    with site.learner() as learner:
        learner.catch_up()
    assert sameness(site.plan()) == sameness(other.plan())
    assert site.plan().info.seq == 41


def test_a_correction_and_an_unserved_label_are_learned_and_not_measured(site: Site) -> None:
    fold = untaught(site.config)
    assert fold.apply(record(1, 5.0, 4.0)).outcome is not None
    assert fold.apply(record(2, 6.0, 4.0, kind="correction")).outcome is None
    assert fold.apply(record(3, 6.0)).outcome is None
    assert fold.apply(record(4, 6.0, kind="release")).outcome is None
    assert (fold.state.learned, fold.state.seq, fold.state.prequential.count) == (4, 4, 1)
    (outcome,) = [fold.apply(record(5, 7.0, 4.0)).outcome]
    assert outcome == Outcome(5, 55.0, 7.0, 4.0, 3.0, 5.0, None, 5.0)
