"""Small trees scored by their thresholds in order, not from the root down.

QuickScorer (Lucchese and others 2015): a branch whose test fails rules out the leaves below its first child.
So all branches of an expert's trees are sorted by what they test and against what; for a row, those whose
tests fail are the first few of each place, and each strikes out leaves in the set of its tree's, one bit a
leaf. The leaf reached is the first that is left. No step waits for the one before, and memory is read in
order.

For experts whose trees have at most ``MOST_LEAVES`` leaves without lines; a plan's other arrays say it all,
these are made from them when it is loaded::

    expert_cut   int32 (k,)   1 if an expert is scored so
    cut_start    int32 (k * 2 C + 1,)  where the cuts of each expert's each place start
    cut_value    float64 (n,)  thresholds, rising
    cut_tree     int32 (n,)   whose tree of the expert's
    cut_mask     int64 (n,)   the leaves that are left when the value lies beyond
    tree_answer  int32 (T,)   where a tree's answers start
    cut_answer   float64 (m,)  what leaves say, the first child's before the second's
    tree_branch  int32 (T, 2)  where a tree's branches start and end
    branch       int64 (n, 4)  the same cuts tree by tree: place, with 2 C for every expert before; the
                               threshold's bits; tree; mask

In a batch, many rows are tested against one branch, all of them in a few instructions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from online.core.jit import (
    Array,
    count_trailing_zeros,
    kernel,
    load_f64,
    load_i32,
    load_i64,
    njit_cached,
    store_f64,
    store_i64,
)
from online.scoring.kernels.plan_arrays import (
    BIAS,
    BLOCK,
    CHILD_BITS,
    FEATURE_BIT,
    HIGH,
    LEAF,
    LOW,
    PlanArrays,
    Scratch,
)

__all__ = ["answer_by_cuts", "answers_by_cuts", "cuts_of"]

MOST_LEAVES = 64
WORTHWHILE = 8  # trees
PLACE, THRESHOLD, TREE, MASK = range(4)  # columns of a cut


@kernel
def failing(p: PlanArrays, first: int, last: int, value: float) -> int:
    """The first of some cuts that a value does not lie beyond."""
    while first < last:
        middle = (first + last) >> 1
        if value <= load_f64(p.cut_value, middle):
            last = middle
        else:
            first = middle + 1
    return first


@kernel
def answer_by_cuts(p: PlanArrays, s: Scratch, e: int, at: int) -> float:
    """The weighted sum of an expert's trees for the row at ``x[at]``."""
    tree, trees = load_i32(p.expert_tree, e), load_i32(p.expert_tree, e + 1) - load_i32(p.expert_tree, e)
    for i in range(trees):
        store_i64(s.place, i, -1)
    for place in range(2 * p.columns):
        first = load_i32(p.cut_start, 2 * p.columns * e + place)
        last = load_i32(p.cut_start, 2 * p.columns * e + place + 1)
        if first < last:
            for j in range(first, failing(p, first, last, load_f64(s.x, at + place))):
                i = load_i32(p.cut_tree, j)
                store_i64(s.place, i, load_i64(s.place, i) & load_i64(p.cut_mask, j))
    total = 0.0
    for i in range(trees):
        leaf = load_i32(p.tree_answer, tree + i) + count_trailing_zeros(load_i64(s.place, i))
        total += load_f64(p.tree_weight, tree + i) * load_f64(p.cut_answer, leaf)
    return total


@kernel
def strike(left: int, column: int, threshold: float, mask: int) -> None:
    """Strike out, for each row of a block, the leaves that a branch rules out."""
    for i in range(BLOCK):
        beyond = -1 if load_f64(column, i) <= threshold else mask
        store_i64(left, i, load_i64(left, i) & beyond)


@kernel
def answers_by_cuts(p: PlanArrays, s: Scratch, e: int, n: int) -> None:
    """As :func:`answer_by_cuts`, of the n rows of ``across``, into ``total``: the same sums."""
    before = s.across - 8 * BLOCK * 2 * p.columns * e
    for i in range(n):
        store_f64(s.total, i, 0.0)
    for tree in range(load_i32(p.expert_tree, e), load_i32(p.expert_tree, e + 1)):
        for i in range(BLOCK):
            store_i64(s.place, i, -1)
        for j in range(load_i32(p.tree_branch, 2 * tree), load_i32(p.tree_branch, 2 * tree + 1)):
            column = before + 8 * BLOCK * load_i64(p.branch, 4 * j + PLACE)
            strike(s.place, column, load_f64(p.branch, 4 * j + THRESHOLD), load_i64(p.branch, 4 * j + MASK))
        weight, answers = load_f64(p.tree_weight, tree), p.cut_answer + 8 * load_i32(p.tree_answer, tree)
        for i in range(n):
            answer = load_f64(answers, count_trailing_zeros(load_i64(s.place, i)))
            store_f64(s.total, i, load_f64(s.total, i) + weight * answer)


@kernel
def answer_of(leaf: int) -> float:
    """What the row of the leaf table at an address says, which has no line."""
    return min(max(load_f64(leaf, BIAS), load_f64(leaf, LOW)), load_f64(leaf, HIGH))


@kernel
def numbered(node: int, leaf: int, root: int, begin: int, todo: int, answers: int) -> int:
    """Write what a tree's leaves say, in order, and to ``begin`` where each node's leaves begin.

    Returns how many leaves there are, or more than may be.
    """
    count, waiting = 0, 1
    store_i64(todo, 0, root)
    while waiting > 0 and count + waiting <= MOST_LEAVES:
        waiting -= 1
        here = load_i64(todo, waiting)
        way = load_i64(node, 2 * here + 1)
        store_i64(begin, here, count)
        if way < 0:
            store_f64(answers, count, answer_of(leaf + 8 * LEAF * (way & CHILD_BITS)))
            count += 1
        else:
            store_i64(todo, waiting, (way & CHILD_BITS) + 1)
            store_i64(todo, waiting + 1, way & CHILD_BITS)
            waiting += 2
    return count + waiting


@kernel
def cut(node: int, root: int, tree: int, begin: int, todo: int, cuts: int) -> int:
    """Write a tree's branches as rows of PLACE, THRESHOLD (its bits), TREE and MASK; returns how many."""
    count, waiting = 0, 1
    store_i64(todo, 0, root)
    while waiting > 0:
        waiting -= 1
        here = load_i64(todo, waiting)
        way = load_i64(node, 2 * here + 1)
        if way >= 0:
            below = way & CHILD_BITS
            first, last = load_i64(begin, below), load_i64(begin, below + 1)
            store_i64(cuts, 4 * count + PLACE, way >> FEATURE_BIT)
            store_i64(cuts, 4 * count + THRESHOLD, load_i64(node, 2 * here))
            store_i64(cuts, 4 * count + TREE, tree)
            store_i64(cuts, 4 * count + MASK, ~(((1 << (last - first)) - 1) << first))
            count += 1
            store_i64(todo, waiting, below + 1)
            store_i64(todo, waiting + 1, below)
            waiting += 2
    return count


@njit_cached
def cutting(
    node: int, leaf: int, root: int, trees: int, begin: int, todo: int, cuts: int, answers: int, starts: int
) -> int:
    """Write the cuts of all trees, their leaves' answers and where each tree's start, with the end of all.

    All arguments but ``trees`` are addresses. Returns how many cuts there are, or -1 when a tree has too many
    leaves.
    """
    count = said = 0
    for tree in range(trees):
        at = load_i32(root, tree)
        leaves = numbered(node, leaf, at, begin, todo, answers + 8 * said)
        if leaves > MOST_LEAVES:
            return -1
        store_i64(starts, tree, said)
        count += cut(node, at, tree, begin, todo, cuts + 32 * count)
        said += leaves
    store_i64(starts, trees, said)
    return count


def cuts_of(a: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays named in this module's docstring, from those of a plan."""
    experts, places = len(a["expert_reach"]), 2 * len(a["impute"])
    chosen, tree_answer = np.zeros(experts, np.int32), np.zeros(len(a["tree_root"]), np.int32)
    tree_branch = np.zeros((len(a["tree_root"]), 2), np.int32)
    cuts, answers, said, branches = [np.zeros((0, 4), np.int64)], [np.zeros(0)], 0, 0
    for e in range(experts):
        first, last = a["expert_tree"][e : e + 2]
        found = expert_cuts(a, a["tree_root"][first:last]) if may_be_cut(a, e) else None
        if found is not None:
            found.cuts[:, PLACE] += places * e
            chosen[e], tree_answer[first:last] = 1, found.starts + said
            edges = np.searchsorted(found.cuts[:, TREE], np.arange(len(found.starts) + 1))
            tree_branch[first:last] = branches + np.column_stack((edges[:-1], edges[1:]))
            branches += len(found.cuts)
            cuts.append(found.cuts)
            answers.append(found.answers)
            said += len(found.answers)
    every = np.concatenate(cuts)
    value = every[:, THRESHOLD].copy().view(np.float64)
    order = np.lexsort((value, every[:, PLACE]))
    return {
        "expert_cut": chosen,
        "cut_start": np.searchsorted(every[order, PLACE], np.arange(experts * places + 1)).astype(np.int32),
        "cut_value": value[order],
        "cut_tree": every[order, TREE].astype(np.int32),
        "cut_mask": every[order, MASK],
        "tree_answer": tree_answer,
        "cut_answer": np.concatenate(answers),
        "tree_branch": tree_branch,
        "branch": every,
    }


def may_be_cut(a: Mapping[str, Array], e: int) -> bool:
    """Whether nothing but the size of its trees stands against scoring an expert by cuts."""
    trees = a["expert_tree"][e + 1] - a["expert_tree"][e]
    lines = a["expert_read"][e + 1] - a["expert_read"][e]
    return trees >= WORTHWHILE and not lines and not a["expert_beside"][e] and a["expert_reach"][e] == np.inf


class Cuts(NamedTuple):
    """An expert's cuts, their answers, and where each tree's answers start."""

    cuts: Array
    answers: Array
    starts: Array


def expert_cuts(a: Mapping[str, Array], roots: Array) -> Cuts | None:
    """The cuts of an expert's trees, in no order; None when one has too many leaves."""
    most = len(roots) * MOST_LEAVES
    begin, todo = np.empty(len(a["node"]), np.int64), np.empty(MOST_LEAVES + 2, np.int64)
    cuts, answers = np.empty((most, 4), np.int64), np.empty(most + 1)
    starts = np.empty(len(roots) + 1, np.int64)
    given = (a["node"], a["leaf"], roots)
    room = (begin, todo, cuts, answers, starts)
    arguments = [array.ctypes.data for array in (*given, *room)]
    arguments.insert(len(given), len(roots))
    count = cutting(*arguments)
    return None if count < 0 else Cuts(cuts[:count], answers[: starts[-1]], starts[:-1])
