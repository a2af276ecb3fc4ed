"""The guard: rare false alarms, an alarm when live gets worse than the last good snapshot, one rollback."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from online.core.config import GuardConfig
from online.learning.e_detector import LABELS_PER_BET, EDetector
from tests.support.rows import TARGET
from tests.test_fold import Site, copied, same_model

BOUND = GuardConfig().labels_per_false_alarm / LABELS_PER_BET


def labels_to_alarm(seed: int, count: int, worse: float, from_label: int = 0) -> int | None:
    """Labels until an alarm, live errors being `worse` times the reference's from some label on."""
    rng, guard = random.Random(seed), EDetector()
    for label in range(count):
        factor = worse if label >= from_label else 1.0
        guard.update(factor * abs(rng.gauss(0, 1)), abs(rng.gauss(0, 1)))
        if guard.evidence >= BOUND:
            return label + 1
    return None


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("worse", [0.5, 1.0])
def test_a_model_that_is_no_worse_gives_no_alarm(seed: int, worse: float) -> None:
    assert labels_to_alarm(seed, 20_000, worse) is None


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("worse", "within"), [(5.0, 1000), (2.0, 2500)])
def test_a_model_that_becomes_worse_after_a_long_good_time_is_found(
    seed: int, worse: float, within: int
) -> None:
    found = labels_to_alarm(seed, 12_000, worse, from_label=6000)
    assert found is not None and 6000 < found <= 6000 + within


def test_errors_of_zero_and_of_any_size_are_taken() -> None:
    guard = EDetector()
    for live in (0.0, 5e-324, 1e300, 0.0):
        for reference in (0.0, 1e300, 5e-324):
            for _ in range(LABELS_PER_BET):
                guard.update(live, reference)
    assert 0.0 <= guard.evidence < float("inf")


def spoiled(site: Site, rollback: bool, count: int = 300) -> None:
    """Labels that teach the model to be wrong, then true ones for predictions served meanwhile."""
    guard = GuardConfig(labels_per_false_alarm=100, rollback=rollback)
    site.config = msgspec.structs.replace(site.config, guard=guard)
    with site.learner() as learner:
        site.label([row | {TARGET: -2e4} for row in site.rows[:60]])
        learner.catch_up()
        for _ in range(count // 20):
            site.next %= 500
            labels = site.labels[site.next : site.next + 20]
            served = site.serve(20)
            site.label(
                [
                    *({"id": one.id, TARGET: y} for one, y in zip(served, labels, strict=True)),
                    *(row | {TARGET: -2e4} for row in site.rows[:60]),
                ]
            )
            learner.catch_up()


@pytest.mark.slow
def test_a_spoiled_model_is_told_and_where_wished_rolled_back_once(home: Path, tmp_path: Path) -> None:
    site = Site(home)
    other = copied(site, tmp_path / "alarm only")
    spoiled(site, rollback=True)
    spoiled(other, rollback=False)
    alarms = [alarm for alarm in site.history().alarms() if alarm.detector == "guard"]
    assert alarms and alarms[0].before < alarms[0].after and "model_v1" in alarms[-1].message
    orders = [record for record in site.records() if record.kind == "rollback"]
    assert orders and all(record.id.startswith("guard-") for record in orders)
    assert len({record.id for record in orders}) == len(orders) <= len(alarms)
    assert orders[0].payload["version"] == 1
    assert not [record for record in other.records() if record.kind == "rollback"]
    assert [alarm for alarm in other.history().alarms() if alarm.detector == "guard"]
    replayed = copied(site, tmp_path / "replayed")
    replayed.forget(1)
    replayed.config = site.config
    with replayed.learner() as learner:
        learner.catch_up()
    assert len(replayed.records()) == len(site.records())  # passing the same labels orders nothing again
    same_model(site, replayed)
