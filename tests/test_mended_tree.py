"""River's adaptive tree loses its main tree to an untested alternate; ours does not."""

from __future__ import annotations

import pickle
import random

import pytest
from river import checks, tree

from online.experts.mended import MendedAdaptiveTree


def flipping(rows, period, seed):
    rng = random.Random(seed)
    for i in range(rows):
        x = {"a": rng.uniform(-1, 1), "b": rng.uniform(-1, 1)}
        sign = 1 if i // period % 2 == 0 else -1
        yield x, sign * (5.0 if x["a"] > 0 else -5.0) + rng.gauss(0, 0.3)


def root_changes(model, rows=12_000):
    """How often the root branch became another one, without a switch that the test decided."""
    changes, root = 0, None
    for x, y in flipping(rows, 3000, seed=1):
        before = model.n_switch_alternate_trees
        model.learn_one(x, y)
        now = model._root if hasattr(model._root, "children") else None
        if root is not None and now is not root and model.n_switch_alternate_trees == before:
            changes += 1
        root = now
    return changes


NEVER_TESTED = {"drift_window_threshold": 10**9, "seed": 1}


def test_rivers_own_tree_loses_its_root_before_any_test():
    model = tree.HoeffdingAdaptiveTreeRegressor(**NEVER_TESTED)
    assert root_changes(model) > 0
    assert model.n_switch_alternate_trees == 0


def test_the_mended_tree_keeps_its_root_until_a_test_decides():
    model = MendedAdaptiveTree(**NEVER_TESTED)
    assert root_changes(model) == 0
    assert model.n_alternate_trees > 0
    assert hasattr(model._root._alternate_tree, "children")  # it grew, beside the main tree


def test_the_mended_tree_switches_once_the_alternate_is_the_better_one():
    model = MendedAdaptiveTree(seed=1)
    errors = []
    for x, y in flipping(9000, 4500, seed=2):
        errors.append(abs(y - model.predict_one(x)))
        model.learn_one(x, y)
    assert model.n_switch_alternate_trees > 0
    assert sum(errors[-1000:]) < sum(errors[4500:5500]) / 2


def test_a_row_comes_to_leaves_only_those_of_alternates_included():
    model = MendedAdaptiveTree(**NEVER_TESTED)
    for x, y in flipping(5000, 3000, seed=3):
        model.learn_one(x, y)
    leaves = model._root.traverse({"a": 0.5, "b": 0.5})
    assert len(leaves) > 1
    assert not any(hasattr(leaf, "children") or isinstance(leaf, list) for leaf in leaves)
    outputs = [leaf.prediction({"a": 0.5, "b": 0.5}, tree=model) for leaf in leaves]
    assert model.predict_one({"a": 0.5, "b": 0.5}) == pytest.approx(sum(outputs) / len(outputs))


def test_a_restored_tree_goes_on_bit_for_bit():
    stream = list(flipping(8000, 3000, seed=4))
    live = MendedAdaptiveTree(seed=1, memory_estimate_period=10**9)
    for x, y in stream[:4000]:
        live.learn_one(x, y)
    restored = pickle.loads(pickle.dumps(live))
    for x, y in stream[4000:]:
        assert live.predict_one(x) == restored.predict_one(x)
        live.learn_one(x, y)
        restored.learn_one(x, y)


@pytest.mark.parametrize(
    "check", list(checks.yield_checks(MendedAdaptiveTree(seed=1))), ids=lambda c: c.__name__
)
def test_the_mended_tree_keeps_rivers_contract(check):
    check(MendedAdaptiveTree(seed=1))
