from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import checks, preprocessing

from online.model.scaling import FadedScaler, StandardScaler, deviations_of
from tests.support.river_contract import checked_settings


@pytest.mark.slow
@pytest.mark.parametrize(
    "scaler", [StandardScaler(), *(FadedScaler(**p) for p in checked_settings(FadedScaler))]
)
def test_scaler_keeps_river_contract(scaler: Any) -> None:
    for check in checks.yield_checks(scaler):
        check(scaler.clone())


rows = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.one_of(st.floats(-1e6, 1e6), st.integers(-9, 9))), max_size=30
)


@pytest.mark.slow
@given(rows)
def test_the_standard_scaler_is_rivers_to_the_last_bit_whatever_features_come_and_go(rows: list[Any]) -> None:
    ours, rivers = StandardScaler(), preprocessing.StandardScaler()
    for x in rows:
        ours.learn_one(x)
        rivers.learn_one(x)
    assert (ours.counts, ours.means, ours.vars) == (rivers.counts, rivers.means, rivers.vars)
    for x in rows:
        assert ours.transform_one(x) == pytest.approx(rivers.transform_one(x), rel=1e-15)
    assert deviations_of(ours) == pytest.approx(deviations_of(rivers), rel=1e-15)


@pytest.mark.slow
@given(rows)
def test_a_missing_value_is_not_learned_and_is_scaled_to_nothing(rows: list[Any]) -> None:
    with_gaps, without = StandardScaler(), StandardScaler()
    for x in rows:
        with_gaps.learn_one({"a": None, "b": math.nan} | x)
        without.learn_one(x)
        assert with_gaps.transform_one({"a": None} | x) == {"a": 0.0} | without.transform_one(x)
    assert {n: m for n, m in with_gaps.means.items() if with_gaps.counts[n]} == without.means


def test_within_its_memory_it_is_rivers_standard_scaler() -> None:
    ours, rivers = FadedScaler(memory=1e6), preprocessing.StandardScaler()
    for i in range(500):
        x = {"a": math.sin(i), "b": 1e3 + i % 7}
        ours.learn_one(x)
        rivers.learn_one(x)
    assert ours.transform_one(x) == pytest.approx(rivers.transform_one(x))


def test_it_follows_a_feature_that_has_moved_as_rivers_does_not() -> None:
    ours, rivers = FadedScaler(memory=100), preprocessing.StandardScaler()
    for i in range(20_000):
        x = {"a": math.sin(i) + (50.0 if i >= 19_000 else 0.0)}
        ours.learn_one(x)
        rivers.learn_one(x)
    assert ours.transform_one({"a": 50.0})["a"] == pytest.approx(0.0, abs=0.2)
    assert rivers.transform_one({"a": 50.0})["a"] > 3.0


anything = st.one_of(st.none(), st.text(max_size=3), st.floats(), st.integers(-(10**400), 10**400))


@given(st.lists(anything, max_size=60))
def test_whatever_comes_it_stays_finite(values: list[float]) -> None:
    scaler = FadedScaler(memory=20)
    for value in values:
        scaler.learn_one({"a": value})
        assert math.isfinite(scaler.transform_one({"a": value})["a"])
    assert all(map(math.isfinite, (*scaler.means.values(), *scaler.vars.values())))


@pytest.mark.parametrize("scaler", [FadedScaler(memory=50), StandardScaler()])
def test_it_is_pickled_with_what_it_knows(scaler: Any) -> None:
    for i in range(100):
        scaler.learn_one({"a": i})
    assert pickle.loads(pickle.dumps(scaler)).transform_one({"a": 3}) == scaler.transform_one({"a": 3})


def test_a_memory_of_less_than_two_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="memory"):
        FadedScaler(memory=1.0)
