"""From the River pipeline to the scoring plan that gives just what its ``predict_one`` gives."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import river
from river import compose

from online.core.jit import Array
from online.core.schema import Schema
from online.forest.regressor import AdaptiveForestRegressor
from online.model.experts.boosted import BoostedTrees
from online.model.experts.column_value import ColumnValue
from online.model.experts.nlms import NormalizedLMS
from online.model.experts.rls import RecursiveLeastSquares
from online.model.intervals import ConformalInterval
from online.model.pipeline import ENCODER, IMPUTER, POOL
from online.model.pool import ALL_FEATURES, ExpertPool
from online.model.scaling import deviations_of
from online.scoring.plan import PlanInfo, Reach, ScoringPlan
from online.scoring.tree_arrays import NOWHERE, Trees, assembled, lines

__all__ = ["compile_plan"]

LARGEST = 1e30  # beyond this a forest takes a value for missing


def compile_plan(
    pipeline: compose.Pipeline, schema: Schema, *, version: int, seq: int, interval: ConformalInterval
) -> ScoringPlan:
    """Compile a pipeline made by :func:`online.model.pipeline.build_pipeline`, and how far intervals reach.

    Raises
    ------
    PlanError
        The pipeline holds an expert or a node that this version cannot compile.
    """
    columns = pipeline[ENCODER].columns
    pool: ExpertPool = pipeline[POOL]
    trees = [expert_trees(expert, read_by(pool, name, columns)) for name, expert in pool.experts.items()]
    arrays = assembled(trees) | row_arrays(pipeline, columns) | head_arrays(pool)
    arrays["context"] = np.array(pipeline[ENCODER].context_cells(), dtype=float)
    arrays["difficulty"] = np.array(interval.error_scale.cells)
    low, high = (pool.low, pool.high) if pool.n_seen else (0.0, 0.0)
    info = PlanInfo(
        schema,
        version,
        seq,
        tuple(pool.experts),
        low,
        high,
        pool.target_mean,
        reach_of(interval),
        river.__version__,
    )
    return ScoringPlan(info, arrays)


def reach_of(interval: ConformalInterval) -> Reach:
    """How far intervals reach now."""
    below, above = interval.factors()
    return Reach(below, above, interval.error_scale.level, interval.error_scale.disagreement)


def row_arrays(pipeline: compose.Pipeline, columns: list[str]) -> dict[str, Array]:
    """What is imputed, and how columns are scaled."""
    scaler = pipeline[POOL].scaler
    fills, means, deviations = pipeline[IMPUTER].means, scaler.means, deviations_of(scaler)
    return {
        "impute": np.array([fills[c] for c in columns], dtype=float),
        "mean": np.array([means.get(c, 0.0) for c in columns], dtype=float),
        "scale": np.array([deviations.get(c, 0.0) for c in columns], dtype=float),
    }


def head_arrays(pool: ExpertPool) -> dict[str, Array]:
    """How the experts' outputs become one prediction, and what each expert weighs in it."""
    heads = pool.heads()
    return {
        "head_bias": heads.bias, "head_margin": heads.margin, "head_share": heads.share,
        "head_weight": heads.weights, "expert_weight": np.array(list(pool.weights().values()), dtype=float),
    }  # fmt: skip


def read_by(pool: ExpertPool, name: str, columns: list[str]) -> dict[str, int]:
    """Where in a row, values first and scaled ones then, each column is that an expert reads."""
    view = pool.views.get(name, ALL_FEATURES)
    first = len(columns) if view.scaled else 0
    return {
        column: first + place
        for place, column in enumerate(columns)
        if view.columns is None or column in view.columns
    }


@functools.singledispatch
def expert_trees(expert: object, places: dict[str, int]) -> Trees:
    """One expert as trees; ``places`` says where in a row each column that it reads is."""
    from online.scoring.river_tree_arrays import (
        compiled,  # with them comes half of SciPy, and they are off by default
    )

    return compiled(expert, places)


@expert_trees.register(NormalizedLMS)
@expert_trees.register(RecursiveLeastSquares)
def _(expert: Any, places: dict[str, int]) -> Trees:
    known = expert.weights
    weights = np.array([[known.get(column, 0.0) for column in places]])
    return lines(np.array([expert.intercept]), weights, np.array(list(places.values()), int), np.ones(1))


@expert_trees.register
def _(expert: ColumnValue, places: dict[str, int]) -> Trees:
    if expert.column not in places:
        return lines(np.full(1, math.nan), np.zeros((1, 0)), np.zeros(0, int), np.ones(1))
    return lines(np.zeros(1), np.ones((1, 1)), np.array([places[expert.column]]), np.ones(1))


@expert_trees.register
def _(expert: AdaptiveForestRegressor, places: dict[str, int]) -> Trees:
    row, trees = expert.row_bounds(), expert.members()
    if not len(trees.root):
        return lines(np.zeros(1), np.zeros((1, 0)), np.zeros(0, int), np.ones(1))
    read = np.array([*(places[name] for name in row.features), NOWHERE], int)
    sloped, none = trees.lines[:, :-1].any(axis=1), np.full(len(trees.feature), NOWHERE)
    leaves = len(trees.lines)
    return Trees(
        trees.root, trees.weight, read[trees.feature], trees.threshold, trees.left, trees.right, trees.leaf,
        trees.lines[:, -1], np.full(leaves, trees.low), np.full(leaves, trees.high),
        np.where(sloped, np.cumsum(sloped) - 1, NOWHERE), trees.lines[sloped, :-1], read[:-1],
        row.low, row.high, row.fill, ~trees.default_left, none, LARGEST,
    )  # fmt: skip


@expert_trees.register
def _(expert: BoostedTrees, places: dict[str, int]) -> Trees:
    trees = expert.trees
    if trees is None or any(column not in places for column in trees.columns):
        return lines(np.full(1, math.nan), np.zeros((1, 0)), np.zeros(0, int), np.ones(1))
    inner = trees.feature >= 0
    read = np.array([places[column] for column in trees.columns], int)
    answers, none = trees.value[~inner], np.full(len(inner), NOWHERE)
    anything = np.full(len(answers), math.inf)
    return Trees(
        trees.root, np.ones(len(trees.root)), np.where(inner, read[trees.feature], NOWHERE), trees.threshold,
        trees.left, trees.right, np.cumsum(~inner) - 1, answers, -anything, anything,
        np.full(len(answers), NOWHERE), np.zeros((0, 0)), np.zeros(0, int), np.zeros(0), np.zeros(0),
        np.zeros(0), none > 0, none,
    )  # fmt: skip
