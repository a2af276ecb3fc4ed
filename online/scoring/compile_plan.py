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
from online.scoring.plan import IntervalFactors, PlanInfo, ScoringPlan
from online.scoring.tree_arrays import (
    NO_INDEX,
    Leaves,
    LineInputs,
    Nodes,
    Trees,
    constant_trees,
    lay_out,
    linear_trees,
)

__all__ = ["compile_plan"]

FOREST_MISSING_ABOVE = 1e30  # beyond this a forest takes a value for missing


def compile_plan(
    pipeline: compose.Pipeline, schema: Schema, *, version: int, seq: int, interval: ConformalInterval
) -> ScoringPlan:
    """Compile a pipeline, and how far intervals reach.

    Nothing is built for scoring yet: a plan that is only published needs none of it.

    Parameters
    ----------
    pipeline
        Made by :func:`online.model.pipeline.build_pipeline`; it is only read.
    schema
        What its rows are.
    version
        The newest snapshot of its lineage.
    seq
        The last journal record that it learned.
    interval
        The intervals around its predictions.

    Returns
    -------
    ScoringPlan
        Which shares no array with the pipeline.

    Raises
    ------
    PlanError
        The pipeline holds an expert or a node that this version cannot compile.
    """
    columns = pipeline[ENCODER].columns
    pool: ExpertPool = pipeline[POOL]
    trees = [expert_trees(expert, columns_read(pool, name, columns)) for name, expert in pool.experts.items()]
    arrays = lay_out(trees) | row_arrays(pipeline, columns) | head_arrays(pool)
    arrays["context"] = np.array(pipeline[ENCODER].context_cells(), dtype=float)
    arrays["group_error"] = np.array(interval.error_scale.cells)
    low, high = (pool.low, pool.high) if pool.n_seen else (0.0, 0.0)
    info = PlanInfo(
        schema=schema,
        version=version,
        seq=seq,
        experts=tuple(pool.experts),
        low=low,
        high=high,
        fallback=pool.target_mean,
        interval=interval_factors(interval),
        river=river.__version__,
    )
    return ScoringPlan(info, arrays)


def interval_factors(interval: ConformalInterval) -> IntervalFactors:
    """How far intervals reach now."""
    below, above = interval.factors()
    scale = interval.error_scale
    return IntervalFactors(below=below, above=above, level=scale.level, disagreement=scale.disagreement)


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
        "head_bias": heads.bias,
        "head_margin": heads.margin,
        "head_share": heads.share,
        "head_weight": heads.weights,
        "expert_weight": np.array(list(pool.weights().values()), dtype=float),
    }


def columns_read(pool: ExpertPool, name: str, columns: list[str]) -> dict[str, int]:
    """Where in a row, values first and scaled ones then, each column is that an expert reads."""
    view = pool.views.get(name, ALL_FEATURES)
    first = len(columns) if view.scaled else 0
    return {
        column: first + index
        for index, column in enumerate(columns)
        if view.columns is None or column in view.columns
    }


@functools.singledispatch
def expert_trees(expert: object, columns: dict[str, int]) -> Trees:
    """One expert as trees; ``columns`` says where in a row each column is that it reads."""
    # imported here, as half of SciPy comes with River's trees, which are off by default
    from online.scoring.river_tree_arrays import river_trees

    return river_trees(expert, columns)


@expert_trees.register(NormalizedLMS)
@expert_trees.register(RecursiveLeastSquares)
def _(expert: Any, columns: dict[str, int]) -> Trees:
    known = expert.weights
    weights = np.array([[known.get(column, 0.0) for column in columns]])
    return linear_trees(np.array([expert.intercept]), weights, np.array(list(columns.values()), int))


@expert_trees.register
def _(expert: ColumnValue, columns: dict[str, int]) -> Trees:
    if expert.column not in columns:
        return constant_trees(math.nan)  # the fallback stands in
    return linear_trees(np.zeros(1), np.ones((1, 1)), np.array([columns[expert.column]]))


@expert_trees.register
def _(expert: AdaptiveForestRegressor, columns: dict[str, int]) -> Trees:
    row, trees = expert.row_bounds(), expert.members()
    if not len(trees.root):
        return constant_trees(0.0)
    column_of = np.array(
        [*(columns[name] for name in row.features), NO_INDEX], int
    )  # NO_INDEX[-1] is for leaves
    has_line = trees.lines[:, :-1].any(axis=1)
    return Trees(
        roots=trees.root,
        tree_weights=trees.weight,
        nodes=Nodes(
            column=column_of[trees.feature],
            threshold=trees.threshold,
            left=trees.left,
            right=trees.right,
            leaf=trees.leaf,
            missing_right=~trees.default_left,
        ),
        leaves=Leaves(
            intercept=trees.lines[:, -1],
            low=trees.low,
            high=trees.high,
            line=np.where(has_line, np.cumsum(has_line) - 1, NO_INDEX),
            weights=trees.lines[has_line, :-1],
        ),
        inputs=LineInputs(columns=column_of[:-1], low=row.low, high=row.high, fill=row.fill),
        missing_above=FOREST_MISSING_ABOVE,
    )


@expert_trees.register
def _(expert: BoostedTrees, columns: dict[str, int]) -> Trees:
    trees = expert.trees
    if trees is None or any(column not in columns for column in trees.columns):
        return constant_trees(math.nan)  # untrained, or trained on other columns: the fallback stands in
    inner = trees.feature >= 0
    column_of = np.array([columns[column] for column in trees.columns], int)
    return Trees(
        roots=trees.root,
        tree_weights=np.ones(len(trees.root)),
        nodes=Nodes(
            column=np.where(inner, column_of[trees.feature], NO_INDEX),
            threshold=trees.threshold,
            left=trees.left,
            right=trees.right,
            leaf=np.cumsum(~inner) - 1,
        ),
        leaves=Leaves(intercept=trees.value[~inner]),
    )
