"""Experts' trees as arrays of their own, and all of them laid out as the arrays of a plan."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from online.core.jit import Array
from online.scoring.kernels.plan_arrays import FEATURE_BIT, GAP_BIT, LINE, padded

__all__ = ["Trees", "assembled", "lines"]

NOWHERE = -1


@dataclasses.dataclass(frozen=True)
class Trees:
    """One expert: the weighted sum of its trees. N nodes, L leaves, T trees, R places its leaves read.

    Places are those of a row as it is scored: C imputed values, then C scaled ones.

    Parameters
    ----------
    roots, shares
        The trees: (T,) nodes, and weights.
    feature, threshold
        (N,) the place a branch tests, -1 at a leaf; a value at most the threshold goes left.
    left, right
        (N,) nodes; not looked at for a leaf.
    leaf
        (N,) a leaf's row of the leaf table; not looked at for a branch.
    intercept, low, high
        (L,) a leaf answers ``min(max(intercept + weights . row, low), high)``.
    line, weights
        (L,) row of the weights (lines, R), or -1 where a leaf answers with its intercept alone.
    places
        (R,) what the weights are for, each held to ``read_low`` and ``read_high``.
    reach
        A value further from 0 counts as missing: then ``read_fill`` is read in its place, and a branch sends
        it right where ``gap_right`` (N,) says so.
    beside
        (N,) root of a tree whose answer is averaged in where this branch is passed, -1 for none.
    """

    roots: Array
    shares: Array
    feature: Array
    threshold: Array
    left: Array
    right: Array
    leaf: Array
    intercept: Array
    low: Array
    high: Array
    line: Array
    weights: Array
    places: Array
    read_low: Array
    read_high: Array
    read_fill: Array
    gap_right: Array
    beside: Array
    reach: float = math.inf


def lines(intercepts: Array, weights: Array, places: Array, shares: Array) -> Trees:
    """An expert of linear models alone: the sum of ``share * (intercept + weights . row)``.

    Weights are (models, R), everything else one a model, places (R,).
    """
    n, r = weights.shape
    none, each = np.full(n, NOWHERE), np.arange(n)
    free, bound = np.zeros(n), np.full(r, math.inf)
    return Trees(
        each, shares, none, free, none, none, each, intercepts, np.full(n, -math.inf), np.full(n, math.inf),
        each, weights, places, -bound, bound, np.zeros(r), none > 0, none,
    )  # fmt: skip


def assembled(experts: Sequence[Trees]) -> dict[str, Array]:
    """A plan's arrays that hold its experts, as :mod:`online.scoring.kernels.plan_arrays` lays them out."""
    parts: dict[str, list[Array]] = {name: [] for name in ("node", "beside", "leaf", "weight", "root")}
    nodes = leaves = weights = 0
    for expert in experts:
        node, beside, roots = laid_out(expert, nodes, leaves)
        leaf, weight = leaf_table(expert, weights)
        for name, part in zip(parts, (node, beside, leaf, weight, roots), strict=True):
            parts[name].append(part)
        nodes, leaves, weights = nodes + len(node), leaves + len(leaf), weights + len(weight)
    return {
        "node": np.concatenate(parts["node"]),
        "node_alternate": np.concatenate(parts["beside"]),
        "leaf": np.concatenate(parts["leaf"]),
        "weight": np.concatenate(parts["weight"]),
        "tree_root": np.concatenate(parts["root"]),
        "tree_weight": np.concatenate([expert.shares for expert in experts]),
        "expert_tree": starts([len(expert.roots) for expert in experts]),
        "expert_read": starts([len(expert.places) for expert in experts]),
        "expert_reach": np.array([expert.reach for expert in experts]),
        "expert_beside": np.array([(beside > NOWHERE).any() for beside in parts["beside"]]),
        "read_place": np.concatenate([expert.places for expert in experts]),
        "read_low": np.concatenate([expert.read_low for expert in experts]),
        "read_high": np.concatenate([expert.read_high for expert in experts]),
        "read_fill": np.concatenate([expert.read_fill for expert in experts]),
    }


def starts(counts: Sequence[int]) -> Array:
    """Where each part starts, and where the last ends."""
    return np.cumsum([0, *counts])


def laid_out(expert: Trees, first: int, first_leaf: int) -> tuple[Array, Array, Array]:
    """Nodes, alternates and roots of an expert whose nodes start at ``first``: roots first, then pairs."""
    heads = np.concatenate((expert.roots, expert.beside[expert.beside > NOWHERE])).astype(np.int64)
    inner = np.flatnonzero(expert.feature >= 0)
    pairs = len(heads) + 2 * np.arange(len(inner))
    size = len(heads) + 2 * len(inner)
    at = np.full(len(expert.feature) + 1, NOWHERE)  # NOWHERE, the last, stays
    at[heads] = np.arange(len(heads))
    at[expert.left[inner]], at[expert.right[inner]] = pairs, pairs + 1
    way = np.asarray(expert.leaf, np.int64) + first_leaf
    way[inner] = first + pairs
    way += (np.asarray(expert.gap_right, np.int64) << GAP_BIT) * (expert.feature >= 0)
    way |= np.where(expert.feature >= 0, np.asarray(expert.feature, np.int64), NOWHERE) << FEATURE_BIT
    node, beside = np.zeros((size, 2), np.int64), np.full(size, NOWHERE)
    used = at[:-1] > NOWHERE
    node[at[:-1][used], 0] = np.ascontiguousarray(expert.threshold, np.float64).view(np.int64)[used]
    node[at[:-1][used], 1] = way[used]
    other = at[expert.beside]
    beside[at[:-1][used]] = np.where(other > NOWHERE, other + first, NOWHERE)[used]
    return node, beside, at[expert.roots] + first


def leaf_table(expert: Trees, first: int) -> tuple[Array, Array]:
    """The leaf table of an expert whose weights start at ``first``, and those weights."""
    width = padded(len(expert.places))
    weights = np.zeros((len(expert.weights), width))
    weights[:, : len(expert.places)] = expert.weights
    table = np.column_stack((expert.intercept, expert.low, expert.high, expert.line)).astype(np.float64)
    table[expert.line > NOWHERE, LINE] = first + width * expert.line[expert.line > NOWHERE]
    return table, weights.ravel()
