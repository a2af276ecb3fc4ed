"""Rows in, predictions and experts' outputs out: the kernel that is called from Python.

It imputes and scales rows as River's imputer and scaler do, asks every expert, and combines the outputs as
:class:`online.model.aggregation.heads.Heads` says. Few rows go one after the other through all trees of an
expert, many go together through one tree after the other; the results are the same, bit for bit.

A kernel, because this is what a request waits for: some 12 us a row, a tenth of what a request takes in all.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from online.core.clip import clip_in_kernel
from online.core.jit import cfunc_cached, kernel, load_f64, load_i64, store_f64, vector_at
from online.features.error_scale import row_disagreement
from online.scoring.kernels.expert_outputs import expert_of_row, expert_of_rows
from online.scoring.kernels.plan_arrays import (
    BLOCK_ROWS,
    TARGET_HIGH,
    TARGET_LOW,
    PlanArrays,
    Scratch,
    read_plan,
    scratch_of,
)

__all__ = ["ScoreKernel", "score_kernel"]

FEWEST_TOGETHER = 8  # from so many rows on, a tree takes all rows before the next tree does


@kernel
def impute_and_scale(p: PlanArrays, values: int, x: int) -> None:
    """Impute the row at an address and scale it, as River's imputer and scaler do."""
    for j in range(p.columns):
        value = load_f64(values, j)
        if math.isnan(value):
            value = load_f64(p.impute, j)
        store_f64(x, j, value)
        scale = load_f64(p.scale, j)
        scaled = (value - load_f64(p.mean, j)) / scale if scale > 0.0 else 0.0
        store_f64(x, p.columns + j, scaled)


@kernel
def transpose(s: Scratch, width: int, rows: int) -> None:
    """Write the rows of ``x`` column by column."""
    for i in range(rows):
        for j in range(width):
            store_f64(s.by_column, BLOCK_ROWS * j + i, load_f64(s.x, width * i + j))


@kernel
def combine(p: PlanArrays, outputs: int) -> float:
    """The heads' prediction from the experts' outputs, as plan_arrays has the formula."""
    low, high, total = math.inf, -math.inf, 0.0
    for e in range(p.experts):
        low, high = min(low, load_f64(outputs, e)), max(high, load_f64(outputs, e))
    for q in range(p.heads):
        answer, margin = load_f64(p.head_bias, q), load_f64(p.head_margin, q)
        for e in range(p.experts):
            answer += load_f64(p.head_weight, q * p.experts + e) * load_f64(outputs, e)
        total += load_f64(p.head_share, q) * clip_in_kernel(answer, low - margin, high + margin)
    return clip_in_kernel(total, load_f64(p.limits, TARGET_LOW), load_f64(p.limits, TARGET_HIGH))


@kernel
def score_rows(p: PlanArrays, s: Scratch, rows: int, count: int, out: int) -> None:
    """Score rows (count, C) into (count, 2 + k): prediction, experts' outputs, and their disagreement."""
    width, out_width = 2 * p.columns, 2 + p.experts
    for first in range(0, count, BLOCK_ROWS):
        block = min(BLOCK_ROWS, count - first)
        for i in range(block):
            impute_and_scale(p, rows + 8 * p.columns * (first + i), s.x + 8 * width * i)
        if block >= FEWEST_TOGETHER:
            transpose(s, width, block)
        for e in range(p.experts):
            if block < FEWEST_TOGETHER:
                for i in range(block):
                    store_f64(out, (first + i) * out_width + 1 + e, expert_of_row(p, s, e, i * width))
            else:
                expert_of_rows(p, s, e, block)
                for i in range(block):
                    store_f64(out, (first + i) * out_width + 1 + e, load_f64(s.total, i))
        for i in range(first, first + block):
            outputs = out + 8 * (i * out_width + 1)
            store_f64(out, i * out_width, combine(p, outputs))
            disagreement = row_disagreement(
                vector_at(outputs, p.experts), vector_at(p.expert_share, p.experts)
            )
            store_f64(outputs, p.experts, disagreement)


class ScoreKernel(NamedTuple):
    """Scores the rows of the call at an address: int64 ``table, rows, count, out, work``.

    All but the count are addresses; ``work`` is scratch of
    :func:`online.scoring.kernels.plan_arrays.scratch_size` cells. The same function twice.
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
    p = read_plan(load_i64(call, 0))
    rows, count, out, work = load_i64(call, 1), load_i64(call, 2), load_i64(call, 3), load_i64(call, 4)
    score_rows(p, scratch_of(p, work), rows, count, out)
