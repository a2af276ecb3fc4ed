from __future__ import annotations

import math
import pickle
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online.core.errors import SchemaError
from online.core.schema import ContextFeature, Feature, Schema, Target
from online.features.context import GroupColumn
from online.features.context_memory import ContextMemory, new_context_memory
from online.features.row_encoder import CONTEXT, RowEncoder

SITE = GroupColumn(0, 3, True)
HOUR = GroupColumn(3, 24, False, 24.0)
SIZE = SITE.size * HOUR.size
BY = ("site", "hour")
SPECS = (
    ContextFeature("mean", BY, 0.3),
    ContextFeature("recent", BY, kind="recent", labels=3),
    ContextFeature("lag", BY, kind="lag", labels=2),
    ContextFeature("near", BY, 0.2, "near", 4),
    ContextFeature("age", BY, kind="age"),
)
labels = st.lists(
    st.tuples(st.none() | st.integers(0, SIZE - 1), st.floats(-1e6, 1e6, allow_subnormal=False)), max_size=40
)
Labels = Sequence[tuple[int | None, float]]


def taught(spec: ContextFeature, given_labels: Labels) -> ContextMemory:
    history = new_context_memory(spec, (SITE, HOUR))
    for group, target in given_labels:
        history.update(group, target)
    return history


def same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)


def of(group: int, given_labels: Labels) -> list[float]:
    return [target for label, target in given_labels if label == group]


@pytest.mark.slow
@given(given_labels=labels, spec=st.sampled_from(SPECS))
def test_scoring_looks_up_the_very_value_that_learning_sees(
    given_labels: Labels, spec: ContextFeature
) -> None:
    history = taught(spec, given_labels)
    cells = list(history.cells)
    assert len(cells) == SIZE
    assert all(same(cells[group], history.get(group)) for group in range(SIZE))


@given(given_labels=labels, spec=st.sampled_from(SPECS), cut=st.integers(0, 40))
def test_a_history_goes_on_from_its_pickle_as_if_it_had_never_stopped(
    given_labels: Labels, spec: ContextFeature, cut: int
) -> None:
    history = taught(spec, given_labels[:cut])
    compiled = list(history.cells)
    resumed = pickle.loads(pickle.dumps(history))
    assert pickle.dumps(resumed) == pickle.dumps(history)
    assert all(map(same, resumed.cells, compiled))
    for group, target in given_labels[cut:]:
        history.update(group, target)
        resumed.update(group, target)
    assert all(map(same, resumed.cells, history.cells))


@pytest.mark.slow
@given(given_labels=labels, group=st.integers(0, SIZE - 1))
def test_lags_and_recent_means_are_those_of_the_groups_own_labels(given_labels: Labels, group: int) -> None:
    own = of(group, given_labels)
    lag, recent = (taught(spec, given_labels).get(group) for spec in (SPECS[2], SPECS[1]))
    assert same(lag, own[-2] if len(own) > 1 else math.nan)
    if own:
        assert recent == pytest.approx(sum(own[-3:]) / len(own[-3:]), abs=1e-6)
    else:
        assert math.isnan(recent)


@given(given_labels=labels, group=st.integers(0, SIZE - 1))
def test_age_counts_the_labels_of_all_groups_since_the_groups_own(given_labels: Labels, group: int) -> None:
    places = [place for place, (label, _) in enumerate(given_labels) if label == group]
    age = taught(SPECS[4], given_labels).get(group)
    assert same(age, math.log1p(len(given_labels) - 1 - places[-1]) if places else math.nan)


@given(given_labels=labels, group=st.integers(0, SIZE - 1))
def test_a_near_mean_stays_between_its_keys_labels(given_labels: Labels, group: int) -> None:
    key = [target for label, target in given_labels if label is not None and label // 24 == group // 24][-4:]
    near = taught(SPECS[3], given_labels).get(group)
    assert math.isnan(near) if not key else min(key) - 1e-6 <= near <= max(key) + 1e-6


def test_the_label_of_the_hour_beside_counts_more_than_a_newer_one_of_the_other_half_of_the_day() -> None:
    history = taught(SPECS[3], [(23, 10.0), (12, 50.0)])
    assert history.get(0) == pytest.approx(10.0, abs=0.01)  # the cycle wraps
    assert history.get(12) == pytest.approx(50.0, abs=0.01)
    assert math.isnan(history.get(24))  # another key's


def test_context_is_as_served_when_the_row_says_so_and_missing_until_a_label_has_come() -> None:
    site = Feature("site", "category", values=("A", "B"))
    hour = Feature("hour", "cyclic", period=24.0)
    encoder = RowEncoder((site, hour), SPECS)
    row = {"site": "A", "hour": 5}
    names = [column for column in encoder.columns if column.startswith("context:")]
    assert [encoder.transform_one(row)[name] for name in names] == [None] * len(SPECS)
    encoder.learn_one(row, 7.0)
    assert [encoder.transform_one(row)[name] for name in names] == [7.0, 7.0, None, 7.0, 0.0]
    served = row | {CONTEXT: {"mean": 3.0, "age": 2.0}}
    assert [encoder.transform_one(served)[name] for name in names] == [3.0, None, None, None, 2.0]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"kind": "near", "by": ("site",)}, "needs a cycle"),
        ({"kind": "near", "by": ()}, "needs a cycle"),
        ({"kind": "lag", "labels": 0}, "labels must be 1 to 1,000"),
        ({"kind": "recent", "labels": 1001}, "labels must be 1 to 1,000"),
        ({"kind": "recent", "by": ("phase",), "labels": 1000}, "groups and labels"),
    ],
)
def test_a_context_feature_that_makes_no_sense_is_refused_by_name(
    spec: dict[str, object], complaint: str
) -> None:
    features = (Feature("site", "category", values=("A",)), Feature("phase", "cyclic", period=1e4))
    with pytest.raises(SchemaError, match=f"context 'odd'.*{complaint}"):
        Schema("s", Target("y"), features, (ContextFeature("odd", **spec),))  # type: ignore[arg-type]
