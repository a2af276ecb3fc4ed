"""Rows predicted and learned many at a time are predicted and learned as row by row, to the last bit."""

from __future__ import annotations

import collections
import random
from collections.abc import Callable
from typing import Any

import pytest

from online.core.config import Config, ExpertsConfig, ModelConfig
from online.core.schema import ContextFeature, Feature, Target
from online.features.row_encoder import CONTEXT
from online.learning.fold import Fold, FoldState
from online.learning.progressive import Progressive
from online.model.pipeline import ENCODER, build_pipeline
from online.scoring.compile_plan import compile_plan

FEATURES = (
    Feature("hour", "cyclic", period=24),
    Feature("wind", "numeric", low=0, high=30),
    Feature("site", "category", values=("A", "B")),
)
CONTEXTS = (ContextFeature("level", ("site",)), ContextFeature("last", ("hour",), kind="lag"))
ROWS = 130

Row = tuple[dict[str, Any], float]
Shown = list[tuple[object, ...]]


def config(**model: Any) -> Config:
    """Settings of a small pool with every kind of expert."""
    return Config(
        stream="made",
        target=Target("output", low=0, high=100),
        features=FEATURES,
        context=CONTEXTS,
        model=ModelConfig(n_models=3, **model),
        experts=ExpertsConfig(trees=True, trees_models=2),
    )


def stream(seed: int) -> list[Row]:
    """Rows with dirt in them, one with a field nobody asked for."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for place in range(ROWS):
        wind = rng.uniform(0, 20)
        row = {"hour": place % 24, "wind": wind, "site": rng.choice("AB")}
        dirt = rng.random()
        if dirt < 0.1:
            row[rng.choice(list(row))] = rng.choice([None, "?", 1e308, "7.5"])
        elif dirt < 0.15:
            row["colour"] = "red"
        rows.append((row, 3 * wind + place % 24 + rng.gauss(0, 1)))
    return rows


def row_by_row(fold: Fold, rows: list[Row], delay: int) -> Shown:
    """What :class:`Progressive` does, by what a server and its learner do with a row."""
    shown: Shown = []
    waiting: collections.deque[Any] = collections.deque()

    def learn() -> None:
        row, target, guess, width = waiting.popleft()
        fold.update_interval(row, guess.outputs, target - guess.prediction, delay=len(waiting), width=width)
        fold.learn(row | {CONTEXT: guess.context}, target, guess.outputs, len(waiting))
        shown.append((target, fold.pipeline[ENCODER].as_served(row, guess.context)))

    for features, target in rows:
        row = fold.with_encoded(features)
        guess = fold.predict(row)
        shown.append((target, guess))
        waiting.append((row, target, guess, sum(fold.interval_bounds(row, guess.outputs))))
        if len(waiting) > delay:
            learn()
    while waiting:
        learn()
    return shown


def together(size: int) -> Callable[[Fold, list[Row], int], Shown]:
    """So many rows at a time."""

    def run(fold: Fold, rows: list[Row], delay: int) -> Shown:
        progressive = Progressive(fold, delay)
        visits = [v for at in range(0, len(rows), size) for v in seen(progressive.run(rows[at : at + size]))]
        return visits + seen(progressive.finish())

    def seen(visits: Any) -> Shown:
        return [(row.target, row.values if learned else row.details) for row, learned in visits]

    return run


def outcome(way: Callable[..., Shown], settings: Config, delay: int) -> tuple[str, bytes, object]:
    """What was shown row after row, the plan in the end, and the fold's own count and row."""
    fold = Fold(
        build_pipeline(settings.schema, settings.model, settings.experts), FoldState(settings), restore=str
    )
    shown = way(fold, stream(7), delay)
    plan = compile_plan(fold.pipeline, settings.schema, version=1, seq=1, interval=fold.state.interval)
    return repr(shown), plan.dumps(), (fold.state.learned, repr(fold.state.last))


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0, 50])
@pytest.mark.parametrize("delay", [0, 5, ROWS + 1])
def test_many_at_a_time_are_as_row_by_row(delay: int, memory: int) -> None:
    settings = config(bootstrap_delay=delay, scaler_memory=memory)
    wanted = outcome(row_by_row, settings, delay)
    for size in (1, 7, ROWS):
        assert outcome(together(size), settings, delay) == wanted
