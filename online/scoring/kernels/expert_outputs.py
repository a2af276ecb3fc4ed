"""What trees, and the experts made of them, say of rows."""

from __future__ import annotations

import math

from online.core.jit import kernel, load_f64, load_i32, load_i64, store_f64, store_i64
from online.scoring.kernels.plan_arrays import (
    BIAS,
    CHILD_BITS,
    FALLBACK,
    FEATURE_BIT,
    HIGH,
    LEAF,
    LEAST,
    LINE,
    LOW,
    MOST,
    STACK,
    PlanArrays,
    Scratch,
)
from online.scoring.kernels.quickscorer import answer_by_cuts, answers_by_cuts
from online.scoring.kernels.tree_descent import child, descend, descend_with_gaps

__all__ = ["expert_of_row", "expert_of_rows"]


@kernel
def line_width(p: PlanArrays, e: int) -> int:
    """How many weights the lines of an expert have."""
    return int((load_i32(p.expert_read, e + 1) - load_i32(p.expert_read, e) + 3) // 4 * 4)


@kernel
def read_row(p: PlanArrays, s: Scratch, e: int, at: int, to: int) -> int:
    """Write what an expert's lines read of the row at ``x[at]``; 1 if any of it counts as missing."""
    first, last = load_i32(p.expert_read, e), load_i32(p.expert_read, e + 1)
    reach, gap = load_f64(p.expert_reach, e), 0
    for j in range(first, last):
        value = load_f64(s.x, at + load_i32(p.read_place, j))
        if reach < math.inf and not abs(value) <= reach:
            value, gap = load_f64(p.read_fill, j), 1
        else:
            value = min(max(value, load_f64(p.read_low, j)), load_f64(p.read_high, j))
        store_f64(s.line, to + j - first, value)
    for j in range(last - first, line_width(p, e)):
        store_f64(s.line, to + j, 0.0)
    return gap


@kernel
def leaf_answer(p: PlanArrays, s: Scratch, place: int, at: int, width: int) -> float:
    """What a row of the leaf table says; lines read ``width`` numbers at ``line[at]``, whole fours."""
    leaf = p.leaf + 8 * LEAF * place
    answer = load_f64(leaf, BIAS)
    start = int(load_f64(leaf, LINE))
    if start >= 0:
        weight, line = p.weight + 8 * start, s.line + 8 * at
        a = b = c = d = 0.0
        for j in range(0, width, 4):
            a += load_f64(weight, j) * load_f64(line, j)
            b += load_f64(weight, j + 1) * load_f64(line, j + 1)
            c += load_f64(weight, j + 2) * load_f64(line, j + 2)
            d += load_f64(weight, j + 3) * load_f64(line, j + 3)
        answer += (a + b) + (c + d)
    if answer < load_f64(leaf, LOW):
        return load_f64(leaf, LOW)
    return load_f64(leaf, HIGH) if answer > load_f64(leaf, HIGH) else answer


@kernel
def mean_answer(p: PlanArrays, s: Scratch, root: int, at: int, to: int, width: int) -> float:
    """What a tree says in which alternates stand beside branches: the mean of all leaves reached."""
    total, leaves, waiting = 0.0, 0, 1
    store_i64(s.stack, 0, root)
    while waiting > 0:
        waiting -= 1
        node = load_i64(s.stack, waiting)
        way = load_i64(p.node, 2 * node + 1)
        while way >= 0:
            beside = load_i32(p.node_alternate, node)
            if beside >= 0 and waiting < STACK:
                store_i64(s.stack, waiting, beside)
                waiting += 1
            node = child(p, node, way, load_f64(s.x, at + (way >> FEATURE_BIT)))
            way = load_i64(p.node, 2 * node + 1)
        total += leaf_answer(p, s, way & CHILD_BITS, to, width)
        leaves += 1
    return total / leaves


@kernel
def held(p: PlanArrays, output: float) -> float:
    """An expert's output as it enters the heads: finite, within the targets seen."""
    if not abs(output) < math.inf:
        return load_f64(p.limits, FALLBACK)
    return min(max(output, load_f64(p.limits, LEAST)), load_f64(p.limits, MOST))


@kernel
def expert_of_row(p: PlanArrays, s: Scratch, e: int, at: int) -> float:
    """One expert's output for the row at ``x[at]``, all of its trees going down together."""
    if load_i32(p.expert_cut, e):
        return held(p, answer_by_cuts(p, s, e, at))
    first, last = load_i32(p.expert_tree, e), load_i32(p.expert_tree, e + 1)
    width, total = line_width(p, e), 0.0
    gap = read_row(p, s, e, at, 0)
    if load_i32(p.expert_beside, e):
        for tree in range(first, last):
            answer = mean_answer(p, s, load_i32(p.tree_root, tree), at, 0, width)
            total += load_f64(p.tree_weight, tree) * answer
        return held(p, total)
    for i in range(last - first):
        root = load_i32(p.tree_root, first + i)
        store_i64(s.place, i, descend_with_gaps(p, s, at, root, load_f64(p.expert_reach, e)) if gap else root)
    descend(p, s, at, 0, last - first)
    for i in range(last - first):
        total += load_f64(p.tree_weight, first + i) * leaf_answer(p, s, load_i64(s.place, i), 0, width)
    return held(p, total)


@kernel
def expert_of_rows(p: PlanArrays, s: Scratch, e: int, n: int) -> None:
    """One expert's outputs for the n rows of x, into ``total``, all rows going down a tree together.

    The sums are those of :func:`expert_of_row`, bit for bit.
    """
    row, width = 2 * p.columns, line_width(p, e)
    if load_i32(p.expert_cut, e):
        answers_by_cuts(p, s, e, n)
        for i in range(n):
            store_f64(s.total, i, held(p, load_f64(s.total, i)))
        return
    for i in range(n):
        store_i64(s.gap, i, read_row(p, s, e, i * row, i * width))
        store_f64(s.total, i, 0.0)
    for tree in range(load_i32(p.expert_tree, e), load_i32(p.expert_tree, e + 1)):
        weight, root = load_f64(p.tree_weight, tree), load_i32(p.tree_root, tree)
        if load_i32(p.expert_beside, e):
            for i in range(n):
                answer = mean_answer(p, s, root, i * row, i * width, width)
                store_f64(s.total, i, load_f64(s.total, i) + weight * answer)
            continue
        for i in range(n):
            gap = load_i64(s.gap, i)
            place = descend_with_gaps(p, s, i * row, root, load_f64(p.expert_reach, e)) if gap else root
            store_i64(s.place, i, place)
        descend(p, s, 0, row, n)
        for i in range(n):
            answer = leaf_answer(p, s, load_i64(s.place, i), i * width, width)
            store_f64(s.total, i, load_f64(s.total, i) + weight * answer)
    for i in range(n):
        store_f64(s.total, i, held(p, load_f64(s.total, i)))
