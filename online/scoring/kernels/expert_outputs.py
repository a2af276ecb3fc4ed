"""What trees, and the experts made of them, answer.

An expert's output is ``sum over its trees of tree_weight * leaf answer``, and a leaf answers with a number or
with a line over what its expert reads (a model tree: Quinlan 1992, Learning with continuous classes), clipped
to the leaf's bounds. Small trees without lines are scored by :mod:`online.scoring.kernels.quickscorer`, all
others by :mod:`online.scoring.kernels.tree_descent`.

The sums of one row and of many are the same, bit for bit: in both, an expert adds its trees in their order,
and a line is summed in four parts that are added in the same order, which the compiler turns into vector
instructions without being allowed to reorder.
"""

from __future__ import annotations

import math

from online.core.clip import clip_in_kernel
from online.core.jit import kernel, load_f64, load_i32, load_i64, store_f64, store_i64
from online.scoring.kernels.plan_arrays import (
    ANSWER_HIGH,
    ANSWER_LOW,
    FALLBACK,
    INTERCEPT,
    LEAF_COLUMNS,
    TARGET_HIGH,
    TARGET_LOW,
    WEIGHTS_AT,
    PlanArrays,
    Scratch,
)
from online.scoring.kernels.quickscorer import score_by_bitvectors, score_rows_by_bitvectors
from online.scoring.kernels.tree_descent import descend, descend_with_gaps

__all__ = ["expert_of_row", "expert_of_rows"]


@kernel
def line_width(p: PlanArrays, expert: int) -> int:
    """How many weights the lines of an expert have."""
    reads = load_i32(p.expert_read_start, expert + 1) - load_i32(p.expert_read_start, expert)
    return int((reads + 3) // 4 * 4)


@kernel
def read_row(p: PlanArrays, s: Scratch, expert: int, offset: int, to: int) -> int:
    """Write what an expert's lines read of the row at ``x[offset]``; 1 if any of it counts as missing."""
    first, last = load_i32(p.expert_read_start, expert), load_i32(p.expert_read_start, expert + 1)
    missing_above, gap = load_f64(p.expert_missing_above, expert), 0
    for j in range(first, last):
        value = load_f64(s.x, offset + load_i32(p.read_column, j))
        if missing_above < math.inf and not abs(value) <= missing_above:
            value, gap = load_f64(p.read_fill, j), 1
        else:
            value = clip_in_kernel(value, load_f64(p.read_low, j), load_f64(p.read_high, j))
        store_f64(s.line, to + j - first, value)
    for j in range(last - first, line_width(p, expert)):
        store_f64(s.line, to + j, 0.0)
    return gap


@kernel
def leaf_answer(p: PlanArrays, s: Scratch, leaf_row: int, offset: int, width: int) -> float:
    """What a row of the leaf table answers; lines read ``width`` numbers at ``line[offset]``."""
    leaf = p.leaf + 8 * LEAF_COLUMNS * leaf_row
    answer = load_f64(leaf, INTERCEPT)
    start = int(load_f64(leaf, WEIGHTS_AT))
    if start >= 0:
        weight, line = p.weight + 8 * start, s.line + 8 * offset
        a = b = c = d = 0.0
        for j in range(0, width, 4):
            a += load_f64(weight, j) * load_f64(line, j)
            b += load_f64(weight, j + 1) * load_f64(line, j + 1)
            c += load_f64(weight, j + 2) * load_f64(line, j + 2)
            d += load_f64(weight, j + 3) * load_f64(line, j + 3)
        answer += (a + b) + (c + d)
    # not clip: an answer that is NaN has to stay one, for finite_output to replace it
    if answer < load_f64(leaf, ANSWER_LOW):
        return load_f64(leaf, ANSWER_LOW)
    return load_f64(leaf, ANSWER_HIGH) if answer > load_f64(leaf, ANSWER_HIGH) else answer


@kernel
def finite_output(p: PlanArrays, output: float) -> float:
    """An expert's output as it enters the heads: finite, within the targets seen."""
    if not abs(output) < math.inf:
        return load_f64(p.limits, FALLBACK)
    return clip_in_kernel(output, load_f64(p.limits, TARGET_LOW), load_f64(p.limits, TARGET_HIGH))


@kernel
def expert_of_row(p: PlanArrays, s: Scratch, expert: int, offset: int) -> float:
    """One expert's output for one row, all of its trees going down together.

    Parameters
    ----------
    p, s
        The plan, and scratch space with the row, imputed and scaled.
    expert
        Which.
    offset
        Where in ``s.x`` the row starts.

    Returns
    -------
    float
        In target units, finite.
    """
    if load_i32(p.qs_expert, expert):
        return finite_output(p, score_by_bitvectors(p, s, expert, offset))
    first, last = load_i32(p.expert_tree_start, expert), load_i32(p.expert_tree_start, expert + 1)
    width, total = line_width(p, expert), 0.0
    gap, missing_above = read_row(p, s, expert, offset, 0), load_f64(p.expert_missing_above, expert)
    for i in range(last - first):
        root = load_i32(p.tree_root, first + i)
        store_i64(s.walker, i, descend_with_gaps(p, s, offset, root, missing_above) if gap else root)
    descend(p, s, offset, 0, last - first)
    for i in range(last - first):
        answer = leaf_answer(p, s, load_i64(s.walker, i), 0, width)
        total += load_f64(p.tree_weight, first + i) * answer
    return finite_output(p, total)


@kernel
def expert_of_rows(p: PlanArrays, s: Scratch, expert: int, rows: int) -> None:
    """One expert's outputs for the rows of ``s.x``, into ``s.total``, all rows going down a tree together.

    The sums are those of :func:`expert_of_row`, bit for bit.

    Parameters
    ----------
    p, s
        The plan, and scratch space with the rows, imputed and scaled.
    expert
        Which.
    rows
        How many, at most a block.
    """
    row, width = 2 * p.columns, line_width(p, expert)
    if load_i32(p.qs_expert, expert):
        score_rows_by_bitvectors(p, s, expert, rows)
        for i in range(rows):
            store_f64(s.total, i, finite_output(p, load_f64(s.total, i)))
        return
    missing_above = load_f64(p.expert_missing_above, expert)
    for i in range(rows):
        store_i64(s.gap, i, read_row(p, s, expert, i * row, i * width))
        store_f64(s.total, i, 0.0)
    for tree in range(load_i32(p.expert_tree_start, expert), load_i32(p.expert_tree_start, expert + 1)):
        weight, root = load_f64(p.tree_weight, tree), load_i32(p.tree_root, tree)
        for i in range(rows):
            gap = load_i64(s.gap, i)
            node = descend_with_gaps(p, s, i * row, root, missing_above) if gap else root
            store_i64(s.walker, i, node)
        descend(p, s, 0, row, rows)
        for i in range(rows):
            answer = leaf_answer(p, s, load_i64(s.walker, i), i * width, width)
            store_f64(s.total, i, load_f64(s.total, i) + weight * answer)
    for i in range(rows):
        store_f64(s.total, i, finite_output(p, load_f64(s.total, i)))
