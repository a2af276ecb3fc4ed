"""A home of an earlier release starts, predicts the same and goes on learning; one of a later release is
refused."""

from __future__ import annotations

import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest

from millrace import load_model
from online.core.errors import SnapshotError
from online.scoring.scorer import PlanWatch, Scorer
from online.storage.snapshot import SnapshotStore
from tests.support.running import serving

HOMES = Path(__file__).parent / "fixtures" / "home_of_format_1"
NEWEST = 3  # both homes' last snapshot


@pytest.fixture(params=["default", "trees"])
def old_home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A home that the release before made."""
    home = tmp_path / "home"
    with tarfile.open(HOMES / f"{request.param}.tar.xz") as archive:
        archive.extractall(home, filter="data")
    return home


def expected(home: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((home / "expected.json").read_text())
    return content


@pytest.mark.server
def test_it_starts_predicts_the_same_and_learns_the_same(old_home: Path) -> None:
    then = expected(old_home)
    with serving(old_home) as server:
        ask = {"params": {"record": "false"}}
        assert same(server.predict(then["rows"], **ask), then["started_again"])
        for first in (0, 10, 20):
            server.learn(then["labels"][first : first + 10], wait=True)
        assert same(server.predict(then["rows"], **ask), then["learned"])
        (_, aside) = server.get("/quarantine")["quarantined"]
        assert aside["released_as"] is not None
        newer = server.client.post("/snapshots").json()["version"]
    assert SnapshotStore(old_home / "models").manifest(newer).format == 2


def test_its_plan_is_served_by_scorers_alone(old_home: Path) -> None:
    then = expected(old_home)
    scored = Scorer(PlanWatch(old_home / "models" / "plan.safetensors")).score(then["rows"])
    reply = then["started_again"]
    assert [one.prediction for one in scored] == pytest.approx(reply["predictions"], rel=1e-9)
    assert [one.lower for one in scored] == pytest.approx(reply["lower"], rel=1e-9)
    assert [one.upper for one in scored] == pytest.approx(reply["upper"], rel=1e-9)


@pytest.mark.server
def test_its_journal_replays_to_the_same_model(old_home: Path) -> None:
    """Without its last snapshots, the first one and the journal give the very model there was."""
    then = expected(old_home)
    for version in (2, NEWEST):
        for path in (old_home / "models").glob(f"model_v{version}.*"):
            path.unlink()
    with serving(old_home) as server:
        assert same(server.predict(then["rows"], params={"record": "false"}), then["started_again"])


def same(reply: dict[str, Any], then: dict[str, Any]) -> bool:
    """Whether two replies to an array of rows agree; another machine's last digits may differ."""
    exact = reply["learned_seq"] == then["learned_seq"]
    numbers = ("predictions", "lower", "upper")
    return exact and all(reply[name] == pytest.approx(then[name], rel=1e-9) for name in numbers)


def test_a_signed_snapshot_of_then_passes_with_its_key_alone(tmp_path: Path) -> None:
    with tarfile.open(HOMES / "trees.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    assert SnapshotStore(tmp_path / "models", "a key of then").load(NEWEST).manifest.format == 1
    with pytest.raises(SnapshotError, match="HMAC"):
        SnapshotStore(tmp_path / "models", "another key").load(NEWEST)


def test_a_snapshot_of_a_later_release_is_refused_by_name(old_home: Path) -> None:
    path = old_home / "models" / f"model_v{NEWEST}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(SnapshotError, match=r"model_v3\.json is of format 99.*upgrade"):
        SnapshotStore(old_home / "models").load(NEWEST)


def test_a_model_of_then_can_be_loaded_by_hand(old_home: Path) -> None:
    pipeline = load_model(old_home / "models" / f"model_v{NEWEST}.pkl")
    probe = SnapshotStore(old_home / "models").manifest(NEWEST).probe
    assert pipeline.predict_one(probe.features) == pytest.approx(probe.prediction, rel=1e-9)


def test_a_model_is_loaded_by_hand_only_when_its_manifest_fits(home: Path) -> None:
    model = home / "models" / "model_v1.pkl"
    probe = SnapshotStore(home / "models").manifest(1).probe
    assert load_model(str(model)).predict_one(probe.features) == pytest.approx(probe.prediction, rel=1e-9)
    with pytest.raises(SnapshotError, match="HMAC"):
        load_model(model, key="a key it was not signed with")
    with pytest.raises(SnapshotError, match="there is no model_v7"):
        load_model(model.with_name("model_v7.pkl"))
    with pytest.raises(SnapshotError, match="its name is to be"):
        load_model(model.with_name("model.pkl"))
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(SnapshotError, match="damaged"):
        load_model(model)


def test_the_model_can_be_loaded_by_hand(home: Path) -> None:
    with (home / "models" / "model_v1.pkl").open("rb") as file:
        pipeline = pickle.load(file)
    probe = SnapshotStore(home / "models").manifest(1).probe
    assert pipeline.predict_one(probe.features) == pytest.approx(probe.prediction, rel=1e-9)
