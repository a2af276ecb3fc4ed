"""A forest of numbers as plain arrays, from which a row is scored without the forest."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from online.forest import forest_state as state
from online.forest.forest_state import Array, Arrays
from online.forest.inputs import CLIP, MARGIN
from online.forest.inspection import leaf_models

__all__ = ["PlainRow", "PlainTrees", "plain_row", "plain_trees"]


class PlainRow(NamedTuple):
    """What lines make of a row before they read it, feature by feature in the forest's order."""

    features: list[str]  # their names
    low: Array  # (D,): a line reads min(max(value, low), high)
    high: Array  # (D,)
    fill: Array  # (D,): what it reads where a value is missing


class PlainTrees(NamedTuple):
    """The members, all their nodes in one table; arrays own their memory."""

    weight: Array  # (trees,): shares in the prediction, one in sum
    root: Array  # (trees,) int64
    feature: Array  # (nodes,) int64: what a branch asks for; -1 at a leaf
    threshold: Array  # (nodes,): a value goes left if it is at most this
    left: Array  # (nodes,) int64: -1 at a leaf
    right: Array  # (nodes,) int64: -1 at a leaf
    default_left: Array  # (nodes,) bool: where a missing value goes
    leaf: Array  # (nodes,) int64: a leaf's line in ``lines``; -1 at a branch
    lines: Array  # (leaves, D + 1): weights and, last, the intercept of what each leaf answers by now
    low: float  # a leaf answers min(max(line, low), high)
    high: float


def plain_row(arrays: Arrays, features: list[str]) -> PlainRow:
    """The bounds of a row's values as they are now; ValueError if a feature is a category."""
    f = arrays.feature[: len(features)]  # a forest that has met none has room for one
    for name, kind in zip(features, f[:, state.F_KIND], strict=True):
        if kind:
            raise ValueError(f"feature {name!r} is a category: only a forest of numbers has plain arrays")
    mean, reach = f[:, state.F_MEAN], CLIP * np.sqrt(f[:, state.F_VAR])
    reach = np.where(f[:, state.F_N] > CLIP, reach, math.inf)
    return PlainRow(features, mean - reach, mean + reach, mean.copy())


def plain_trees(arrays: Arrays, features: int) -> PlainTrees:
    """The members as they are now, of so many features; ``arrays.say`` must hold their weights."""
    shares = arrays.say / arrays.say.sum() if arrays.say.any() else arrays.say
    trees = arrays.member_i[:, state.TREE]
    there = (arrays.root[trees] != state.NONE) & (shares > 0.0)
    trees, wanted = trees[there], np.zeros(len(arrays.root) + 1, bool)
    wanted[trees] = True  # the last, which NONE finds, is not
    used = int(arrays.counts[state.NODE_HIGH])
    nodes = np.flatnonzero(wanted[arrays.node_i[:used, state.OWNER]])
    number = np.full(used + 1, -1)  # NONE, the last, stays -1
    number[nodes] = np.arange(len(nodes))
    i, f = arrays.node_i[nodes], arrays.node_f[nodes]
    branch = i[:, state.FEATURE] >= 0
    margin = MARGIN * (arrays.par[state.Y_HIGH] - arrays.par[state.Y_LOW])
    return PlainTrees(
        shares[there],
        number[arrays.root[trees]],
        i[:, state.FEATURE].copy(),
        f[:, state.THRESHOLD].copy(),
        number[i[:, state.LEFT]],
        number[i[:, state.RIGHT]],
        i[:, state.DEFAULT] != 0,
        np.where(branch, -1, np.cumsum(~branch) - 1),
        leaf_lines(arrays, nodes[~branch], features),
        float(arrays.par[state.Y_LOW] - margin),
        float(arrays.par[state.Y_HIGH] + margin),
    )


def leaf_lines(arrays: Arrays, leaves: Array, features: int) -> Array:
    """What leaves answer by as lines; a mean is an intercept alone."""
    model = leaf_models(arrays, leaves)
    lines = np.zeros((len(leaves), arrays.line.shape[2]))
    lines[model == 0, -1] = arrays.node_f[leaves[model == 0], state.MEAN]
    for which in range(state.LINES):
        chosen = model == which + 1
        lines[chosen] = arrays.line[leaves[chosen], which]
    return np.delete(lines, np.s_[features:-1], axis=1)
