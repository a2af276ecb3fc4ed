import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import checks, preprocessing

from online.scaling import FadedScaler


@pytest.mark.parametrize("params", list(FadedScaler._unit_test_params()))
def test_scaler_keeps_river_contract(params):
    for check in checks.yield_checks(FadedScaler(**params)):
        check(FadedScaler(**params))


def test_within_its_memory_it_is_rivers_standard_scaler():
    ours, rivers = FadedScaler(memory=1e6), preprocessing.StandardScaler()
    for i in range(500):
        x = {"a": math.sin(i), "b": 1e3 + i % 7}
        ours.learn_one(x)
        rivers.learn_one(x)
    assert ours.transform_one(x) == pytest.approx(rivers.transform_one(x))


def test_it_follows_a_feature_that_has_moved_as_rivers_does_not():
    ours, rivers = FadedScaler(memory=100), preprocessing.StandardScaler()
    for i in range(20_000):
        x = {"a": math.sin(i) + (50.0 if i >= 19_000 else 0.0)}
        ours.learn_one(x)
        rivers.learn_one(x)
    assert ours.transform_one({"a": 50.0})["a"] == pytest.approx(0.0, abs=0.2)
    assert rivers.transform_one({"a": 50.0})["a"] > 3.0


anything = st.one_of(st.none(), st.text(max_size=3), st.floats(), st.integers(-(10**400), 10**400))


@given(st.lists(anything, max_size=60))
def test_whatever_comes_it_stays_finite(values):
    scaler = FadedScaler(memory=20)
    for value in values:
        scaler.learn_one({"a": value})
        assert math.isfinite(scaler.transform_one({"a": value})["a"])
    assert all(map(math.isfinite, (*scaler.means.values(), *scaler.vars.values())))


def test_it_is_pickled_with_what_it_knows():
    scaler = FadedScaler(memory=50)
    for i in range(100):
        scaler.learn_one({"a": i})
    assert pickle.loads(pickle.dumps(scaler)).transform_one({"a": 3}) == scaler.transform_one({"a": 3})


def test_a_memory_of_less_than_two_rows_is_refused():
    with pytest.raises(ValueError, match="memory"):
        FadedScaler(memory=1.0)
