"""The arrays of a plan as kernels see them.

Everything is a weighted set of trees. A linear model is a tree of one leaf, and so is the value of a column.
Rows are scored as ``[imputed values, scaled values]``, of C columns each, so a tree on either only differs
in which places it asks for.

    node            int64 (N, 2)  bits of the float64 threshold, and of what is tested and where that leads:
                                  the higher 32 the place tested, -1 at a leaf; the lower 31 the child a
                                  value <= the threshold goes to, which the other child follows, or at a leaf
                                  its row of the leaf table; between them 1 where a missing value goes to
                                  the second child
    node_alternate  int32 (N,)    root of a tree that stands beside this branch, -1 for none: what their
                                  leaves say is averaged
    leaf            float64 (L, 4)  intercept, lowest and highest answer, and where its weights start, -1
                                  where it answers with the intercept alone
    weight          float64 (M,)  lines' weights for what their expert reads, then zeros up to whole fours
    tree_root       int32 (T,)
    tree_weight     float64 (T,)  an expert's output is the weighted sum of its trees
    expert_tree     int32 (k + 1,)  where each expert's trees start
    expert_read     int32 (k + 1,)  where the places its lines read start
    expert_reach    float64 (k,)  a value beyond counts as missing, for this expert
    expert_beside   int32 (k,)    1 if any of its branches has an alternate
    read_place      int32 (R,)    places lines read
    read_low, read_high, read_fill  float64 (R,)  bounds of what they read, and what for a missing value
    head_bias, head_margin, head_share  float64 (Q,)
    head_weight     float64 (Q, k)
    impute, mean, scale  float64 (C,)  missing values, then (value - mean) / scale, 0 for scale 0
    limits          float64 (3,)  lowest and highest target seen, and what stands in for no number
    expert_share    float64 (k,)  how much each counts in how far experts stand apart, one in all

Those of :mod:`online.scoring.kernels.quickscorer` are made from these.

With the experts' outputs o, each finite and within the limits, the prediction is::

    sum_q head_share[q] * clip(head_bias[q] + head_weight[q] . o, min(o) - margin[q], max(o) + margin[q])

within the limits as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from online.core.jit import Array, kernel, load_i64

__all__ = [
    "PLAN_ARRAYS", "PlanArrays", "Scratch", "handle_of", "opened", "opened_scratch", "padded",
    "scratch_size",
]  # fmt: skip

BLOCK = 64  # rows scored together: what they need stays in the caches closest to the core
LANES = 8  # walkers that go down trees together
STACK = 256  # alternates that wait while a row descends

# columns of leaf, and how many
BIAS, LOW, HIGH, LINE = range(4)
LEAF = 4
# parts of a node
CHILD_BITS = 2**31 - 1
GAP_BIT = 31
FEATURE_BIT = 32
# limits
LEAST, MOST, FALLBACK = range(3)
# the handle: sizes, then addresses in the order of PlanArrays
COLUMNS, NODES, LEAVES, WEIGHTS, TREES, EXPERTS, READS, HEADS, WIDEST, MOST_TREES = range(10)
SIZES = 10


class PlanArrays(NamedTuple):
    """Addresses of all arrays of a plan; see this module's docstring. Then sizes."""

    node: int
    node_alternate: int
    leaf: int
    weight: int
    tree_root: int
    tree_weight: int
    expert_tree: int
    expert_read: int
    expert_reach: int
    expert_beside: int
    read_place: int
    read_low: int
    read_high: int
    read_fill: int
    head_bias: int
    head_margin: int
    head_share: int
    head_weight: int
    impute: int
    mean: int
    scale: int
    limits: int
    expert_share: int
    expert_cut: int
    cut_start: int
    cut_value: int
    cut_tree: int
    cut_mask: int
    tree_answer: int
    cut_answer: int
    tree_branch: int
    branch: int
    columns: int
    experts: int
    heads: int


SMALL = frozenset(
    ("node_alternate", "tree_root", "expert_tree", "expert_read", "expert_beside", "read_place")
)
ARRAYS = PlanArrays._fields[: PlanArrays._fields.index("columns")]
PLAN_ARRAYS: dict[str, type] = {
    name: np.int64 if name == "node" else np.int32 if name in SMALL else np.float64
    for name in ARRAYS[: ARRAYS.index("limits")]
}  # those that a plan holds; the others are made from it


def padded(width: int) -> int:
    """Weights of a line that reads so many places: whole fours."""
    return (width + 3) // 4 * 4


def sizes_of(a: Mapping[str, Array]) -> list[int]:
    """How large everything is, in the handle's order."""
    widths, trees = np.diff(a["expert_read"]), np.diff(a["expert_tree"])
    return [
        len(a["impute"]), len(a["node"]), len(a["leaf"]), len(a["weight"]), len(a["tree_root"]),
        len(a["expert_reach"]), len(a["read_place"]), len(a["head_bias"]),
        padded(int(widths.max(initial=0))), int(trees.max(initial=0)),
    ]  # fmt: skip


def handle_of(a: Mapping[str, Array]) -> Array:
    """Sizes and addresses of a plan's arrays, which must be C-contiguous and outlive the handle."""
    return np.array([*sizes_of(a), *(a[name].ctypes.data for name in ARRAYS)], np.int64)


class Scratch(NamedTuple):
    """Addresses of what a kernel notes on the way; W walkers: rows of a block, or trees of an expert."""

    x: int  # (BLOCK * 2 C,) float64: rows imputed, then scaled; the cell before may be read too
    across: int  # (2 C * BLOCK,) float64: the same place by place
    line: int  # (BLOCK * widest,) float64: what lines read of each
    total: int  # (BLOCK,) float64: an expert's outputs so far
    gap: int  # (BLOCK,) int64: 1 where a row misses a value
    place: int  # (W,) int64: each walker's node, then its leaf
    stack: int  # (STACK,) int64: alternates still to go down


def scratch_size(handle: Array) -> int:
    """Cells of 8 bytes that scoring needs."""
    walkers = max(BLOCK, int(handle[MOST_TREES]) + LANES)
    return 1 + BLOCK * (4 * int(handle[COLUMNS]) + int(handle[WIDEST]) + 2) + walkers + STACK


@kernel
def opened(h: int) -> PlanArrays:
    """The arrays of the handle at an address."""
    return PlanArrays(
        load_i64(h, SIZES + 0),
        load_i64(h, SIZES + 1),
        load_i64(h, SIZES + 2),
        load_i64(h, SIZES + 3),
        load_i64(h, SIZES + 4),
        load_i64(h, SIZES + 5),
        load_i64(h, SIZES + 6),
        load_i64(h, SIZES + 7),
        load_i64(h, SIZES + 8),
        load_i64(h, SIZES + 9),
        load_i64(h, SIZES + 10),
        load_i64(h, SIZES + 11),
        load_i64(h, SIZES + 12),
        load_i64(h, SIZES + 13),
        load_i64(h, SIZES + 14),
        load_i64(h, SIZES + 15),
        load_i64(h, SIZES + 16),
        load_i64(h, SIZES + 17),
        load_i64(h, SIZES + 18),
        load_i64(h, SIZES + 19),
        load_i64(h, SIZES + 20),
        load_i64(h, SIZES + 21),
        load_i64(h, SIZES + 22),
        load_i64(h, SIZES + 23),
        load_i64(h, SIZES + 24),
        load_i64(h, SIZES + 25),
        load_i64(h, SIZES + 26),
        load_i64(h, SIZES + 27),
        load_i64(h, SIZES + 28),
        load_i64(h, SIZES + 29),
        load_i64(h, SIZES + 30),
        load_i64(h, SIZES + 31),
        load_i64(h, COLUMNS), load_i64(h, EXPERTS), load_i64(h, HEADS),
    )  # fmt: skip


@kernel
def opened_scratch(h: int, work: int) -> Scratch:
    """The scratch space at an address, for the plan of the handle at another."""
    x = work + 8
    across = x + 8 * BLOCK * 2 * load_i64(h, COLUMNS)
    line = across + 8 * BLOCK * 2 * load_i64(h, COLUMNS)
    total = line + 8 * BLOCK * load_i64(h, WIDEST)
    gap = total + 8 * BLOCK
    place = gap + 8 * BLOCK
    stack = place + 8 * max(BLOCK, load_i64(h, MOST_TREES) + LANES)
    return Scratch(x, across, line, total, gap, place, stack)
