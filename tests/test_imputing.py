from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import checks, preprocessing, stats

from online.model.imputing import FadedImputer
from tests.support.river_contract import checked_settings

COLUMNS = ["a", "b", "c"]


@pytest.mark.parametrize("params", checked_settings(FadedImputer))
def test_imputer_keeps_river_contract(params: dict[str, Any]) -> None:
    for check in checks.yield_checks(FadedImputer(**params)):
        check(FadedImputer(**params))


value = st.one_of(st.none(), st.floats(-1e6, 1e6))


@pytest.mark.slow
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, value)), max_size=30), st.floats(0.001, 1.0))
def test_it_is_rivers_imputer_to_the_last_bit(rows: list[Any], fading: float) -> None:
    ours = FadedImputer(COLUMNS, fading)
    rivers = preprocessing.StatImputer(*((column, stats.EWMean(fading)) for column in COLUMNS))
    for x in rows:
        ours.learn_one(x)
        rivers.learn_one(x)
        assert ours.transform_one(x) == rivers.transform_one(x)
    assert ours.means == {column: stat.get() for column, stat in rivers.stats.items()}


def test_not_a_number_is_not_learned_and_other_features_pass() -> None:
    imputer = FadedImputer(["a"])
    for a in (4.0, math.nan):
        imputer.learn_one({"a": a, "other": "text"})
    assert imputer.transform_one({"a": None, "other": "text"}) == {"a": 4.0, "other": "text"}


@pytest.mark.parametrize("fading", [0.0, 1.1, math.nan])
def test_a_fading_that_is_no_share_is_refused(fading: float) -> None:
    with pytest.raises(ValueError, match="fading"):
        FadedImputer(COLUMNS, fading)
