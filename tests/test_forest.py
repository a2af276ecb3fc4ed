from __future__ import annotations

import copy
import math
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from river import checks, preprocessing

from online.forest import forest_state as state
from online.forest.pickling import unpack_arrays
from online.forest.regressor import AdaptiveForestRegressor
from tests.support.river_contract import contract_cases

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, Any]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "check"), list(contract_cases(AdaptiveForestRegressor)))
def test_forest_keeps_river_contract(model: Any, check: Callable[[Any], None]) -> None:
    check(model.clone())


@pytest.mark.slow
def test_forest_keeps_river_contract_behind_a_scaler() -> None:
    model = preprocessing.StandardScaler() | AdaptiveForestRegressor(n_models=3, seed=1)
    for check in checks.yield_checks(model):
        if (
            "learn_many_matches" not in check.__name__
        ):  # the scaler takes in a whole table before it scales a row
            check(model.clone())


def rows(
    n: int, seed: int, *, flip_at: int | None = None, poison: float = 0.0
) -> Iterator[tuple[Row, float]]:
    rng = random.Random(seed)
    for i in range(n):
        x: Row = {name: rng.gauss(0, 1) for name in "abcdef"} | {
            "site": rng.choice(["north", "south", "west"])
        }
        sign = -1 if flip_at is not None and i >= flip_at else 1
        y = sign * (3 * x["a"] + (4 if x["b"] > 0 else -4) * (x["site"] != "west")) + rng.gauss(0, 0.3)
        if rng.random() < poison:
            x[rng.choice("abcdef")] = rng.choice(
                [math.nan, math.inf, -math.inf, None, 1e308, "text", 10**400]
            )
        if rng.random() < poison:
            del x[rng.choice(["a", "site"])]
        yield x, y


def taught(n: int = 3000, seed: int = 1, **params: Any) -> AdaptiveForestRegressor:
    model = AdaptiveForestRegressor(**{"n_models": 5, "seed": 1, **params})
    for x, y in rows(n, seed):
        model.learn_one(x, y)
    return model


def error(model: AdaptiveForestRegressor, n: int, seed: int, **kinds: Any) -> float:
    return float(np.mean([abs(y - model.predict_one(x)) for x, y in rows(n, seed, **kinds)]))


@pytest.mark.slow
def test_forest_learns_thresholds_lines_and_categories() -> None:
    model = taught(8000)
    assert error(model, 1000, seed=2) < 1.0
    assert error(model, 1000, seed=2) < 0.3 * error(taught(0), 1000, seed=2)


def test_an_unfitted_forest_predicts_zero_and_predicting_changes_nothing() -> None:
    model = AdaptiveForestRegressor(n_models=3, seed=1)
    before = pickle.dumps(model)
    assert model.predict_one({"a": 1.0}) == 0.0
    assert model.predict_one({}) == 0.0
    assert pickle.dumps(model) == before
    model = taught(500)
    before = pickle.dumps(model)
    model.predict_one({"a": 1.0, "new": 3.0, "site": "unseen"})
    assert pickle.dumps(model) == before


def test_the_same_seed_gives_the_same_forest_and_another_seed_another() -> None:
    first, again, other = taught(1500), taught(1500), taught(1500, **{"seed": 1})
    x = {"a": 0.3, "site": "north"}
    assert first.predict_one(x) == again.predict_one(x) == other.predict_one(x)
    differently = AdaptiveForestRegressor(n_models=5, seed=2)
    for row, y in rows(1500, 1):
        differently.learn_one(row, y)
    assert differently.predict_one(x) != first.predict_one(x)


@pytest.mark.slow
def test_forest_recovers_after_an_abrupt_drift() -> None:
    model = AdaptiveForestRegressor(n_models=5, seed=1)
    errors = []
    for x, y in rows(10_000, 3, flip_at=5000):
        errors.append(abs(y - model.predict_one(x)))
        model.learn_one(x, y)
    before, at, after = (np.mean(errors[i : i + 500]) for i in (4500, 5000, 9500))
    assert model.n_drifts > 0
    assert at > 2 * before
    assert after < 1.5 * before


def test_no_member_is_replaced_on_a_stationary_stream() -> None:
    model = taught(10_000)
    assert model.n_drifts == 0


# Dirty rows


def arrays_of(model: AdaptiveForestRegressor) -> Any:
    """A forest's arrays, as its pickle holds them."""
    return unpack_arrays(model.__getstate__()["arrays"])


def all_finite(model: AdaptiveForestRegressor) -> bool:
    arrays = arrays_of(model)._asdict()
    used = int(arrays["counts"][state.N_NODES_HIGH])
    floats = [
        array for name, array in arrays.items() if array.dtype.kind == "f" and name not in ("row", "cut")
    ]
    inner = arrays["node_i"][:used, state.NODE_FEATURE] >= 0
    thresholds = arrays["node_f"][:used, state.NODE_SPLIT_VALUE]
    assert not np.isnan(thresholds).any()
    thresholds[inner & np.isinf(thresholds)] = 0.0
    return all(np.isfinite(array).all() for array in floats)


def test_dirty_features_never_corrupt_the_forest() -> None:
    model = AdaptiveForestRegressor(n_models=4, seed=1)
    for x, y in rows(5000, 4, poison=0.3):
        assert math.isfinite(model.predict_one(x))
        model.learn_one(x, y)
    assert error(model, 500, seed=5) < 1.5
    assert all_finite(copy.deepcopy(model))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e308])
def test_a_target_that_is_no_measurement_is_skipped_and_counted(bad: float) -> None:
    model = taught(300)
    before = model.predict_one({"a": 1.0})
    model.learn_one({"a": 1.0}, bad)
    assert (model.predict_one({"a": 1.0}), model.n_skipped) == (before, 1)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e12, 1e29])
def test_forest_recovers_from_absurd_values_that_are_still_numbers(size: float) -> None:
    model = taught(3000)
    clean = error(model, 500, seed=6)
    rng = random.Random(7)
    for x, y in rows(3000, 8):
        if rng.random() < 0.02:
            x[rng.choice("abcdef")] = rng.choice([-size, size])
        model.learn_one(x, rng.choice([-size, size]) if rng.random() < 0.002 else y)
        assert math.isfinite(model.predict_one(x))
    for x, y in rows(3000, 9):
        model.learn_one(x, y)
    assert error(model, 500, seed=6) < 2 * clean
    assert all_finite(copy.deepcopy(model))


def test_missing_values_go_where_they_proved_best() -> None:
    rng = random.Random(10)
    model = AdaptiveForestRegressor(n_models=5, subspace=1.0, seed=1)
    for _ in range(4000):
        value = rng.choice([0.0, 1.0, None])
        model.learn_one({"a": value, "b": rng.random()}, {0.0: -5.0, 1.0: 1.0, None: 10.0}[value])
    assert model.predict_one({"a": None, "b": 0.5}) == pytest.approx(10, abs=0.5)
    assert model.predict_one({"b": 0.5}) == pytest.approx(10, abs=0.5)
    assert model.predict_one({"a": 0.0, "b": 0.5}) == pytest.approx(-5, abs=0.5)


def test_observers_follow_a_feature_whose_range_moves() -> None:
    rng = random.Random(11)
    model = AdaptiveForestRegressor(n_models=5, subspace=1.0, seed=1)
    for i in range(12_000):
        shift = 0.0 if i < 4000 else 1000.0
        value = rng.uniform(-1, 1)
        model.learn_one({"a": shift + value}, 1.0 if math.sin(9 * value) > 0 else -1.0)
    guesses = [model.predict_one({"a": 1000.0 + v}) for v in (0.17, -0.17, 0.52, -0.52, 0.87, -0.87)]
    assert [round(guess) for guess in guesses] == [1, -1, -1, 1, 1, -1]


def test_high_cardinality_is_bounded_and_late_categories_share_one_place() -> None:
    rng = random.Random(12)
    model = AdaptiveForestRegressor(n_models=2, seed=1)
    for i in range(3000):
        model.learn_one({"id": f"client {i}", "a": rng.random()}, rng.random())
    assert len(model.__getstate__()["_reader"].codes["id"]) == 31
    assert len(pickle.dumps(model)) < 1_000_000


def test_features_without_end_grow_nothing_without_bound() -> None:
    model = AdaptiveForestRegressor(n_models=1, seed=1)
    model.learn_one({f"f{i}": 1.0 for i in range(1000)}, 1.0)
    for i in range(200):
        model.learn_one({f"g{i}": 1.0}, 1.0)
    assert len(model.__getstate__()["_reader"].places) == 1024
    assert math.isfinite(model.predict_one({"g199": 1.0}))


# The budget


@pytest.mark.slow
def test_memory_stays_within_the_budget_and_the_error_steady() -> None:
    budget = 600_000
    model = AdaptiveForestRegressor(n_models=5, grace=50.0, max_bytes=budget, seed=1)
    fixed = model.n_bytes
    sizes, errors = [], []
    for place, (x, y) in enumerate(rows(40_000, 13)):
        errors.append(abs(y - model.predict_one(x)))
        model.learn_one(x, y)
        if place % 5000 == 4999:
            sizes.append(model.n_bytes)
    counts = arrays_of(model).counts
    assert counts[state.N_OBSERVERS_DROPPED] > 0
    assert max(sizes) < fixed + budget + 100_000
    assert np.mean(errors[-5000:]) < 1.1 * np.mean(errors[10_000:15_000])
    used = counts[state.N_NODES_HIGH] - counts[state.N_NODES_FREE]
    assert (
        used
        == (arrays_of(model).node_i[: counts[state.N_NODES_HIGH], state.NODE_OWNER] != state.ABSENT).sum()
    )


@pytest.mark.slow
def test_subtrees_are_pruned_when_there_are_nodes_enough_no_more() -> None:
    model = AdaptiveForestRegressor(n_models=2, grace=30.0, delta=0.5, max_bytes=100_000, seed=1)
    for x, y in rows(30_000, 14):
        model.learn_one(x, y)
    assert arrays_of(model).counts[state.N_PRUNED] > 0
    assert error(model, 500, seed=15) < 2.0


# Restoring


def continued(model: AdaptiveForestRegressor, start: int, stop: int) -> list[str]:
    outputs = []
    for i, (x, y) in enumerate(rows(stop, 16, flip_at=2000, poison=0.1)):
        if i >= start:
            outputs.append(model.predict_one(x).hex())
            model.learn_one(x, y)
    return outputs


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 1, 40, 700, 2300, 2900])
def test_restored_forest_continues_bit_for_bit(at: int) -> None:
    model = AdaptiveForestRegressor(n_models=4, grace=60.0, max_bytes=1_500_000, seed=1)
    continued(model, 0, at)
    restored = pickle.loads(pickle.dumps(model))
    assert continued(restored, at, at + 1500) == continued(model, at, at + 1500)
    kept, again = model.__getstate__()["arrays"], restored.__getstate__()["arrays"]
    assert all(np.array_equal(kept[name], again[name]) for name in kept)


CONTINUE = """
import pickle, sys
from tests.test_forest import continued
print("\\n".join(continued(pickle.load(sys.stdin.buffer), int(sys.argv[1]), int(sys.argv[2]))))
"""


@pytest.mark.slow
def test_forest_restored_in_another_process_continues_bit_for_bit() -> None:
    model = AdaptiveForestRegressor(n_models=4, grace=60.0, seed=1)
    continued(model, 0, 1900)
    child = subprocess.run(
        [sys.executable, "-c", CONTINUE, "1900", "4000"],
        input=pickle.dumps(model),
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "20"},
        capture_output=True,
        check=True,
    )
    assert child.stdout.decode().split() == continued(model, 1900, 4000)
    assert model.n_drifts > 0


def test_a_table_is_learned_as_its_rows_one_by_one() -> None:
    table = pd.DataFrame([{**x, "y": y} for x, y in rows(600, 17)])
    numeric = table[list("abcdef")]
    for features in (numeric, table.drop(columns="y")):
        one, many = (AdaptiveForestRegressor(n_models=3, seed=1) for _ in range(2))
        records: list[Any] = features.to_dict("records")
        for x, y in zip(records, table["y"], strict=True):
            one.learn_one(x, y)
        many.learn_many(features, table["y"])
        expected = [one.predict_one(x) for x in records]
        assert many.predict_many(features).tolist() == expected


@pytest.mark.slow
def test_importing_compiles_nothing() -> None:
    code = (
        "import online.forest.regressor, online.forest.members as m, online.forest.tree as b;"
        "print(sum(len(f.signatures) for k in (m, b) for f in vars(k).values() if hasattr(f, 'signatures')))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    assert found.stdout.strip() == "0"


@pytest.mark.parametrize(
    "params",
    [
        {"n_models": 0},
        {"subspace": 0.0},
        {"delta": 1.0},
        {"rate": 0.0},
        {"max_depth": 61},
        {"slow_step": 2.0},
        {"delay": -1},
    ],
)
def test_settings_out_of_range_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(params))):
        AdaptiveForestRegressor(**params)


# Inspection


def test_contributions_add_up_to_the_prediction_and_name_what_matters() -> None:
    model = taught(4000)
    for x, _ in rows(50, 18, poison=0.3):
        terms = model.contributions_one(x)
        assert sum(terms.values()) == pytest.approx(model.predict_one(x))
        assert terms.keys() == {"", "site", *"abcdef"}
    high = model.contributions_one({**dict.fromkeys("acdef", 0.0), "b": 2.0, "site": "north"})
    low = model.contributions_one({**dict.fromkeys("acdef", 0.0), "b": -2.0, "site": "north"})
    assert high["b"] > 1 > -1 > low["b"]
    assert AdaptiveForestRegressor().contributions_one({"a": 1.0}) == {"": 0.0}


def test_importances_sum_to_one_and_rank_the_causes_first() -> None:
    shares = taught(4000).feature_importances()
    assert sum(shares.values()) == pytest.approx(1)
    assert set(sorted(shares, key=shares.__getitem__)[-3:]) == {"a", "b", "site"}


def test_table_and_drawing_show_every_node() -> None:
    model = taught(3000)
    table = model.to_frame()
    assert set(table["member"]) == set(range(5))
    assert (table["test"].isna() == table["gain"].isna()).all()
    assert (table["parent"] == -1).sum() == 5
    drawn = model.draw(1).splitlines()
    assert len(drawn) == (table["member"] == 1).sum()
    assert any("site in {" in line for line in drawn)
    assert AdaptiveForestRegressor().draw() == "(nothing learned)"


# Late labels


def test_delay_may_be_set_before_learning_or_given_and_is_the_same() -> None:
    given, later = (AdaptiveForestRegressor(n_models=3, delay=delay, seed=1) for delay in (24, 0))
    later.delay = 24
    assert continued(given, 0, 1500) == continued(later, 0, 1500)
    assert later.clone().delay == 24


def test_delay_set_while_learning_is_kept_and_continues_bit_for_bit() -> None:
    model = AdaptiveForestRegressor(n_models=3, grace=60.0, max_bytes=1_500_000, seed=1)
    continued(model, 0, 700)
    before = continued(copy.deepcopy(model), 700, 720)[0]
    model.delay = 24
    restored = pickle.loads(pickle.dumps(model))
    assert restored.delay == 24
    outputs = continued(restored, 700, 2000)
    assert outputs[0] == before  # setting it changes no prediction by itself
    assert outputs == continued(model, 700, 2000)
    for rows_late in (0, 168, 24):
        model.delay = rows_late
    assert math.isfinite(float.fromhex(continued(model, 2000, 2001)[0]))


@pytest.mark.slow
def test_the_budget_holds_when_a_delay_is_set_late() -> None:
    budget = 600_000
    model = AdaptiveForestRegressor(n_models=3, grace=50.0, max_bytes=budget, seed=1)
    fixed = model.n_bytes
    continued(model, 0, 6000)
    model.delay = 24
    continued(model, 6000, 9000)
    counts = arrays_of(model).counts
    assert counts[state.N_NODES_HIGH] - counts[state.N_NODES_FREE] <= counts[state.N_NODES_MAX]
    assert model.n_bytes < fixed + 2 * budget


# Plain arrays


def scored_plainly(bounds: Any, trees: Any, x: Row) -> float:
    row = np.array([x.get(name, math.nan) for name in bounds.features], float)
    row[~(np.abs(row) <= 1e30)] = math.nan
    filled = np.where(np.isnan(row), bounds.fill, np.clip(row, bounds.low, bounds.high))
    total = 0.0
    for weight, node in zip(trees.weight, trees.root, strict=True):
        while trees.feature[node] >= 0:
            value = row[trees.feature[node]]
            left = trees.default_left[node] if math.isnan(value) else value <= trees.threshold[node]
            node = (trees.left if left else trees.right)[node]
        line = trees.lines[trees.leaf[node]]
        output = line[-1] + float(line[:-1] @ filled)
        total += weight * min(max(output, trees.low), trees.high)
    return total


def numbers(n: int, seed: int, **kinds: Any) -> Iterator[tuple[Row, float]]:
    for x, y in rows(n, seed, **kinds):
        known = {name: v for name, v in x.items() if isinstance(v, (int, float)) and abs(v) < 1e300}
        yield known, y


@pytest.mark.parametrize("delay", [0, 24])
def test_plain_arrays_score_as_the_forest_does(delay: int) -> None:
    model = AdaptiveForestRegressor(n_models=4, grace=60.0, delay=delay, seed=1)
    assert len(model.members().root) == 0
    probes = [x for x, _ in numbers(50, 20, poison=0.3)]
    for place, (x, y) in enumerate(numbers(4000, 19, flip_at=2000, poison=0.2)):
        model.learn_one(x, y)
        if place % 400 == 3:
            bounds, trees = model.row_bounds(), model.members()
            assert trees.weight.sum() == pytest.approx(1)
            for probe in probes:
                plain = scored_plainly(bounds, trees, probe)
                assert plain == pytest.approx(model.predict_one(probe), rel=1e-11)


def test_a_forest_with_categories_has_no_plain_arrays() -> None:
    with pytest.raises(ValueError, match="site"):
        taught(100).members()
