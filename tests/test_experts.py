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

import pytest
from river import base, checks, compose, tree

from online.model.experts.boosted import BoostedTrees
from online.model.experts.column_value import ColumnValue
from online.model.experts.nlms import NormalizedLMS
from online.model.experts.river.adaptive_tree import adaptive_tree
from online.model.experts.river.adwin_bagging import ADWINBaggingRegressor
from online.model.experts.rls import RecursiveLeastSquares
from online.model.micro_batch import FeatureView
from online.model.pool import ExpertPool
from tests.support.river_contract import contract_cases

ROOT = Path(__file__).resolve().parents[1]
ESTIMATORS: list[Any] = [
    NormalizedLMS,
    ADWINBaggingRegressor,
    RecursiveLeastSquares,
    ColumnValue,
    BoostedTrees,
    ExpertPool,
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "check"), list(contract_cases(*ESTIMATORS)))
def test_estimator_keeps_river_contract(model: Any, check: Callable[[Any], None]) -> None:
    check(model.clone())


@pytest.mark.slow
def test_bagged_adaptive_trees_keep_river_contract() -> None:
    checks.check_estimator(ADWINBaggingRegressor(adaptive_tree(1), n_models=2, seed=1))


class Exploding(base.Regressor):
    """Predicts one and the same value, however absurd."""

    def __init__(self, output: float = math.nan) -> None:
        self.output = output
        self.n_learned = 0

    def learn_one(self, x: dict[str, float], y: float) -> None:  # noqa: ARG002 - River's signature
        self.n_learned += 1

    def predict_one(self, x: dict[str, float]) -> float:  # noqa: ARG002 - River's signature
        return self.output


def changing_stream(n: int, flip_at: int, seed: int) -> Iterator[tuple[dict[str, float], float]]:
    rng = random.Random(seed)
    for i in range(n):
        x = {"a": rng.uniform(-1, 1), "b": rng.uniform(-1, 1)}
        sign = 1 if i < flip_at else -1
        yield x, sign * (5 * x["a"] + (3 if x["b"] > 0 else -3)) + rng.gauss(0, 0.3)


def small_bagging(**params: Any) -> ADWINBaggingRegressor:
    model = tree.HoeffdingTreeRegressor(grace_period=100, max_depth=5, leaf_model=NormalizedLMS())
    return ADWINBaggingRegressor(model, **{"n_models": 3, "seed": 3, **params})


# Normalised least mean squares


def test_nlms_learns_a_line() -> None:
    rng = random.Random(1)
    model = NormalizedLMS(step=0.2)
    for _ in range(3000):
        x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)}
        model.learn_one(x, 2 * x["a"] - 3 * x["b"] + 4)
    assert model.weights == pytest.approx({"a": 2, "b": -3}, abs=1e-6)
    assert model.intercept == pytest.approx(4, abs=1e-6)


def test_nlms_survives_outlying_features_and_a_stuck_sensor() -> None:
    rng = random.Random(2)
    model = NormalizedLMS(step=0.2)
    for i in range(6000):
        x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)}
        y = 2 * x["a"] + x["b"]
        if 2000 <= i < 3000:
            x["b"] = 1e6
        if i % 500 == 0:
            x["a"] = 1e12
        model.learn_one(x, y)
        assert abs(model.predict_one({"a": 1.0, "b": 1.0})) < 100
    assert model.predict_one({"a": 1.0, "b": 1.0}) == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("size", [1e100, 1e154, 1e200, 1e300, sys.float_info.max])
def test_nlms_state_and_predictions_stay_finite_at_any_size(size: float) -> None:
    rng = random.Random(3)
    model = NormalizedLMS(step=1.0)
    for _ in range(300):
        x = {name: rng.choice([0.0, 1.0, -size, size, rng.gauss(0, 1)]) for name in "abcd"}
        model.learn_one(x, rng.choice([-size, 1.0, size]), rng.choice([1.0, 0.0, 3.0]))
        assert all(map(math.isfinite, [*model.weights.values(), model.intercept]))
        assert math.isfinite(model.predict_one({name: rng.choice([-size, size]) for name in "abcde"}))


def test_nlms_keeps_learning_while_a_sensor_is_stuck_at_an_overflowing_value() -> None:
    model = NormalizedLMS(step=0.9)
    model.learn_one({"a": 1.0}, 5.0)
    for _ in range(400):
        model.learn_one({"a": 1e300}, 7.0)
    assert model.predict_one({"a": 1e300}) == pytest.approx(7.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nlms_skips_rows_that_are_not_finite(bad: float) -> None:
    model = NormalizedLMS()
    model.learn_one({"a": 1.0}, 1.0)
    before = pickle.dumps(model)
    model.learn_one({"a": bad}, 1.0)
    model.learn_one({"a": 1.0}, bad)
    assert pickle.dumps(model) == before
    assert math.isfinite(model.predict_one({"a": bad}))


def test_nlms_weight_counts_as_repeats() -> None:
    once, twice = NormalizedLMS(eps=1e-12), NormalizedLMS(eps=1e-12)
    once.learn_one({"a": 2.0}, 10.0, 2)
    twice.learn_one({"a": 2.0}, 10.0)
    twice.learn_one({"a": 2.0}, 10.0)
    assert once.predict_one({"a": 2.0}) == pytest.approx(twice.predict_one({"a": 2.0}))


@pytest.mark.parametrize("params", [{"step": 0.0}, {"step": 1.5}, {"eps": 0.0}, {"eps": math.inf}])
def test_nlms_refuses_settings_out_of_range(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(params))):
        NormalizedLMS(**params)


# Recursive least squares


@pytest.mark.slow
def test_least_squares_learns_a_line_and_follows_it_when_it_changes() -> None:
    rng = random.Random(1)
    model = RecursiveLeastSquares(forgetting=0.98, ridge=1e-6)
    for sign in (1, -1):
        for _ in range(1500):
            x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)}
            model.learn_one(x, sign * (2 * x["a"] - 3 * x["b"]) + 4)
        assert model.weights == pytest.approx({"a": 2 * sign, "b": -3 * sign}, abs=1e-4)
        assert model.intercept == pytest.approx(4, abs=1e-4)


def test_least_squares_does_not_wind_up_while_nothing_varies() -> None:
    rng = random.Random(2)
    model = RecursiveLeastSquares(forgetting=0.99)
    for _ in range(300):
        x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)}
        model.learn_one(x, 2 * x["a"] + x["b"] + rng.gauss(0, 0.1))
    for _ in range(20_000):  # a stuck sensor: one direction only is excited
        model.learn_one({"a": 0.5, "b": -0.5}, 0.5)
    worst = 0.0
    for _ in range(300):
        x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)}
        worst = max(worst, abs(model.predict_one(x)))
        model.learn_one(x, 2 * x["a"] + x["b"] + rng.gauss(0, 0.1))
    assert worst < 10
    assert model.predict_one({"a": 1.0, "b": 1.0}) == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("forgetting", [0.5, 0.99, 1.0])
@pytest.mark.parametrize("size", [1e100, 1e300, sys.float_info.max])
def test_least_squares_stay_finite_at_any_size(size: float, forgetting: float) -> None:
    rng = random.Random(3)
    model = RecursiveLeastSquares(forgetting=forgetting, ridge=1e-6)
    for _ in range(300):
        x = {name: rng.choice([0.0, 1.0, -size, size, math.nan, rng.gauss(0, 1)]) for name in "abcd"}
        model.learn_one(x, rng.choice([-size, 1.0, size, math.inf]))
        assert all(map(math.isfinite, [*model.weights.values(), model.intercept]))
        assert math.isfinite(model.predict_one({name: rng.choice([-size, size]) for name in "abcde"}))


@pytest.mark.parametrize("params", [{"forgetting": 0.0}, {"ridge": 0.0}, {"limit": math.inf}])
def test_least_squares_refuse_settings_out_of_range(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(params))):
        RecursiveLeastSquares(**params)


# Bagging


def test_bagging_predicts_zero_before_any_label() -> None:
    assert small_bagging().predict_one({"a": 1.0}) == 0.0


@pytest.mark.slow
def test_bagging_recovers_after_a_change_and_beats_its_frozen_self() -> None:
    model = small_bagging()
    stream = list(changing_stream(6000, 3000, seed=4))
    errors: dict[str, list[float]] = {"before": [], "during": [], "after": [], "frozen": []}
    frozen = model
    for i, (x, y) in enumerate(stream):
        if i == 3000:
            assert model.n_drifts == 0
            frozen = copy.deepcopy(model)
        error = abs(y - model.predict_one(x))
        if 2500 <= i < 3000:
            errors["before"].append(error)
        elif 3000 <= i < 3100:
            errors["during"].append(error)
        elif i >= 5500:
            errors["after"].append(error)
            errors["frozen"].append(abs(y - frozen.predict_one(x)))
        model.learn_one(x, y)
    mean = {name: sum(values) / len(values) for name, values in errors.items()}
    assert model.n_drifts > 0
    assert mean["during"] > 3 * mean["before"]
    assert mean["after"] < 2 * mean["before"]
    assert mean["after"] < mean["frozen"] / 3


@pytest.mark.slow
def test_bagging_swaps_nobody_on_a_stationary_stream() -> None:
    model = small_bagging()
    for x, y in changing_stream(8000, 8000, seed=5):
        model.learn_one(x, y)
    assert model.n_drifts == 0


def test_bagging_ignores_a_falling_error() -> None:
    model = small_bagging()
    rng = random.Random(6)
    for i in range(4000):
        noise = 10 if i < 2000 else 0.1
        model.learn_one({"a": rng.uniform(-1, 1)}, rng.gauss(0, noise))
    assert model.n_drifts == 0


def test_bagging_survives_a_member_that_predicts_nan() -> None:
    model = ADWINBaggingRegressor(Exploding(), n_models=2, seed=1)
    for i in range(300):
        model.learn_one({"a": 1.0}, float(i))
    assert model.n_drifts == 0


def background(model: ADWINBaggingRegressor) -> list[Any]:
    """The members that may follow those that were warned of, as a pickle holds them."""
    members: list[Any] = vars(model)["_background"]
    return members


@pytest.mark.slow
def test_bagging_drops_a_background_member_that_got_no_drift() -> None:
    model = small_bagging(horizon=50, drift_delta=1e-300)
    most = 0
    for x, y in changing_stream(3000, 1500, seed=7):
        model.learn_one(x, y)
        most = max(most, sum(member is not None for member in background(model)))
    assert model.n_drifts == 0
    assert model.n_warnings > 0
    assert 0 < most <= 3
    assert background(model) == [None] * 3


def test_bagged_members_and_background_members_have_distinct_seeds() -> None:
    model = ADWINBaggingRegressor(adaptive_tree(0), n_models=4, seed=1)
    assert len({member.seed for member in [*model, model.new_member()]}) == 5


@pytest.mark.parametrize(
    "params", [{"rate": 0.0}, {"warning_delta": 0.0}, {"drift_delta": 1.0}, {"horizon": 0}, {"n_models": 1}]
)
def test_bagging_refuses_settings_out_of_range(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        small_bagging(**params)


# Restoring


def whole_model() -> Any:
    bagging = ADWINBaggingRegressor(adaptive_tree(1), n_models=3, seed=2)
    experts = {"bagging": bagging, "tree": adaptive_tree(3), "line": NormalizedLMS()}
    return compose.Pipeline(ExpertPool(experts))


def continue_stream(model: Any, start: int, stop: int) -> list[str]:
    outputs = []
    for i, (x, y) in enumerate(changing_stream(stop, 1500, seed=8)):
        if i >= start:
            outputs.append(model.predict_one(x).hex())
            model.learn_one(x, y)
    return outputs


CONTINUE = """
import pickle, sys
from tests.test_experts import continue_stream
model = pickle.load(sys.stdin.buffer)
print("\\n".join(continue_stream(model, int(sys.argv[1]), int(sys.argv[2]))))
"""


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 700, 1560, 1900])
def test_restored_model_continues_bit_for_bit(at: int) -> None:
    model = whole_model()
    continue_stream(model, 0, at)
    restored = pickle.loads(pickle.dumps(model))
    assert continue_stream(restored, at, at + 500) == continue_stream(model, at, at + 500)


@pytest.mark.slow
@pytest.mark.parametrize("hash_seed", ["1", "20"])
def test_model_restored_in_another_process_continues_bit_for_bit(hash_seed: str) -> None:
    model = whole_model()
    continue_stream(model, 0, 1560)
    child = subprocess.run(
        [sys.executable, "-c", CONTINUE, "1560", "2600"],
        input=pickle.dumps(model),
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
    )
    assert child.stdout.decode().split() == continue_stream(model, 1560, 2600)
    assert model["ExpertPool"].experts["bagging"].n_drifts > 0


# Pool


def test_pool_predicts_zero_before_any_label() -> None:
    pool = ExpertPool({"bad": Exploding()})
    assert pool.predict_one({"a": 1.0}) == 0.0
    assert pool.expert_outputs({"a": 1.0}) == {"bad": 0.0}


def test_pool_clips_experts_and_replaces_outputs_that_are_not_finite() -> None:
    outputs = {"high": 1e308, "low": -1e9, "nan": math.nan, "inf": math.inf, "inside": 2.5}
    pool = ExpertPool({name: Exploding(output) for name, output in outputs.items()})
    for y in (1.0, 2.0, 6.0):
        pool.learn_one({"a": 1.0}, y)
    expected = {"high": 6.0, "low": 1.0, "nan": 3.0, "inf": 3.0, "inside": 2.5}
    assert pool.expert_outputs({"a": 1.0}) == pytest.approx(expected)
    assert 1.0 <= pool.predict_one({"a": 1.0}) <= 6.0
    assert (pool.low, pool.high) == (1.0, 6.0)
    assert sum(pool.weights().values()) == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_pool_refuses_a_target_that_is_not_finite_and_learns_nothing(bad: float) -> None:
    expert = Exploding(1.0)
    pool = ExpertPool({"one": expert})
    with pytest.raises(ValueError, match="target must be finite"):
        pool.learn_one({"a": 1.0}, bad)
    assert (expert.n_learned, pool.n_seen) == (0, 0)


def test_pool_mean_stays_finite_for_huge_targets() -> None:
    pool = ExpertPool({"bad": Exploding()})
    for y in (1.7e308, -1.7e308, 1.7e308):
        pool.learn_one({"a": 1.0}, y)
    assert math.isfinite(pool.predict_one({"a": 1.0}))


def test_pool_without_experts_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one expert"):
        ExpertPool({})


def test_cloned_pool_is_untaught_even_inside_a_pipeline() -> None:
    model = compose.Pipeline(ExpertPool({"line": NormalizedLMS()}))
    model.learn_one({"a": 1.0}, 5.0)
    fresh = model.clone()["ExpertPool"]
    assert fresh.experts["line"].weights == {}
    assert fresh.n_seen == 0
    assert model["ExpertPool"].experts["line"].weights


def test_pool_learns_from_outputs_as_served_and_once() -> None:
    pools = [ExpertPool({"right": Exploding(5.0), "wrong": Exploding(9.0)}) for _ in range(2)]
    for pool in pools:
        for y in (5.0, 9.0):
            pool.learn_one({"a": 1.0}, y)
    for _ in range(30):
        pools[0].set_served_outputs([9.0, 5.0])  # served the other way round
        for pool in pools:
            pool.learn_one({"a": 1.0}, 5.0)
    assert pools[0].predict_one({"a": 1.0}) == pytest.approx(9.0, abs=0.5)
    assert pools[1].predict_one({"a": 1.0}) == pytest.approx(5.0, abs=0.5)
    assert pools[1].weights()["right"] > 0.9


def test_pool_takes_outputs_served_before_an_expert_existed() -> None:
    pool = ExpertPool({"old": Exploding(5.0), "new": Exploding(5.0)})
    pool.learn_one({"a": 1.0}, 4.0)
    for served in ([4.5], [4.5, math.nan], []):
        pool.set_served_outputs(served)
        pool.learn_one({"a": 1.0}, 6.0)
    assert math.isfinite(pool.predict_one({"a": 1.0}))


def test_pool_shows_each_expert_its_view() -> None:
    seen: dict[str, dict[str, float]] = {}

    class Watcher(Exploding):
        def __init__(self, name: str = "w") -> None:
            super().__init__(1.0)
            self.name = name

        def learn_one(self, x: dict[str, float], y: float) -> None:  # noqa: ARG002 - River's signature
            seen[self.name] = dict(x)

    views = {"raw": FeatureView(scaled=False), "some": FeatureView(columns=frozenset({"a"}))}
    pool = ExpertPool({name: Watcher(name) for name in ("all", "raw", "some")}, views)
    for value in (2.0, 4.0):
        pool.learn_one({"a": value, "b": 10.0}, 1.0)
    assert seen == {"all": {"a": 1.0, "b": 0.0}, "raw": {"a": 4.0, "b": 10.0}, "some": {"a": 1.0}}
    with pytest.raises(ValueError, match="'odd'"):
        ExpertPool({"raw": Exploding()}, {"odd": FeatureView()})


@pytest.mark.slow
@pytest.mark.parametrize("on", [False, True])
def test_rivers_trees_are_imported_only_where_they_are_switched_on(on: bool) -> None:
    code = (
        "import sys\n"
        "from online.core.config import ExpertsConfig, ModelConfig\n"
        "from online.core.schema import Feature, Schema, Target\n"
        "from online.learning.learner import Learner\n"
        "from online.model.pipeline import POOL, build_pipeline\n"
        "schema = Schema('s', Target('y'), (Feature('a', 'numeric'),))\n"
        f"pool = build_pipeline(schema, ModelConfig(), ExpertsConfig(trees={on}))[POOL]\n"
        "print('bagging' in pool.experts, 'tree' in pool.experts)\n"
        "print(*(name in sys.modules for name in ('online.model.experts.river', 'river.tree')))\n"
    )
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert child.stdout.split() == [str(on)] * 4
