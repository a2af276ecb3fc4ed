"""A forest of numbers exported as arrays, from which a row is scored without the forest."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from online.forest import forest_state as state
from online.forest.forest_state import Array, Arrays
from online.forest.inputs import LINE_CLIP_DEVIATIONS, PREDICTION_MARGIN
from online.forest.inspection import leaf_models

__all__ = ["ExportedTrees", "InputBounds", "export_input_bounds", "export_trees"]


class InputBounds(NamedTuple):
    """What lines make of a row before they read it, feature by feature in the forest's order."""

    features: list[str]  # their names
    low: Array  # (D,): a line reads min(max(value, low), high)
    high: Array  # (D,)
    fill: Array  # (D,): what it reads where a value is missing


class ExportedTrees(NamedTuple):
    """The members, the nodes of all in the same arrays, which own their memory."""

    weight: Array  # (trees,): shares in the prediction, one in sum
    root: Array  # (trees,) int64
    feature: Array  # (nodes,) int64: what a branch asks for; -1 at a leaf
    threshold: Array  # (nodes,): a value goes left if it is at most this
    left: Array  # (nodes,) int64: -1 at a leaf
    right: Array  # (nodes,) int64: -1 at a leaf
    default_left: Array  # (nodes,) bool: where a missing value goes
    leaf: Array  # (nodes,) int64: a leaf's line in ``lines``; -1 at a branch
    lines: Array  # (leaves, D + 1): weights and, last, the intercept of what each leaf predicts by now
    low: float  # a leaf predicts min(max(line, low), high)
    high: float


def export_input_bounds(arrays: Arrays, features: list[str]) -> InputBounds:
    """The bounds of a row's values as they are now.

    Parameters
    ----------
    arrays
        The forest.
    features
        The features' names, in the forest's order.

    Returns
    -------
    InputBounds
        New arrays.

    Raises
    ------
    ValueError
        A feature is a category.
    """
    f = arrays.feature[: len(features)]  # a forest that has seen none has room for one
    for name, kind in zip(features, f[:, state.F_KIND], strict=True):
        if kind:
            raise ValueError(f"feature {name!r} is a category: only a forest of numbers has plain arrays")
    mean, distance = f[:, state.F_MEAN], LINE_CLIP_DEVIATIONS * np.sqrt(f[:, state.F_VAR])
    distance = np.where(f[:, state.F_N] > LINE_CLIP_DEVIATIONS, distance, math.inf)
    return InputBounds(features, mean - distance, mean + distance, mean.copy())


def export_trees(arrays: Arrays, features: int) -> ExportedTrees:
    """The members as they are now.

    Parameters
    ----------
    arrays
        The forest; ``votes`` must hold the members' weights, as after a prediction.
    features
        How many features it has.

    Returns
    -------
    ExportedTrees
        New arrays; members without a tree or weight are left out.
    """
    weights = arrays.votes / arrays.votes.sum() if arrays.votes.any() else arrays.votes
    trees = arrays.member_i[:, state.M_TREE]
    counts = (arrays.root[trees] != state.ABSENT) & (weights > 0.0)
    trees, exported = trees[counts], np.zeros(len(arrays.root) + 1, bool)
    exported[trees] = True  # its last element, which the index ABSENT finds, stays False
    used = int(arrays.counts[state.N_NODES_HIGH])
    nodes = np.flatnonzero(exported[arrays.node_i[:used, state.NODE_OWNER]])
    number = np.full(used + 1, -1)  # likewise its last stays -1
    number[nodes] = np.arange(len(nodes))
    i, f = arrays.node_i[nodes], arrays.node_f[nodes]
    branch = i[:, state.NODE_FEATURE] >= 0
    margin = PREDICTION_MARGIN * (arrays.par[state.P_Y_HIGH] - arrays.par[state.P_Y_LOW])
    return ExportedTrees(
        weights[counts],
        number[arrays.root[trees]],
        i[:, state.NODE_FEATURE].copy(),
        f[:, state.NODE_SPLIT_VALUE].copy(),
        number[i[:, state.NODE_LEFT]],
        number[i[:, state.NODE_RIGHT]],
        i[:, state.NODE_DEFAULT] != 0,
        np.where(branch, -1, np.cumsum(~branch) - 1),
        leaf_lines(arrays, nodes[~branch], features),
        float(arrays.par[state.P_Y_LOW] - margin),
        float(arrays.par[state.P_Y_HIGH] + margin),
    )


def leaf_lines(arrays: Arrays, leaves: Array, features: int) -> Array:
    """What leaves predict by, as lines (leaves, D + 1); a mean is an intercept alone."""
    model = leaf_models(arrays, leaves)
    lines = np.zeros((len(leaves), arrays.line.shape[2]))
    lines[model == 0, -1] = arrays.node_f[leaves[model == 0], state.NODE_MEAN]
    for line in range(state.LEAF_LINES):
        chosen = model == line + 1
        lines[chosen] = arrays.line[leaves[chosen], line]
    return np.delete(lines, np.s_[features:-1], axis=1)
