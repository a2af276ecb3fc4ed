"""What trees, and the experts made of them, say of rows."""

from __future__ import annotations

import math

from online.core.jit import kernel, put_real, put_whole, real, small, whole
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
    return int((small(p.expert_read, e + 1) - small(p.expert_read, e) + 3) // 4 * 4)


@kernel
def read_row(p: PlanArrays, s: Scratch, e: int, at: int, to: int) -> int:
    """Write what an expert's lines read of the row at ``x[at]``; 1 if any of it counts as missing."""
    first, last = small(p.expert_read, e), small(p.expert_read, e + 1)
    reach, gap = real(p.expert_reach, e), 0
    for j in range(first, last):
        value = real(s.x, at + small(p.read_place, j))
        if reach < math.inf and not abs(value) <= reach:
            value, gap = real(p.read_fill, j), 1
        else:
            value = min(max(value, real(p.read_low, j)), real(p.read_high, j))
        put_real(s.line, to + j - first, value)
    for j in range(last - first, line_width(p, e)):
        put_real(s.line, to + j, 0.0)
    return gap


@kernel
def leaf_answer(p: PlanArrays, s: Scratch, place: int, at: int, width: int) -> float:
    """What a row of the leaf table says; lines read ``width`` numbers at ``line[at]``, whole fours."""
    leaf = p.leaf + 8 * LEAF * place
    answer = real(leaf, BIAS)
    start = int(real(leaf, LINE))
    if start >= 0:
        weight, line = p.weight + 8 * start, s.line + 8 * at
        a = b = c = d = 0.0
        for j in range(0, width, 4):
            a += real(weight, j) * real(line, j)
            b += real(weight, j + 1) * real(line, j + 1)
            c += real(weight, j + 2) * real(line, j + 2)
            d += real(weight, j + 3) * real(line, j + 3)
        answer += (a + b) + (c + d)
    if answer < real(leaf, LOW):
        return real(leaf, LOW)
    return real(leaf, HIGH) if answer > real(leaf, HIGH) else answer


@kernel
def mean_answer(p: PlanArrays, s: Scratch, root: int, at: int, to: int, width: int) -> float:
    """What a tree says in which alternates stand beside branches: the mean of all leaves reached."""
    total, leaves, waiting = 0.0, 0, 1
    put_whole(s.stack, 0, root)
    while waiting > 0:
        waiting -= 1
        node = whole(s.stack, waiting)
        way = whole(p.node, 2 * node + 1)
        while way >= 0:
            beside = small(p.node_alternate, node)
            if beside >= 0 and waiting < STACK:
                put_whole(s.stack, waiting, beside)
                waiting += 1
            node = child(p, node, way, real(s.x, at + (way >> FEATURE_BIT)))
            way = whole(p.node, 2 * node + 1)
        total += leaf_answer(p, s, way & CHILD_BITS, to, width)
        leaves += 1
    return total / leaves


@kernel
def held(p: PlanArrays, output: float) -> float:
    """An expert's output as it enters the heads: finite, within the targets seen."""
    if not abs(output) < math.inf:
        return real(p.limits, FALLBACK)
    return min(max(output, real(p.limits, LEAST)), real(p.limits, MOST))


@kernel
def expert_of_row(p: PlanArrays, s: Scratch, e: int, at: int) -> float:
    """One expert's output for the row at ``x[at]``, all of its trees going down together."""
    if small(p.expert_cut, e):
        return held(p, answer_by_cuts(p, s, e, at))
    first, last = small(p.expert_tree, e), small(p.expert_tree, e + 1)
    width, total = line_width(p, e), 0.0
    gap = read_row(p, s, e, at, 0)
    if small(p.expert_beside, e):
        for tree in range(first, last):
            answer = mean_answer(p, s, small(p.tree_root, tree), at, 0, width)
            total += real(p.tree_weight, tree) * answer
        return held(p, total)
    for i in range(last - first):
        root = small(p.tree_root, first + i)
        put_whole(s.place, i, descend_with_gaps(p, s, at, root, real(p.expert_reach, e)) if gap else root)
    descend(p, s, at, 0, last - first)
    for i in range(last - first):
        total += real(p.tree_weight, first + i) * leaf_answer(p, s, whole(s.place, i), 0, width)
    return held(p, total)


@kernel
def expert_of_rows(p: PlanArrays, s: Scratch, e: int, n: int) -> None:
    """One expert's outputs for the n rows of x, into ``total``, all rows going down a tree together.

    The sums are those of :func:`expert_of_row`, bit for bit.
    """
    row, width = 2 * p.columns, line_width(p, e)
    if small(p.expert_cut, e):
        answers_by_cuts(p, s, e, n)
        for i in range(n):
            put_real(s.total, i, held(p, real(s.total, i)))
        return
    for i in range(n):
        put_whole(s.gap, i, read_row(p, s, e, i * row, i * width))
        put_real(s.total, i, 0.0)
    for tree in range(small(p.expert_tree, e), small(p.expert_tree, e + 1)):
        weight, root = real(p.tree_weight, tree), small(p.tree_root, tree)
        if small(p.expert_beside, e):
            for i in range(n):
                answer = mean_answer(p, s, root, i * row, i * width, width)
                put_real(s.total, i, real(s.total, i) + weight * answer)
            continue
        for i in range(n):
            gap = whole(s.gap, i)
            place = descend_with_gaps(p, s, i * row, root, real(p.expert_reach, e)) if gap else root
            put_whole(s.place, i, place)
        descend(p, s, 0, row, n)
        for i in range(n):
            answer = leaf_answer(p, s, whole(s.place, i), i * width, width)
            put_real(s.total, i, real(s.total, i) + weight * answer)
    for i in range(n):
        put_real(s.total, i, held(p, real(s.total, i)))
