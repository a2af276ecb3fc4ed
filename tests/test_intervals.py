"""Intervals hold their share of the labels whatever the errors do, and are wider where errors are larger."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online.features.context import GroupColumn
from online.features.error_scale import disagreement_of, disagreement_of_row
from online.model.intervals import ConformalInterval

HOURS = [GroupColumn(0, 24, False)]


def covered(
    interval: ConformalInterval,
    residuals: Iterable[float],
    delay: int = 0,
    slots: Iterable[int] | None = None,
) -> np.ndarray:
    """Whether each residual lay in its interval, labels coming ``delay`` rows late."""
    residuals = list(residuals)
    rows = [[float(slot)] for slot in slots] if slots is not None else [[0.0]] * len(residuals)
    held: list[bool] = []
    widths: list[float] = []
    for place, residual in enumerate(residuals):
        if place > delay:
            late = place - delay - 1
            interval.update(rows[late], 0.0, residuals[late], delay, widths[late])
        below, above = interval.get(rows[place], 0.0)
        held.append(-below <= residual <= above)
        widths.append(below + above)
    return np.array(held)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("delay", [0, 24, 168])
def test_exchangeable_errors_are_held_at_the_wanted_rate(coverage: float, delay: int) -> None:
    residuals = np.random.default_rng(1).normal(size=8000)
    held = covered(ConformalInterval(coverage), residuals, delay)[1000:]
    assert abs(held.mean() - coverage) < 0.02


@pytest.mark.parametrize("delay", [0, 24])
def test_errors_that_grow_and_shrink_are_held_at_the_wanted_rate(delay: int) -> None:
    rng = np.random.default_rng(2)
    size = np.exp(np.sin(np.arange(12_000) / 500.0))
    size[6000:] *= 4.0
    held = covered(ConformalInterval(0.9), rng.normal(size=12_000) * size, delay)[1000:]
    assert 0.88 < held.mean() < 0.92
    assert min(held[start : start + 1000].mean() for start in range(0, 10_001, 100)) > 0.8


@pytest.mark.parametrize("delay", [24, 168])
def test_errors_whose_size_wanders_while_labels_are_late_are_held_at_the_wanted_rate(delay: int) -> None:
    rng = np.random.default_rng(5)
    size = np.zeros(12_000)
    for place in range(1, len(size)):
        size[place] = 0.99 * size[place - 1] + rng.normal(0.0, 0.12)
    held = covered(ConformalInterval(0.9), rng.normal(size=12_000) * np.exp(size), delay)[1000:]
    assert 0.885 < held.mean() < 0.915


def test_a_model_that_is_always_too_low_gets_an_interval_that_lies_above_it() -> None:
    interval = ConformalInterval(0.9)
    covered(interval, np.random.default_rng(3).normal(10.0, 1.0, size=3000))
    below, above = interval.get([0.0], 0.0)
    assert below < 0.0 < above


@pytest.mark.parametrize("delay", [24, 168])
def test_stretches_of_errors_that_show_only_later_do_not_empty_a_block(delay: int) -> None:
    rng = np.random.default_rng(9)
    shift = np.zeros(12_000)
    for start in range(700, 12_000, 1000):
        shift[start : start + 100] = rng.choice([-3.0, 3.0])
    held = covered(ConformalInterval(0.9), rng.normal(size=12_000) + shift, delay)[1000:]
    assert 0.88 < held.mean() < 0.92
    assert min(held[start : start + 1000].mean() for start in range(0, 10_001, 50)) > 0.8


def test_late_labels_that_all_lie_above_leave_room_below() -> None:
    residuals = np.random.default_rng(10).normal(3.0, 1.0, size=3000)
    below = {}
    for delay in (0, 24, 168):
        interval = ConformalInterval(0.9)
        covered(interval, residuals, delay)
        below[delay] = interval.get([0.0], 0.0)[0]
    assert below[0] < 0.0 < below[24] < below[168]


def test_a_quiet_spell_narrows_the_interval_less_while_labels_are_late() -> None:
    residuals = np.random.default_rng(11).normal(size=2500) * np.repeat([1.0, 0.1], [2000, 500])
    widths = {}
    for delay in (0, 168):
        interval = ConformalInterval(0.9)
        covered(interval, residuals, delay)
        widths[delay] = sum(interval.get([0.0], 0.0))
    assert widths[0] < 0.5 < widths[168]


def test_one_wild_expert_that_hardly_counts_does_not_widen_the_interval_much() -> None:
    shares = np.array([0.3, 0.3, 0.2, 0.199, 0.001])
    usual = disagreement_of(np.array([[1.0, 3.0, 2.0, 0.0, 4.0]]), shares)[0]
    assert disagreement_of(np.array([[1.0, 3.0, 2.0, 0.0, 1004.0]]), shares)[0] < 4.0 * usual


@pytest.mark.parametrize("experts", [0, 1, 2, 5, 16])
def test_experts_stand_as_far_apart_on_a_row_alone_as_among_many(experts: int) -> None:
    rng = np.random.default_rng(experts)
    outputs, shares = rng.normal(size=(50, experts)).round(1), np.full(experts, 1.0 / max(1, experts))
    alone = [disagreement_of_row(row, shares) for row in outputs]
    assert alone == pytest.approx(disagreement_of(outputs, shares).tolist(), rel=1e-9, abs=1e-12)


def test_slots_with_larger_errors_get_wider_intervals() -> None:
    rng = np.random.default_rng(4)
    slots = np.arange(6000) % 24
    interval = ConformalInterval(0.9, HOURS)
    held = covered(interval, rng.normal(size=6000) * np.where(slots < 12, 0.2, 3.0), slots=slots.tolist())
    night, day = (sum(interval.get([slot], 0.0)) for slot in (3.0, 15.0))
    assert day > 2.0 * night
    assert all(held[2000:][slots[2000:] == slot].mean() > 0.75 for slot in range(24))


def test_experts_that_disagree_more_than_usual_widen_the_interval() -> None:
    interval = ConformalInterval(0.9)
    for residual in np.random.default_rng(5).normal(size=500):
        interval.update([0.0], 1.0, float(residual), 0)
    assert sum(interval.get([0.0], 5.0)) > sum(interval.get([0.0], 1.0))


def test_a_new_coverage_is_taken_up() -> None:
    interval = ConformalInterval(0.9)
    residuals = np.random.default_rng(6).normal(size=3000)
    covered(interval, residuals)
    interval.coverage = 0.5
    assert abs(covered(interval, residuals)[500:].mean() - 0.5) < 0.05


def test_a_pickled_interval_goes_on_as_if_nothing_had_been() -> None:
    residuals = np.random.default_rng(7).normal(size=1500).tolist()
    interval = ConformalInterval(0.9, HOURS)
    covered(interval, residuals[:1000])
    other = pickle.loads(pickle.dumps(interval))
    covered(interval, residuals[1000:])
    covered(other, residuals[1000:])
    assert interval.get([0.0], 0.5) == other.get([0.0], 0.5)


def test_before_any_error_the_interval_is_the_prediction() -> None:
    assert ConformalInterval(0.9).get([0.0], 1.0) == (0.0, 0.0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(-1e30, 1e30), st.floats(0.0, 1e30), st.integers(-5, 5000),
            st.one_of(st.just(math.nan), st.floats(0.0, 23.9)),
        ),
        max_size=60,
    )
)  # fmt: skip
def test_no_error_makes_an_interval_endless_or_turns_it_round(history: list[tuple[float, ...]]) -> None:
    interval = ConformalInterval(0.9, HOURS)
    for residual, spread, delay, slot in history:
        interval.update([slot], spread, residual, int(delay))
        below, above = interval.get([slot], spread)
        assert math.isfinite(below) and math.isfinite(above) and -below <= above
