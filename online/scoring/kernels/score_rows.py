"""Rows in, predictions and experts' outputs out: the kernel that is called from Python."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import cfunc

from online.core.jit import cached, kernel, put_real, real, source_hash, whole
from online.scoring.kernels.expert_outputs import expert_of_row, expert_of_rows
from online.scoring.kernels.plan_arrays import BLOCK, LEAST, MOST, PlanArrays, Scratch, opened, opened_scratch

__all__ = ["ScoreKernel", "score_kernel"]

TOGETHER = 8  # from so many rows on, a tree takes all rows before the next tree does


@kernel
def prepare(p: PlanArrays, rows: int, x: int) -> None:
    """Impute the row at an address and scale it, as River's imputer and scaler do."""
    for j in range(p.columns):
        value = real(rows, j)
        if math.isnan(value):
            value = real(p.impute, j)
        put_real(x, j, value)
        scale = real(p.scale, j)
        put_real(x, p.columns + j, (value - real(p.mean, j)) / scale if scale > 0.0 else 0.0)


@kernel
def turn(s: Scratch, width: int, n: int) -> None:
    """Write the rows of ``x`` place by place."""
    for i in range(n):
        for j in range(width):
            put_real(s.across, BLOCK * j + i, real(s.x, width * i + j))


@kernel
def combine(p: PlanArrays, outputs: int) -> float:
    """The heads' prediction from the experts' outputs."""
    low, high, total = math.inf, -math.inf, 0.0
    for e in range(p.experts):
        low, high = min(low, real(outputs, e)), max(high, real(outputs, e))
    for q in range(p.heads):
        answer, margin = real(p.head_bias, q), real(p.head_margin, q)
        for e in range(p.experts):
            answer += real(p.head_weight, q * p.experts + e) * real(outputs, e)
        total += real(p.head_share, q) * min(max(answer, low - margin), high + margin)
    return min(max(total, real(p.limits, LEAST)), real(p.limits, MOST))


@kernel
def spread(p: PlanArrays, outputs: int) -> float:
    """How much experts disagree, as :func:`online.features.error_scale.disagreement_of` has it."""
    mean, total = 0.0, 0.0
    for e in range(p.experts):
        mean += real(outputs, e) * real(p.expert_share, e)
    for e in range(p.experts):
        total += abs(real(outputs, e) - mean) * real(p.expert_share, e)
    return 0.5 * (total + middle(p, outputs, mean))


@kernel
def middle(p: PlanArrays, outputs: int, mean: float) -> float:
    """The median of the outputs' distances from a mean, the upper one where there are two."""
    for e in range(p.experts):
        apart, rank = abs(real(outputs, e) - mean), 0
        for i in range(p.experts):
            other = abs(real(outputs, i) - mean)
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
                    put_real(out, (first + i) * wide + 1 + e, expert_of_row(p, s, e, i * width))
            else:
                expert_of_rows(p, s, e, count)
                for i in range(count):
                    put_real(out, (first + i) * wide + 1 + e, real(s.total, i))
        for i in range(first, first + count):
            outputs = out + 8 * (i * wide + 1)
            put_real(out, i * wide, combine(p, outputs))
            put_real(outputs, p.experts, spread(p, outputs))


class ScoreKernel(NamedTuple):
    """Scores the rows of the call at an address: int64 ``handle, rows, n, out, work``, all but n addresses.

    ``work`` is scratch of :func:`online.scoring.kernels.plan_arrays.scratch_size` cells. The same function
    twice.
    """

    alone: Callable[[int], None]  # keeps the interpreter's lock: for a few rows, getting it back takes longer
    beside: Callable[[int], None]  # lets other threads run Python meanwhile
    code: Any  # what both are the code of


@functools.cache
def score_kernel() -> ScoreKernel:
    """The kernel, compiled or loaded once."""
    return scoring_for(source_hash(__file__))


def scoring_for(sources: int) -> ScoreKernel:
    """The kernel of a version of the sources, which it must mention for Numba to tell versions apart."""

    def score(call: int) -> None:
        if sources:
            handle, rows, n, out, work = (
                whole(call, 0), whole(call, 1), whole(call, 2), whole(call, 3), whole(call, 4),
            )  # fmt: skip
            score_rows(opened(handle), opened_scratch(handle, work), rows, n, out)

    code = cached(score, "void(int64)", cfunc)
    alone, beside = ctypes.PYFUNCTYPE(None, ctypes.c_int64), ctypes.CFUNCTYPE(None, ctypes.c_int64)
    return ScoreKernel(alone(code.address), beside(code.address), code)
