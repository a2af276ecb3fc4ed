"""Experts' trees as arrays of their own, and all of them laid out as the arrays of a plan.

Columns are those of a row as it is scored: C imputed values, then C scaled ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from online.core.jit import Array
from online.scoring.kernels.plan_arrays import COLUMN_BIT, MISSING_RIGHT_BIT, WEIGHTS_AT, padded

__all__ = ["NO_INDEX", "Leaves", "LineInputs", "Nodes", "Trees", "constant_trees", "lay_out", "linear_trees"]

NO_INDEX = -1  # no column, node or line


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nodes:
    """Branches and leaves of all trees of an expert, in any order.

    Parameters
    ----------
    column, threshold
        (N,) the column that a branch tests, -1 at a leaf; a value at most the threshold goes left.
    left, right
        (N,) nodes; not looked at for a leaf.
    leaf
        (N,) a leaf's row of the leaves; not looked at for a branch.
    missing_right
        (N,) whether a branch sends a missing value right; False for all by default.
    """

    column: Array
    threshold: Array
    left: Array
    right: Array
    leaf: Array
    missing_right: Array | bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaves:
    """What leaves answer: ``min(max(intercept + weights[line] . row, low), high)``.

    Parameters
    ----------
    intercept
        (L,) in target units.
    low, high
        (L,), or one for all, in target units.
    line
        (L,) a leaf's row of the weights, -1 where it answers with its intercept alone, as all do by default.
    weights
        (lines, R) for what the lines of the expert read; none by default.
    """

    intercept: Array
    low: Array | float = -math.inf
    high: Array | float = math.inf
    line: Array | int = NO_INDEX
    weights: Array = dataclasses.field(default_factory=lambda: np.zeros((0, 0)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LineInputs:
    """What the lines of an expert read.

    Parameters
    ----------
    columns
        (R,) of a row.
    low, high
        (R,), or one for all: the bounds that each value is clipped to.
    fill
        (R,), or one for all: what is read in place of a missing value.
    """

    columns: Array = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    low: Array | float = -math.inf
    high: Array | float = math.inf
    fill: Array | float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trees:
    """One expert: the weighted sum of its trees.

    Parameters
    ----------
    roots, tree_weights
        (T,) the trees' first nodes, and their weights.
    nodes, leaves, inputs
        What they consist of.
    missing_above
        A value further from 0 counts as missing.
    """

    roots: Array
    tree_weights: Array
    nodes: Nodes
    leaves: Leaves
    inputs: LineInputs = LineInputs()
    missing_above: float = math.inf


def linear_trees(intercepts: Array, weights: Array, columns: Array) -> Trees:
    """An expert of linear models alone: the sum of ``intercept + weights . row``.

    Parameters
    ----------
    intercepts
        (models,) in target units.
    weights
        (models, R).
    columns
        (R,) what the weights are for.

    Returns
    -------
    Trees
        One tree of one leaf a model.
    """
    models = np.arange(len(intercepts))
    none = np.full(len(models), NO_INDEX)
    return Trees(
        roots=models,
        tree_weights=np.ones(len(models)),
        nodes=Nodes(column=none, threshold=np.zeros(len(models)), left=none, right=none, leaf=models),
        leaves=Leaves(intercept=intercepts, line=models, weights=weights),
        inputs=LineInputs(columns=columns),
    )


def constant_trees(answer: float) -> Trees:
    """An expert that always answers the same; NaN for one that has nothing to answer."""
    return linear_trees(np.full(1, answer), np.zeros((1, 0)), np.zeros(0, int))


def lay_out(experts: Sequence[Trees]) -> dict[str, Array]:
    """The arrays of a plan that hold its experts, as :mod:`online.scoring.kernels.plan_arrays` has them."""
    nodes, roots, leaves, weights = [], [], [], []
    node_count = leaf_count = weight_count = 0
    for expert in experts:
        expert_nodes, expert_roots = node_words(expert, node_count, leaf_count)
        expert_leaves, expert_weights = leaf_rows(expert, weight_count)
        nodes.append(expert_nodes)
        roots.append(expert_roots)
        leaves.append(expert_leaves)
        weights.append(expert_weights)
        node_count += len(expert_nodes)
        leaf_count += len(expert_leaves)
        weight_count += len(expert_weights)
    return {
        "node": np.concatenate(nodes),
        "leaf": np.concatenate(leaves),
        "weight": np.concatenate(weights),
        "tree_root": np.concatenate(roots),
        "tree_weight": np.concatenate([expert.tree_weights for expert in experts]),
        "expert_tree_start": starts([len(expert.roots) for expert in experts]),
        "expert_read_start": starts([len(expert.inputs.columns) for expert in experts]),
        "expert_missing_above": np.array([expert.missing_above for expert in experts]),
        "read_column": np.concatenate([expert.inputs.columns for expert in experts]),
        "read_low": per_input(experts, "low"),
        "read_high": per_input(experts, "high"),
        "read_fill": per_input(experts, "fill"),
    }


def starts(counts: Sequence[int]) -> Array:
    """Where each part starts, and where the last ends."""
    return np.cumsum([0, *counts])


def per_input(experts: Sequence[Trees], name: str) -> Array:
    """One of the experts' bounds or fills, for each column that their lines read."""
    return np.concatenate(
        [np.broadcast_to(getattr(expert.inputs, name), len(expert.inputs.columns)) for expert in experts]
    )


def node_words(expert: Trees, first: int, first_leaf: int) -> tuple[Array, Array]:
    """The nodes of an expert, which start at ``first``, and its roots: roots first, then pairs of children.

    Nodes that no root leads to are left out.
    """
    nodes = expert.nodes
    inner = np.flatnonzero(nodes.column >= 0)
    pairs = len(expert.roots) + 2 * np.arange(len(inner))
    position = np.full(len(nodes.column), NO_INDEX)
    position[expert.roots] = np.arange(len(expert.roots))
    position[nodes.left[inner]], position[nodes.right[inner]] = pairs, pairs + 1

    is_branch, column = nodes.column >= 0, np.asarray(nodes.column, np.int64)
    link = np.asarray(nodes.leaf, np.int64) + first_leaf
    link[inner] = first + pairs
    link |= (np.broadcast_to(nodes.missing_right, len(link)) & is_branch).astype(
        np.int64
    ) << MISSING_RIGHT_BIT
    link |= np.where(is_branch, column, NO_INDEX) << COLUMN_BIT

    words = np.zeros((len(expert.roots) + 2 * len(inner), 2), np.int64)
    used = position > NO_INDEX
    words[position[used], 0] = np.ascontiguousarray(nodes.threshold, np.float64).view(np.int64)[used]
    words[position[used], 1] = link[used]
    return words, position[expert.roots] + first


def leaf_rows(expert: Trees, first: int) -> tuple[Array, Array]:
    """The leaf table of an expert whose weights start at ``first``, and those weights."""
    leaves, reads = expert.leaves, len(expert.inputs.columns)
    weights = np.zeros((len(leaves.weights), padded(reads)))
    weights[:, :reads] = leaves.weights
    table = np.column_stack(np.broadcast_arrays(leaves.intercept, leaves.low, leaves.high, leaves.line))
    table = table.astype(np.float64)
    has_line = table[:, WEIGHTS_AT] > NO_INDEX
    table[has_line, WEIGHTS_AT] = first + padded(reads) * table[has_line, WEIGHTS_AT]
    return table, weights.ravel()
