"""The scoring plan gives just what the pipeline gives."""

from __future__ import annotations

import functools
import itertools
import json
import math
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from river import checks, compose, dummy

from online.core.config import ExpertsConfig, ModelConfig
from online.core.errors import PlanError
from online.core.schema import ContextFeature, Feature, Schema, Target
from online.features.error_scale import error_scale_columns
from online.features.row_encoder import RowEncoder
from online.forest.regressor import AdaptiveForestRegressor
from online.model.intervals import ConformalInterval
from online.model.pipeline import POOL, build_pipeline
from online.model.pool import ExpertPool
from online.model.scaling import FadedScaler
from online.scoring import plan_file
from online.scoring.compile_plan import compile_plan
from online.scoring.plan import FEW, PlanInfo, ScoringPlan
from tests.support.river_contract import checked_settings
from tests.test_encoding import FEATURES, rows

BY_NAME = {feature.name: feature for feature in FEATURES}
WIDE = (Feature("wind", "numeric"), Feature("flow", "numeric"))  # no known range: up to 1e15 is taken
CONTEXT = (
    ContextFeature("level", (), 0.05),
    ContextFeature("by site", ("site",), 0.1),
    ContextFeature("by site and hour", ("site", "hour"), 0.3),
    ContextFeature("by weekday", ("day",), 0.2),
    ContextFeature("by hour of time", ("at:hour",), 1.0),
)
HISTORIES = (
    ContextFeature("last", (), kind="lag"),
    ContextFeature("third last by site", ("site",), kind="lag", labels=3),
    ContextFeature("last four", ("hour",), kind="recent", labels=4),
    ContextFeature("near", ("site", "hour"), 0.2, "near", 5),
    ContextFeature("near in the day", ("at:hour",), 1.0, "near", 3),
    ContextFeature("age", ("day",), kind="age"),
)
TARGET = Target("y", -100, 100)


def schema(*names: str, context: tuple[ContextFeature, ...] = ()) -> Schema:
    return Schema("s", TARGET, tuple(BY_NAME[name] for name in names), context)


SCHEMAS = {
    "numeric": schema("wind", "flow"),
    "wide": Schema("s", TARGET, WIDE),
    "category": schema("site"),
    "cyclic": schema("hour", "phase", "day"),
    "time": schema("at"),
    "context": schema("site", "hour", "day", "at", context=CONTEXT),
    "histories": schema("site", "hour", "day", "at", context=HISTORIES),
    "everything": Schema("s", TARGET, FEATURES, CONTEXT),
    "nothing": Schema("s", TARGET, ()),
    "all dropped": Schema("s", TARGET, (Feature("wind", "dropped"),), (ContextFeature("level"),)),
}
ALL_EXPERTS = ExpertsConfig(trees=True, trees_models=2)
STAGES = (0, 1, 10, 300, 3000)
NASTY = (
    None, math.nan, math.inf, -math.inf, 1e308, -1e308, 1e15, 1e-320, "", "nan", "unseen", "1e999", "-4",
    [1.0], {"a": 1}, True, 10**400, "2024-02-30", "2024-02-29T23:59:59+14:00",
)  # fmt: skip


def plain_row(rng: random.Random) -> dict[str, Any]:
    """What a client sends on a good day."""
    return {
        "wind": rng.uniform(0, 30),
        "flow": rng.gauss(1000, 300),
        "site": rng.choice(["A", 3, "2.5"]),
        "hour": rng.randrange(24),
        "phase": rng.uniform(0, 7),
        "day": rng.choice(["Mon", "tue", "WED", "Thu", "Fri", "Sat", "Sun"]),
        "at": f"2024-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:30:00",
    }


def dirty_row(rng: random.Random) -> dict[str, Any]:
    """What a client sends on a bad day."""
    row = plain_row(rng) | {"unknown": 1}
    for name in rng.sample(sorted(row), rng.randrange(4)):
        row[name] = rng.choice(NASTY)
    for name in rng.sample(sorted(row), rng.randrange(2)):
        del row[name]
    return row


def truth(row: dict[str, Any], rng: random.Random) -> float:
    sign = 1.0 if row["hour"] < 12 else -1.0
    output: float = sign * row["wind"] + 5.0 * (row["site"] == "A") + row["flow"] / 500 + rng.gauss(0, 0.5)
    return output


def lessons(seed: int, *, flipped: bool = False) -> Iterator[tuple[dict[str, Any], float]]:
    """Labelled rows without end, one in ten of them dirty; flipped is the world after an abrupt drift."""
    rng = random.Random(seed)
    while True:
        row = plain_row(rng)
        y = truth(row, rng)
        if rng.random() < 0.1:
            row |= {name: rng.choice(NASTY) for name in rng.sample(sorted(row), 2)}
        yield row, 60.0 - 3.0 * y if flipped else y


Stage = tuple[compose.Pipeline, ScoringPlan]


def compiled(pipeline: compose.Pipeline, name: str) -> ScoringPlan:
    return compile_plan(
        pipeline,
        SCHEMAS[name],
        version=1,
        seq=0,
        interval=ConformalInterval(0.9, error_scale_columns(SCHEMAS[name])),
    )


@functools.cache
def stages(name: str) -> dict[int, Stage]:
    """A stream's pipeline after so many rows, with its plan."""
    pipeline = build_pipeline(SCHEMAS[name], ModelConfig(n_models=2), ALL_EXPERTS)
    found, stream = {}, lessons(7)
    for count in range(max(STAGES) + 1):
        if count in STAGES:
            kept = pickle.loads(pickle.dumps(pipeline))
            found[count] = (kept, compiled(kept, name))
        pipeline.learn_one(*next(stream))
    return found


def branches_with_alternates(pipeline: compose.Pipeline) -> list[Any]:
    """The branches of the pipeline's River trees that have another tree beside them."""
    experts = pipeline[POOL].experts
    waiting = [tree._root for tree in (*experts["bagging"], experts["tree"])]  # noqa: SLF001 - River names no other way
    found = []
    while waiting:
        node = waiting.pop()
        if hasattr(node, "children"):
            waiting += node.children
            found += [node] if getattr(node, "_alternate_tree", None) is not None else []
    return found


@functools.cache
def drifted(name: str) -> Stage:
    """A stream's pipeline soon after an abrupt drift, while alternate trees grow."""
    pipeline = pickle.loads(pickle.dumps(stages(name)[3000][0]))
    stream = lessons(8, flipped=True)
    for count in range(3000):
        pipeline.learn_one(*next(stream))
        if count % 20 == 0 and branches_with_alternates(pipeline):
            return pipeline, compiled(pipeline, name)
    raise AssertionError("no alternate tree was started in 3,000 rows")


def transformed(pipeline: compose.Pipeline, row: dict[str, Any]) -> dict[str, float]:
    """A raw row as the pool sees it."""
    x: Any = row
    for step in list(pipeline.steps.values())[:-1]:
        x = step.transform_one(x)
    return dict(x)


def outputs_of(plan: ScoringPlan, row: dict[str, Any]) -> np.ndarray:
    """The experts' outputs for a raw row."""
    values = plan.encoder.encode(row).values
    outputs: np.ndarray = plan.score(np.array([values + plan.context(values)]))[1][0]
    return outputs


def assert_plan_is_pipeline(stage: Stage, row: dict[str, Any]) -> None:
    pipeline, plan = stage
    expected, scored = pipeline.predict_one(row), plan.score_row(row)
    assert math.isfinite(scored)
    assert scored == pytest.approx(expected, rel=1e-9, abs=1e-9)
    outputs = outputs_of(plan, row)
    wanted = pipeline[POOL].expert_outputs(transformed(pipeline, row))
    assert plan.info.experts == tuple(wanted)
    assert np.isfinite(outputs).all()
    assert outputs.tolist() == pytest.approx(list(wanted.values()), rel=1e-9, abs=1e-9)


plausible_rows = st.fixed_dictionaries(
    {},
    optional={
        "wind": st.floats(-300, 330) | st.sampled_from(NASTY),
        "flow": st.floats(-1e15, 1e15) | st.integers(0, 2000) | st.sampled_from(NASTY),
        "site": st.sampled_from(["A", "3", 3, 3.0, 2.5, "a", "new", 1e16]) | st.sampled_from(NASTY),
        "hour": st.integers(-30, 50) | st.floats(-24, 47) | st.sampled_from(NASTY),
        "phase": st.floats(-7, 14) | st.sampled_from(NASTY),
        "day": st.sampled_from(["Mon", "SUN", "Monday"]) | st.sampled_from(NASTY),
        "at": st.datetimes().map(lambda when: when.isoformat()) | st.sampled_from(NASTY),
        "unknown": st.integers(),
    },
)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMAS)
def test_plan_gives_what_the_pipeline_gives_for_any_row_at_any_stage(name: str) -> None:
    @given(row=plausible_rows | rows)
    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def check(row: dict[str, Any]) -> None:
        for stage in stages(name).values():
            assert_plan_is_pipeline(stage, row)

    check()
    rng = random.Random(11)
    for _ in range(60):
        row = dirty_row(rng)
        for stage in stages(name).values():
            assert_plan_is_pipeline(stage, row)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numeric", "everything"])
def test_plan_gives_what_the_pipeline_gives_while_alternate_trees_grow(name: str) -> None:
    rng = random.Random(12)
    before = stages(name)[3000][1]
    assert len(before.arrays["node"]) > len(before.arrays["tree_root"])  # trees have grown
    alternates = 0
    pipeline, plan = drifted(name)
    without = pickle.loads(pickle.dumps(pipeline))
    for branch in branches_with_alternates(without):
        branch._alternate_tree = None  # noqa: SLF001 - the same
    main_only = compiled(without, name)
    for _ in range(300):
        row = dirty_row(rng)
        assert_plan_is_pipeline((pipeline, plan), row)
        alternates += outputs_of(main_only, row).tolist() != outputs_of(plan, row).tolist()
    assert alternates > 0  # the alternates took part


@pytest.mark.slow
def test_plan_gives_what_the_pipeline_gives_after_a_drift_and_all_the_way_back() -> None:
    pipeline, _ = drifted("everything")
    pipeline = pickle.loads(pickle.dumps(pipeline))
    rng = random.Random(13)
    for flipped in (True, False):
        stream = lessons(14, flipped=flipped)
        for count in range(600):
            pipeline.learn_one(*next(stream))
            if count % 50 == 0:
                plan = compiled(pipeline, "everything")
                for _ in range(10):
                    assert_plan_is_pipeline((pipeline, plan), dirty_row(rng))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e15, 1e30])
def test_plan_gives_what_the_pipeline_gives_after_huge_labels_and_values(size: float) -> None:
    rng = random.Random(15)
    pipeline = build_pipeline(SCHEMAS["wide"], ModelConfig(n_models=2), ALL_EXPERTS)
    values = [0.0, 1e-160, 1.0, -size, 1e15, -1e15, size]
    for count in range(800):
        row = {"wind": rng.choice(values), "flow": rng.choice([*values, rng.gauss(0, 1)])}
        pipeline.learn_one(row, rng.choice([-size, size, 0.0, 1e-300, rng.gauss(0, 1)]))
        if count % 40 == 0:
            plan = compiled(pipeline, "wide")
            for _ in range(5):
                row = {"wind": rng.choice(values), "flow": rng.gauss(0, 1) * rng.choice(values)}
                scored, expected = plan.score_row(row), pipeline.predict_one(row)
                assert math.isfinite(scored)
                assert scored == pytest.approx(expected, rel=1e-9, abs=1e-9 * size)


@pytest.mark.slow
def test_untaught_plan_scores_zero() -> None:
    for name in SCHEMAS:
        assert stages(name)[0][1].score_row({"wind": 3.0}) == 0.0


@pytest.mark.slow
def test_rows_score_together_as_they_score_alone() -> None:
    rng = random.Random(16)
    _, plan = drifted("everything")
    batch = [dirty_row(rng) for _ in range(50)]
    encoded = [plan.encoder.encode(row).values for row in batch]
    matrix = np.array([values + plan.context(values) for values in encoded])
    together, outputs = plan.score(matrix)
    for size in (1, 3, 7):  # trees one after the other, or rows
        parts = [plan.score(matrix[at : at + size]) for at in range(0, len(matrix), size)]
        assert np.concatenate([part[0] for part in parts]).tolist() == together.tolist()
        assert np.concatenate([part[1] for part in parts]).tolist() == outputs.tolist()
    assert together.tolist() == [plan.score_row(row) for row in batch]
    alone = [plan.score_one(row) for row in matrix.tolist()]
    for size in (1, 5, FEW):
        few = [plan.score_few(matrix[at : at + size].tolist()) for at in range(0, len(matrix), size)]
        assert list(itertools.chain(*few)) == alone == [plan.score_one(row) for row in matrix.tolist()]
    assert [score.prediction for score in alone] == together.tolist()
    assert [list(score.experts) for score in alone] == outputs.tolist()
    lower, upper = plan.intervals(matrix, together, outputs)
    for row, *ends in zip(matrix.tolist(), lower, upper, strict=True):
        assert plan.interval(row, plan.score_one(row)) == pytest.approx(ends, rel=1e-9, abs=1e-9)
    nobody, outputs = plan.score(matrix[:0])
    assert (nobody.shape, outputs.shape) == ((0,), (0, len(plan.info.experts)))


@pytest.mark.slow
def test_an_expert_that_is_not_finite_is_held_by_plan_and_pool_alike() -> None:
    plan = stages("numeric")[300][1]
    leaf = plan.arrays["leaf"].copy()
    leaf[-1, 0] = math.inf  # the last linear expert's only leaf
    exploding = ScoringPlan(plan.info, plan.arrays | {"leaf": leaf})
    values = plan.encoder.encode({"wind": 3.0, "flow": 900.0}).values
    predictions, outputs = exploding.score(np.array([values]))
    assert outputs[0][-1] == plan.info.fallback
    assert np.isfinite(predictions).all()


@functools.cache
def forests() -> list[Stage]:
    """A pipeline with nothing but two forests, as it learns a stream that drifts."""
    pool = ExpertPool(
        {
            "slow": AdaptiveForestRegressor(n_models=4, grace=40.0, seed=1),
            "fast": AdaptiveForestRegressor(n_models=3, grace=20.0, horizon=300, decay=0.9, seed=2),
        }
    )
    pipeline = build_pipeline(SCHEMAS["everything"], ModelConfig())
    pipeline.steps[POOL] = pool
    found, before, after = [], lessons(31), lessons(32, flipped=True)
    for count in range(3001):
        if count in (0, 1, 50, 1500, 3000):
            kept = pickle.loads(pickle.dumps(pipeline))
            found.append((kept, compiled(kept, "everything")))
        pipeline.learn_one(*next(before if count < 2000 else after))
    return found


@pytest.mark.slow
def test_plan_gives_what_forests_give_for_any_row_at_any_stage() -> None:
    @given(row=plausible_rows | rows)
    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def check(row: dict[str, Any]) -> None:
        for stage in forests():
            assert_plan_is_pipeline(stage, row)

    check()
    assert len(forests()[-1][1].arrays["leaf"]) > 50  # trees have grown


@pytest.mark.slow
def test_a_plan_scales_as_a_scaler_that_forgets_does() -> None:
    pipeline, stream = (
        build_pipeline(SCHEMAS["everything"], ModelConfig(n_models=2, scaler_memory=50)),
        lessons(9),
    )
    assert isinstance(pipeline[POOL].scaler, FadedScaler)
    for _ in range(400):
        pipeline.learn_one(*next(stream))
    plan, rng = compiled(pipeline, "everything"), random.Random(34)
    for number in range(200):
        assert_plan_is_pipeline((pipeline, plan), dirty_row(rng) if number % 2 else plain_row(rng))


@pytest.mark.slow
def test_a_forest_takes_a_value_beyond_its_reach_for_missing_in_the_plan_too() -> None:
    pipeline = pickle.loads(pickle.dumps(forests()[-1][0]))
    for column in ("wind", "flow"):
        pipeline[POOL].scaler.vars[column] = 1e-70  # a column that hardly ever moved, and now does
    plan, rng = compiled(pipeline, "everything"), random.Random(33)
    for _ in range(50):
        assert_plan_is_pipeline((pipeline, plan), plain_row(rng))


def test_an_expert_that_cannot_be_compiled_is_named() -> None:
    pipeline = build_pipeline(SCHEMAS["numeric"], ModelConfig())
    pipeline.steps[POOL] = ExpertPool({"odd": dummy.NoChangeClassifier()})
    with pytest.raises(PlanError, match="NoChangeClassifier"):
        compiled(pipeline, "numeric")


# Immutability


def test_arrays_are_read_only() -> None:
    plan = stages("everything")[300][1]
    for name, array in plan.arrays.items():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        assert not array.flags.writeable, name


def test_learning_on_leaves_a_compiled_plan_as_it_was() -> None:
    pipeline = pickle.loads(pickle.dumps(stages("everything")[300][0]))
    plan = compiled(pipeline, "everything")
    row = plain_row(random.Random(17))
    before, content = plan.score_row(row), plan.dumps()
    stream = lessons(18, flipped=True)
    for _ in range(50):
        pipeline.learn_one(*next(stream))
    assert plan.score_row(row) == before
    assert plan.dumps() == content
    assert pipeline.predict_one(row) != before


# Files


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMAS)
def test_saved_plan_loads_as_the_same_plan(name: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.safetensors"
    rng = random.Random(19)
    for _, plan in [*stages(name).values(), *([drifted(name)] if name == "everything" else [])]:
        plan.save(path)
        loaded = ScoringPlan.load(path)
        assert loaded.info == plan.info
        for array, other in zip(plan.arrays.values(), loaded.arrays.values(), strict=True):
            assert (array.dtype, array.shape, array.tobytes()) == (other.dtype, other.shape, other.tobytes())
            assert not other.flags.writeable
        for row in (dirty_row(rng) for _ in range(20)):
            assert loaded.score_row(row) == plan.score_row(row)


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_torn_plan_is_refused(data: st.DataObject, tmp_path: Path) -> None:
    whole = stages("everything")[10][1].dumps()
    path = tmp_path / "plan.safetensors"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(PlanError, match=r"plan\.safetensors"):
        ScoringPlan.load(path)


def test_a_plan_is_a_safetensors_file() -> None:
    plan = stages("everything")[300][1]
    arrays = safetensors.numpy.load(plan.dumps())
    assert set(arrays) == set(plan.arrays)
    for name, array in plan.arrays.items():
        assert arrays[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("said", "refused"),
    [({}, r"format 1.*start the learner"), ({"format": 99}, r"format 99, of a later release.*upgrade")],
    ids=["format 1", "a later one"],
)
def test_a_plan_of_another_format_is_refused_by_name(
    said: dict[str, int], refused: str, tmp_path: Path
) -> None:
    plan, path = stages("numeric")[10][1], tmp_path / "plan.safetensors"
    head = {"info": msgspec.to_builtins(plan.info), "sha256": "0" * 64} | said
    path.write_bytes(safetensors.numpy.save({"impute": np.zeros(2)}, {"plan": json.dumps(head)}))
    with pytest.raises(PlanError, match=rf"plan\.safetensors is a plan of {refused}"):
        ScoringPlan.load(path)


def with_link_bit(bit: int) -> Callable[[np.ndarray], np.ndarray]:
    """Nodes whose links all have a bit set."""
    return lambda node: np.column_stack((node[:, 0], node[:, 1] | 1 << bit))


def with_first(value: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.concatenate(([value], array[1:]))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("tree_root", with_first(10**6), "'tree_root' points outside 'node'"),
        ("tree_root", with_first(-1), "'tree_root' points outside 'node'"),
        ("read_column", with_first(10**6), "'read_column' points outside the columns of a row"),
        ("expert_tree_start", with_first(1), "'expert_tree_start' does not divide 'tree_root'"),
        ("leaf", lambda leaf: leaf + 1e6, "'leaf' points outside 'weight'"),
        ("leaf", lambda leaf: leaf[:1], "'node' points outside 'leaf'"),
        ("node", with_link_bit(30), "'node' points outside 'node'"),
        ("node", with_link_bit(50), "'node' points outside the columns of a row"),
        ("mean", lambda mean: mean[1:], "'mean' is of shape"),
        ("weight", lambda weight: weight[:, None], "'weight' has 2 dimensions, not 1"),
        ("scale", lambda scale: np.full(len(scale), "text"), "'scale' cannot be read as float64"),
    ],
    ids=lambda value: None if callable(value) else str(value)[:60],
)
def test_a_bad_plan_names_its_array(name: str, change: Callable[[np.ndarray], np.ndarray], said: str) -> None:
    plan = drifted("everything")[1]
    with pytest.raises(PlanError, match=f"array {said}"):
        ScoringPlan(plan.info, plan.arrays | {name: change(plan.arrays[name])})


def test_a_plan_that_is_only_published_builds_nothing_for_scoring() -> None:
    plan = compiled(stages("everything")[300][0], "everything")
    bare = set(vars(plan))
    plan.dumps()
    assert set(vars(plan)) == bare
    plan.prepare()
    prepared = set(vars(plan))
    assert prepared > bare
    plan.score_row(plain_row(random.Random(22)))
    plan.score(np.zeros((40, plan.columns)))
    assert set(vars(plan)) == prepared


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_plan_is_refused(data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(stages("everything")[10][1].dumps())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "plan.safetensors"
    path.write_bytes(content)
    with pytest.raises(PlanError, match=r"plan\.safetensors"):
        ScoringPlan.load(path)


@given(content=st.binary(max_size=300))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_foreign_bytes_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "plan.safetensors"
    path.write_bytes(content)
    with pytest.raises(PlanError):
        ScoringPlan.load(path)


def with_info(change: Callable[[dict[str, Any]], object]) -> bytes:
    plan = stages("everything")[10][1]
    info = json.loads(msgspec.json.encode(plan.info))
    change(info)
    return plan_file.dumps(json.dumps(info).encode(), plan.arrays)


def without(array: str) -> bytes:
    plan = stages("everything")[10][1]
    arrays = {name: value for name, value in plan.arrays.items() if name != array}
    return plan_file.dumps(msgspec.json.encode(plan.info), arrays)


def with_tree_of_no_expert() -> bytes:
    plan = stages("everything")[10][1]
    arrays = plan.arrays | {"expert_tree_start": plan.arrays["expert_tree_start"] + 100}
    return plan_file.dumps(msgspec.json.encode(plan.info), arrays)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda: safetensors.numpy.save({"a": np.zeros(3)}), id="no metadata"),
        pytest.param(lambda: safetensors.numpy.save({"a": np.zeros(3)}, {"b": "c"}), id="other metadata"),
        pytest.param(lambda: safetensors.numpy.save({"a": np.zeros(3)}, {"plan": "{"}), id="no JSON"),
        pytest.param(lambda: with_info(lambda info: info.pop("seq")), id="a field is missing"),
        pytest.param(lambda: with_info(lambda info: info.update(low="x")), id="a field of another type"),
        pytest.param(
            lambda: with_info(lambda info: info["schema"]["target"].update(name="")), id="no schema"
        ),
        pytest.param(lambda: without("leaf"), id="an array is missing"),
        pytest.param(with_tree_of_no_expert, id="a tree of no expert"),
    ],
)
def test_foreign_plan_is_refused(content: Callable[[], bytes], tmp_path: Path) -> None:
    path = tmp_path / "plan.safetensors"
    path.write_bytes(content())
    with pytest.raises(PlanError, match=r"plan\.safetensors"):
        ScoringPlan.load(path)


def test_a_plan_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(PlanError):
            ScoringPlan.load(path)


def test_plan_info_grows_by_defaulted_fields_only() -> None:
    info = stages("numeric")[1][1].info
    content = json.loads(msgspec.json.encode(info)) | {"a field of a later version": 1}
    assert msgspec.json.decode(json.dumps(content), type=PlanInfo) == info


# River's contract


ENCODER = RowEncoder(**checked_settings(RowEncoder)[0])
# River's own check calls learn_one(x) of every base.Transformer; the encoder is a supervised one, which a
# River 0.26.1 pipeline only takes for a transformer when it is a base.Transformer
NOT_FOR_ENCODER = {"check_transform_one"}
# River's StatImputer keeps the very statistics it is given, so its clones share them; nothing here clones
# a whole pipeline
NOT_FOR_PIPELINE = {"check_clone_is_independent"}


def contract_pipeline() -> compose.Pipeline:
    params = checked_settings(RowEncoder)[0]
    return build_pipeline(
        Schema("s", Target("y"), params["features"], params["context"]), ModelConfig(n_models=2)
    )


def contract(model: Any, skipped: set[str]) -> list[Any]:
    found = list(checks.yield_checks(model))
    assert skipped <= {check.__name__ for check in found}
    return [
        pytest.param(check, id=f"{check.__name__}-{i}")
        for i, check in enumerate(found)
        if check.__name__ not in skipped
    ]


@pytest.mark.slow
@pytest.mark.parametrize("check", contract(ENCODER, NOT_FOR_ENCODER))
def test_encoder_keeps_rivers_contract(check: Callable[[Any], None]) -> None:
    check(ENCODER.clone())


@pytest.mark.slow
@pytest.mark.parametrize("check", contract(contract_pipeline(), NOT_FOR_PIPELINE))
def test_pipeline_keeps_rivers_contract(check: Callable[[Any], None]) -> None:
    check(contract_pipeline())


def test_encoder_transforms_to_its_columns_and_a_clone_learns_apart() -> None:
    encoder, rng = RowEncoder(FEATURES, CONTEXT), random.Random(20)
    clone = encoder.clone()
    untaught = pickle.dumps(clone)
    for _ in range(50):
        row = plain_row(rng)
        encoder.learn_one(row, rng.gauss(0, 1))
        assert list(encoder.transform_one(row)) == encoder.columns
    assert pickle.dumps(clone) == untaught


def test_predicting_leaves_the_pipeline_as_it_was() -> None:
    pipeline = pickle.loads(pickle.dumps(stages("everything")[300][0]))
    before = compiled(pipeline, "everything").dumps()
    rng = random.Random(21)
    for _ in range(50):
        pipeline.predict_one(dirty_row(rng))
    assert compiled(pipeline, "everything").dumps() == before
