"""Rows in, predictions and experts' outputs out: the kernel that is called from Python."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from online.core.jit import cfunc_cached, kernel, load_f64, load_i64, store_f64
from online.scoring.kernels.expert_outputs import expert_of_row, expert_of_rows
from online.scoring.kernels.plan_arrays import BLOCK, LEAST, MOST, PlanArrays, Scratch, opened, opened_scratch

__all__ = ["ScoreKernel", "score_kernel"]

TOGETHER = 8  # from so many rows on, a tree takes all rows before the next tree does


@kernel
def prepare(p: PlanArrays, rows: int, x: int) -> None:
    """Impute the row at an address and scale it, as River's imputer and scaler do."""
    for j in range(p.columns):
        value = load_f64(rows, j)
        if math.isnan(value):
            value = load_f64(p.impute, j)
        store_f64(x, j, value)
        scale = load_f64(p.scale, j)
        store_f64(x, p.columns + j, (value - load_f64(p.mean, j)) / scale if scale > 0.0 else 0.0)


@kernel
def turn(s: Scratch, width: int, n: int) -> None:
    """Write the rows of ``x`` place by place."""
    for i in range(n):
        for j in range(width):
            store_f64(s.across, BLOCK * j + i, load_f64(s.x, width * i + j))


@kernel
def combine(p: PlanArrays, outputs: int) -> float:
    """The heads' prediction from the experts' outputs."""
    low, high, total = math.inf, -math.inf, 0.0
    for e in range(p.experts):
        low, high = min(low, load_f64(outputs, e)), max(high, load_f64(outputs, e))
    for q in range(p.heads):
        answer, margin = load_f64(p.head_bias, q), load_f64(p.head_margin, q)
        for e in range(p.experts):
            answer += load_f64(p.head_weight, q * p.experts + e) * load_f64(outputs, e)
        total += load_f64(p.head_share, q) * min(max(answer, low - margin), high + margin)
    return min(max(total, load_f64(p.limits, LEAST)), load_f64(p.limits, MOST))


@kernel
def spread(p: PlanArrays, outputs: int) -> float:
    """How much experts disagree, as :func:`online.features.error_scale.disagreement_of` has it."""
    mean, total = 0.0, 0.0
    for e in range(p.experts):
        mean += load_f64(outputs, e) * load_f64(p.expert_share, e)
    for e in range(p.experts):
        total += abs(load_f64(outputs, e) - mean) * load_f64(p.expert_share, e)
    return 0.5 * (total + middle(p, outputs, mean))


@kernel
def middle(p: PlanArrays, outputs: int, mean: float) -> float:
    """The median of the outputs' distances from a mean, the upper one where there are two."""
    for e in range(p.experts):
        apart, rank = abs(load_f64(outputs, e) - mean), 0
        for i in range(p.experts):
            other = abs(load_f64(outputs, i) - mean)
            rank += other < apart or (other == apart and i < e)
        if rank == p.experts // 2:
            return apart
    return 0.0


@kernel
def score_rows(p: PlanArrays, s: Scratch, rows: int, n: int, out: int) -> None:
    """Score rows (n, C) into (n, 2 + k): the prediction, the experts' outputs, their spread."""
    width, wide = 2 * p.columns, 2 + p.experts
    for first in range(0, n, BLOCK):
        count = min(BLOCK, n - first)
        for i in range(count):
            prepare(p, rows + 8 * p.columns * (first + i), s.x + 8 * width * i)
        if count >= TOGETHER:
            turn(s, width, count)
        for e in range(p.experts):
            if count < TOGETHER:
                for i in range(count):
                    store_f64(out, (first + i) * wide + 1 + e, expert_of_row(p, s, e, i * width))
            else:
                expert_of_rows(p, s, e, count)
                for i in range(count):
                    store_f64(out, (first + i) * wide + 1 + e, load_f64(s.total, i))
        for i in range(first, first + count):
            outputs = out + 8 * (i * wide + 1)
            store_f64(out, i * wide, combine(p, outputs))
            store_f64(outputs, p.experts, spread(p, outputs))


class ScoreKernel(NamedTuple):
    """Scores the rows of the call at an address: int64 ``handle, rows, n, out, work``, all but n addresses.

    ``work`` is scratch of :func:`online.scoring.kernels.plan_arrays.scratch_size` cells. The same function
    twice.
    """

    with_gil: Callable[[int], None]  # for a few rows, as getting the interpreter's lock back takes longer
    nogil: Callable[[int], None]  # lets other threads run Python meanwhile
    code: Any  # what both are the code of


@functools.cache
def score_kernel() -> ScoreKernel:
    """The kernel, compiled or loaded once."""
    code = cfunc_cached("void(int64)")(score)
    with_gil, nogil = ctypes.PYFUNCTYPE(None, ctypes.c_int64), ctypes.CFUNCTYPE(None, ctypes.c_int64)
    return ScoreKernel(with_gil(code.address), nogil(code.address), code)


def score(call: int) -> None:
    """Score the rows of the call at an address, as :class:`ScoreKernel` says."""
    table, rows, n, out, work = (
        load_i64(call, 0), load_i64(call, 1), load_i64(call, 2), load_i64(call, 3), load_i64(call, 4),
    )  # fmt: skip
    score_rows(opened(table), opened_scratch(table, work), rows, n, out)
