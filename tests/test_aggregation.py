"""Learning how to combine experts: near the best of them, and never far from all of them."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online.model.aggregation.aggregator import Aggregator

ANY = st.floats(-1e300, 1e300) | st.floats(-10, 10)
Floats = npt.NDArray[np.float64]


def learned(
    outputs: Floats, truths: Floats, *, late: int = 0, aggregator: Aggregator | None = None
) -> Floats:
    """Absolute errors of predictions made before their label came, `late` rows after."""
    aggregator = aggregator or Aggregator(outputs.shape[1])
    errors = []
    for row in range(len(truths)):
        if row > late:
            aggregator.learn(outputs[row - late - 1], truths[row - late - 1], late)
        errors.append(abs(aggregator.combine(outputs[row]) - truths[row]))
    return np.array(errors)


def experts(noises: list[float], rows: int, seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    truths = 10 * np.sin(np.arange(rows) / 30) + rng.normal(size=rows)
    return truths[:, None] + rng.normal(size=(rows, len(noises))) * np.array(noises), truths


@pytest.mark.slow
@given(
    rows=st.lists(st.tuples(st.lists(ANY | st.just(math.nan), min_size=3, max_size=3), ANY), max_size=30),
    ages=st.lists(st.integers(0, 2000), min_size=30, max_size=30),
    probe=st.lists(st.floats(-1e130, 1e130), min_size=3, max_size=3),
)
@settings(max_examples=80, deadline=None)
def test_a_prediction_is_finite_and_hardly_beyond_the_experts_whatever_was_learned(
    rows: list[Any], ages: list[int], probe: list[float]
) -> None:
    aggregator = Aggregator(3)
    for (outputs, y), age in zip(rows, ages, strict=False):
        aggregator.learn(np.array(outputs), y, age)
    outputs, heads = np.array(probe), aggregator.heads()
    assert all(np.isfinite(part).all() for part in heads)
    assert heads.share.sum() == pytest.approx(1.0)
    assert (heads.share >= 0).all() and (heads.margin >= 0).all()
    assert heads.weights.sum(axis=1) == pytest.approx(np.ones(len(heads.share)), abs=1e-6)
    margin, slack = heads.margin.max(), 1e-9 * np.abs(outputs).max()
    assert outputs.min() - margin - slack <= aggregator.combine(outputs)
    assert aggregator.combine(outputs) <= outputs.max() + margin + slack


@pytest.mark.parametrize("late", [0, 24, 168])
def test_it_does_at_least_as_well_as_its_best_expert(late: int) -> None:
    outputs, truths = experts([3.0, 0.5, 2.0, 2.5], 3000, seed=1)
    errors = learned(outputs, truths, late=late)[late + 200 :].mean()
    best = np.abs(outputs - truths[:, None])[late + 200 :].mean(axis=0).min()
    assert errors <= 1.02 * best


def test_it_is_close_to_the_best_expert_on_a_short_stream() -> None:
    outputs, truths = experts([3.0, 0.5, 2.0, 2.5], 168, seed=2)
    errors = learned(outputs, truths)[20:].mean()
    assert errors <= 1.15 * np.abs(outputs - truths[:, None])[20:].mean(axis=0).min()


def test_it_finds_a_combination_that_beats_every_expert() -> None:
    rng = np.random.default_rng(3)
    parts = rng.normal(size=(4000, 2))
    errors = learned(np.column_stack([parts[:, 0], parts[:, 1]]), parts[:, 0] + parts[:, 1])
    assert errors[1000:].mean() < 0.75 * np.abs(parts[1000:]).mean()


def test_it_follows_when_another_expert_becomes_the_best() -> None:
    outputs, truths = experts([0.3, 3.0], 4000, seed=4)
    outputs[2000:] = outputs[2000:, ::-1]
    errors = learned(outputs, truths)
    assert errors[2500:].mean() < 1.3 * errors[1000:2000].mean()


def test_an_exploding_expert_costs_little() -> None:
    outputs, truths = experts([0.5, 1.0, 2.0], 3000, seed=5)
    with_it = np.column_stack([outputs, outputs[:, 0]])
    with_it[1500:, 3] = np.where(np.arange(1500) % 2, truths.min(), truths.max())  # as a pool holds it
    errors, without = learned(with_it, truths), learned(outputs, truths)
    assert np.isfinite(errors).all()
    assert errors[1600:].mean() < 1.1 * without[1600:].mean()


def test_an_expert_that_enters_later_earns_its_weight() -> None:
    outputs, truths = experts([1.0, 1.5, 0.1], 3000, seed=6)
    outputs[:1500, 2] = math.nan
    aggregator = Aggregator(3)
    for row in range(1500):
        aggregator.learn(outputs[row], truths[row])
    before = aggregator.weights()[2]
    errors = learned(outputs[1500:], truths[1500:], aggregator=aggregator)
    assert before < 0.5 < aggregator.weights()[2]
    assert errors[300:].mean() < 0.2


def test_labels_that_begin_to_come_at_once_make_room_for_the_experts_that_gain_by_it() -> None:
    outputs, truths = experts([0.5, 1.5], 3000, seed=9)
    swapped = outputs[:, ::-1].copy()
    found = {}
    for late in (24, 0):
        aggregator = Aggregator(2)
        learned(outputs[:2500], truths[:2500], late=24, aggregator=aggregator)
        for row in range(2500, 2550):
            aggregator.learn(swapped[row], truths[row], late)
        found[late] = aggregator.weights()[1]
    assert found[0] > 0.5 > found[24]


def test_an_aggregator_of_another_layout_is_refused() -> None:
    aggregator = Aggregator(3)
    state = aggregator.__getstate__() | {"experts": 4}
    with pytest.raises(ValueError, match="another version"):
        Aggregator.__new__(Aggregator).__setstate__(state)


def test_a_restored_aggregator_goes_on_bit_for_bit() -> None:
    outputs, truths = experts([1.0, 2.0, 0.5], 800, seed=8)
    live = Aggregator(3)
    learned(outputs[:400], truths[:400], late=24, aggregator=live)
    restored = pickle.loads(pickle.dumps(live))
    ours, theirs = (learned(outputs[400:], truths[400:], late=24, aggregator=one) for one in (live, restored))
    assert ours.tolist() == theirs.tolist()
