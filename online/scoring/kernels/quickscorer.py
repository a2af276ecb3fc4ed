"""Small trees scored by their thresholds in order, not from the root down.

QuickScorer (Lucchese and others 2015, QuickScorer: a fast algorithm to rank documents with additive ensembles
of regression trees, SIGIR): a test that fails (a *false node*) rules out the leaves below its branch's first
child. So all branches of an expert's trees are sorted by the column they test and the threshold; for a row,
the false nodes are the first few of each column, and the bitvector of each clears leaves in its tree's set,
one bit a leaf. The leaf reached is the lowest bit that is left. No step waits for the one before, and memory
is read in order.

For experts whose trees have at most ``MOST_LEAVES`` leaves, a word's bits, without lines. The other arrays of
a plan say it all; scorers build these from them when they load a plan (``qs_...`` of
:class:`~online.scoring.kernels.plan_arrays.PlanArrays`), with the tests in two orders:

- by expert, column and threshold (``qs_threshold``, ``qs_tree_id``, ``qs_bitvector``, where each column's
  start in ``qs_offset``) for a single row, which tests a few of them;
- tree by tree (``qs_test``: columns TESTED, THRESHOLD, TREE_ID and BITVECTOR below) for a block of rows, of
  which all are tested against one branch in a few instructions.

Kernels, because bit operations on words are what the method is made of; NumPy has no count of trailing zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from online.core.clip import clip_in_kernel
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
    ANSWER_HIGH,
    ANSWER_LOW,
    BLOCK_ROWS,
    CHILD_BITS,
    COLUMN_BIT,
    INTERCEPT,
    LEAF_COLUMNS,
    PlanArrays,
    Scratch,
)

__all__ = ["build_bitvectors", "score_by_bitvectors", "score_rows_by_bitvectors"]

MOST_LEAVES = 64  # bits of a word
FEWEST_TREES = 8  # of an expert for which building the tables is worth it
# Columns of a test, an int64 row: 2 C for every expert before, and the column tested; the threshold's bits;
# which of the expert's trees; the leaves that are left when the value lies beyond
TESTED, TEST_THRESHOLD, TREE_ID, BITVECTOR = range(4)
TEST_COLUMNS = 4

# Scoring


@kernel
def end_of_false_nodes(p: PlanArrays, first: int, last: int, value: float) -> int:
    """The first of a column's tests that a value passes: a binary search, thresholds rise."""
    while first < last:
        middle = (first + last) >> 1
        if value <= load_f64(p.qs_threshold, middle):
            last = middle
        else:
            first = middle + 1
    return first


@kernel
def score_by_bitvectors(p: PlanArrays, s: Scratch, expert: int, offset: int) -> float:
    """The weighted sum of an expert's trees for one row.

    Parameters
    ----------
    p, s
        The plan, and scratch space with the row, imputed and scaled.
    expert
        Whose trees are small.
    offset
        Where in ``s.x`` the row starts.

    Returns
    -------
    float
        In target units.
    """
    tree = load_i32(p.expert_tree_start, expert)
    trees = load_i32(p.expert_tree_start, expert + 1) - tree
    for i in range(trees):
        store_i64(s.walker, i, -1)
    for column in range(2 * p.columns):
        first = load_i32(p.qs_offset, 2 * p.columns * expert + column)
        last = load_i32(p.qs_offset, 2 * p.columns * expert + column + 1)
        if first < last:
            for j in range(first, end_of_false_nodes(p, first, last, load_f64(s.x, offset + column))):
                i = load_i32(p.qs_tree_id, j)
                store_i64(s.walker, i, load_i64(s.walker, i) & load_i64(p.qs_bitvector, j))
    total = 0.0
    for i in range(trees):
        leaf = load_i32(p.qs_leaf_start, tree + i) + count_trailing_zeros(load_i64(s.walker, i))
        total += load_f64(p.tree_weight, tree + i) * load_f64(p.qs_leaf_value, leaf)
    return total


@kernel
def clear_leaves(leaves: int, column: int, threshold: float, bitvector: int) -> None:
    """Clear, for each row of a block, the leaves that a branch rules out.

    Always a whole block, the rows beyond the last with it: a loop of a constant length becomes vector
    instructions.
    """
    for i in range(BLOCK_ROWS):
        left = -1 if load_f64(column, i) <= threshold else bitvector
        store_i64(leaves, i, load_i64(leaves, i) & left)


@kernel
def score_rows_by_bitvectors(p: PlanArrays, s: Scratch, expert: int, rows: int) -> None:
    """As :func:`score_by_bitvectors`, of the rows of ``s.by_column``, into ``s.total``: the same sums.

    Parameters
    ----------
    p, s
        The plan, and scratch space with the rows.
    expert
        Whose trees are small.
    rows
        How many, at most a block.
    """
    # tests count the columns of all experts before; so does this address, to save a subtraction each
    before = s.by_column - 8 * BLOCK_ROWS * 2 * p.columns * expert
    for i in range(rows):
        store_f64(s.total, i, 0.0)
    for tree in range(load_i32(p.expert_tree_start, expert), load_i32(p.expert_tree_start, expert + 1)):
        for i in range(BLOCK_ROWS):
            store_i64(s.walker, i, -1)
        for j in range(load_i32(p.qs_tree_test, 2 * tree), load_i32(p.qs_tree_test, 2 * tree + 1)):
            test = p.qs_test + 8 * TEST_COLUMNS * j
            column = before + 8 * BLOCK_ROWS * load_i64(test, TESTED)
            clear_leaves(s.walker, column, load_f64(test, TEST_THRESHOLD), load_i64(test, BITVECTOR))
        weight = load_f64(p.tree_weight, tree)
        values = p.qs_leaf_value + 8 * load_i32(p.qs_leaf_start, tree)
        for i in range(rows):
            value = load_f64(values, count_trailing_zeros(load_i64(s.walker, i)))
            store_f64(s.total, i, load_f64(s.total, i) + weight * value)


# Building


@kernel
def leaf_value(leaf: int) -> float:
    """What the row of the leaf table at an address answers, which has no line."""
    return clip_in_kernel(load_f64(leaf, INTERCEPT), load_f64(leaf, ANSWER_LOW), load_f64(leaf, ANSWER_HIGH))


@kernel
def number_leaves(  # noqa: PLR0913 - a kernel takes its arrays one by one
    node: int, leaf: int, root: int, first_leaf: int, stack: int, values: int
) -> int:
    """Write what a tree's leaves answer, in order, and to ``first_leaf`` the first leaf below each node.

    Returns how many leaves there are, or more than may be.
    """
    count, waiting = 0, 1
    store_i64(stack, 0, root)
    while waiting > 0 and count + waiting <= MOST_LEAVES:
        waiting -= 1
        here = load_i64(stack, waiting)
        link = load_i64(node, 2 * here + 1)
        store_i64(first_leaf, here, count)
        if link < 0:
            store_f64(values, count, leaf_value(leaf + 8 * LEAF_COLUMNS * (link & CHILD_BITS)))
            count += 1
        else:  # the first child on top: its leaves are numbered first
            store_i64(stack, waiting, (link & CHILD_BITS) + 1)
            store_i64(stack, waiting + 1, link & CHILD_BITS)
            waiting += 2
    return count + waiting


@kernel
def write_tests(  # noqa: PLR0913 - a kernel takes its arrays one by one
    node: int, root: int, tree: int, first_leaf: int, stack: int, tests: int
) -> int:
    """Write a tree's branches as rows of tests; returns how many."""
    count, waiting = 0, 1
    store_i64(stack, 0, root)
    while waiting > 0:
        waiting -= 1
        here = load_i64(stack, waiting)
        link = load_i64(node, 2 * here + 1)
        if link >= 0:
            below = link & CHILD_BITS
            first, end = load_i64(first_leaf, below), load_i64(first_leaf, below + 1)
            test = tests + 8 * TEST_COLUMNS * count
            store_i64(test, TESTED, link >> COLUMN_BIT)
            store_i64(test, TEST_THRESHOLD, load_i64(node, 2 * here))
            store_i64(test, TREE_ID, tree)
            store_i64(test, BITVECTOR, ~(((1 << (end - first)) - 1) << first))
            count += 1
            store_i64(stack, waiting, below + 1)
            store_i64(stack, waiting + 1, below)
            waiting += 2
    return count


@njit_cached
def write_expert(  # noqa: PLR0913 - a kernel takes its arrays one by one
    node: int, leaf: int, roots: int, trees: int, first_leaf: int, stack: int, tests: int, values: int,
    leaf_start: int,
) -> int:  # fmt: skip
    """Write the tests of all trees, their leaves' values and where each tree's start, with the end of all.

    All arguments but ``trees`` are addresses. Returns how many tests there are, or -1 when a tree has too
    many leaves.
    """
    count = leaves = 0
    for tree in range(trees):
        root = load_i32(roots, tree)
        tree_leaves = number_leaves(node, leaf, root, first_leaf, stack, values + 8 * leaves)
        if tree_leaves > MOST_LEAVES:
            return -1
        store_i64(leaf_start, tree, leaves)
        count += write_tests(node, root, tree, first_leaf, stack, tests + 8 * TEST_COLUMNS * count)
        leaves += tree_leaves
    store_i64(leaf_start, trees, leaves)
    return count


class ExpertTests(NamedTuple):
    """An expert's tests (n, 4), its leaves' values, and where each tree's start."""

    tests: Array
    values: Array
    leaf_start: Array


def build_bitvectors(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The ``qs_`` arrays of a plan, built from those that its file holds."""
    experts, columns = len(arrays["expert_missing_above"]), 2 * len(arrays["impute"])
    trees = len(arrays["tree_root"])
    chosen, leaf_start = np.zeros(experts, np.int32), np.zeros(trees, np.int32)
    tree_test = np.zeros((trees, 2), np.int32)
    tests, values = [np.zeros((0, TEST_COLUMNS), np.int64)], [np.zeros(0)]
    tests_before = leaves_before = 0
    for expert in range(experts):
        first, last = arrays["expert_tree_start"][expert : expert + 2]
        built = tests_of(arrays, arrays["tree_root"][first:last]) if may_be_small(arrays, expert) else None
        if built is not None:
            built.tests[:, TESTED] += columns * expert
            edges = np.searchsorted(built.tests[:, TREE_ID], np.arange(last - first + 1))
            tree_test[first:last] = tests_before + np.column_stack((edges[:-1], edges[1:]))
            chosen[expert], leaf_start[first:last] = 1, built.leaf_start + leaves_before
            tests.append(built.tests)
            values.append(built.values)
            tests_before, leaves_before = tests_before + len(built.tests), leaves_before + len(built.values)
    by_tree = np.concatenate(tests)
    thresholds = by_tree[:, TEST_THRESHOLD].copy().view(np.float64)
    order = np.lexsort((thresholds, by_tree[:, TESTED]))
    starts = np.searchsorted(by_tree[order, TESTED], np.arange(experts * columns + 1))
    return {
        "qs_expert": chosen,
        "qs_offset": starts.astype(np.int32),
        "qs_threshold": thresholds[order],
        "qs_tree_id": by_tree[order, TREE_ID].astype(np.int32),
        "qs_bitvector": by_tree[order, BITVECTOR],
        "qs_leaf_start": leaf_start,
        "qs_leaf_value": np.concatenate(values),
        "qs_tree_test": tree_test,
        "qs_test": by_tree,
    }


def may_be_small(arrays: Mapping[str, Array], expert: int) -> bool:
    """Whether nothing but the size of its trees stands against scoring an expert by bitvectors."""
    trees = arrays["expert_tree_start"][expert + 1] - arrays["expert_tree_start"][expert]
    reads = arrays["expert_read_start"][expert + 1] - arrays["expert_read_start"][expert]
    return bool(trees >= FEWEST_TREES and not reads and arrays["expert_missing_above"][expert] == np.inf)


def tests_of(arrays: Mapping[str, Array], roots: Array) -> ExpertTests | None:
    """The tests of an expert's trees, tree by tree; None when one has too many leaves."""
    most = len(roots) * MOST_LEAVES
    first_leaf, stack = np.empty(len(arrays["node"]), np.int64), np.empty(MOST_LEAVES + 2, np.int64)
    tests, values = np.empty((most, TEST_COLUMNS), np.int64), np.empty(most + 1)
    leaf_start = np.empty(len(roots) + 1, np.int64)
    node, leaf, trees = arrays["node"].ctypes.data, arrays["leaf"].ctypes.data, roots.ctypes.data
    room = [array.ctypes.data for array in (first_leaf, stack, tests, values, leaf_start)]
    count = write_expert(node, leaf, trees, len(roots), *room)
    return None if count < 0 else ExpertTests(tests[:count], values[: leaf_start[-1]], leaf_start[:-1])
