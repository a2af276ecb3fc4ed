"""One label learned by an aggregator: the kernel that moves its whole state on.

Kernels, because a label passes three ML-Poly, three stacks and six heads over a dozen experts each: some
10 us, where NumPy's calls alone would take 300. They reach the state through the address of its array table;
the arrays and their shapes are described in :mod:`online.model.aggregation.weights_state`.

In the order of a label: missing outputs are filled (``complete``), the state is discounted when labels come
sooner than they did (``delay_shrank``, ``discount_state``), the heads as they were when the row was served
answer it (``snapshot_index``, ``apply_heads``) and are judged by ML-Poly, every head learns, and the heads of
now are written and noted (``write_heads``, ``push_snapshot``).
"""

from __future__ import annotations

import math

from online.core.clip import clip_in_kernel
from online.core.jit import kernel, njit_cached, vector_at
from online.model.aggregation.best import learn_best
from online.model.aggregation.heads import Array
from online.model.aggregation.poly import learn_poly
from online.model.aggregation.stack import STACK_RIDGE, State, learn_stack, line_unit, write_line
from online.model.aggregation.weights_state import (
    CONVEX,
    CURRENT,
    ERRORS,
    FADED_DELAY,
    HEADS,
    HIGHEST_DELAY,
    LEARNED,
    MEMORIES,
    NOTED,
    OF_FADING,
    OF_HEADS,
    OF_LASTING,
    REGRETS,
    SNAPSHOTS,
    STACKS,
    STRIDE,
    WEIGHTS,
    weights_at,
)

__all__ = ["combine_at", "learn_at"]

LARGEST_OUTPUT = 1e140  # in size: beyond it squares could overflow
STACK_MARGIN = 0.2  # how far beyond its experts a stack may go, in units of their disagreement
SLOW_DECAY = 0.0005  # what the second head's regrets lose when a label comes
FAST_DECAY, FAST_DECAY_HEADS = 0.004, 0.006  # what they, and those of the heads, lose when it comes at once
DELAY_ROWS = 200.0  # labels that tell how late labels come
DISCOUNT = 0.05  # what is left of regrets when they come sooner than they did
DELAY_SCALE = 2.0  # labels that late quarter the fast decay: they tell less of what is to come


@kernel
def learn_row(s: State, served: Array, y: float, age: int) -> None:
    """Learn the target of outputs (k,) as served ``age`` labels ago, NaN where an expert had none."""
    if not complete(served, s.lasting[WEIGHTS], s.outputs):
        return
    y = clip_in_kernel(y, -LARGEST_OUTPUT, LARGEST_OUTPUT)
    if delay_shrank(s.counters, age):
        discount_state(s)
    then = snapshot_index(s.counters, age)
    apply_heads(s, then, s.outputs)
    s.counters[LEARNED] += 1.0
    learn_poly(s.over_heads, s.largest, OF_HEADS, s.answers, y, retention(0.0, FAST_DECAY_HEADS, age))
    learn_poly(s.lasting, s.largest, OF_LASTING, s.outputs, y, 1.0)
    learn_poly(s.fading, s.largest, OF_FADING, s.outputs, y, retention(SLOW_DECAY, FAST_DECAY, age))
    learn_best(s.recent_best[WEIGHTS], s.recent_best[ERRORS], s.outputs, y)
    for i in range(STACKS):  # anchored in the first head as served
        learn_stack(s, i, s.head_weights[then, 0], y, MEMORIES[i])
    write_heads(s)
    push_snapshot(s)


@kernel
def delay_shrank(counters: Array, age: int) -> bool:
    """Whether labels come sooner than they did, by a factor of e in the mean of many."""
    delay = math.log1p(max(age, 0))
    if counters[LEARNED] == 0.0:
        counters[FADED_DELAY] = counters[HIGHEST_DELAY] = delay
    counters[FADED_DELAY] += (delay - counters[FADED_DELAY]) / DELAY_ROWS
    counters[HIGHEST_DELAY] = max(counters[HIGHEST_DELAY], counters[FADED_DELAY])
    shrank = bool(counters[HIGHEST_DELAY] - counters[FADED_DELAY] > 1.0)
    if shrank:
        counters[HIGHEST_DELAY] = counters[FADED_DELAY]
    return shrank


@kernel
def discount_state(s: State) -> None:
    """Take what is known of experts and heads for less: labels that come sooner make others the best.

    When they come later, what is known stays: little could be learned in its place.
    """
    for i in range(REGRETS, 3):
        for j in range(s.outputs.shape[0]):
            s.lasting[i, j] *= DISCOUNT
            s.fading[i, j] *= DISCOUNT
        for q in range(HEADS):
            s.over_heads[i, q] *= DISCOUNT
    for j in range(s.outputs.shape[0]):
        s.recent_best[ERRORS, j] *= DISCOUNT
    for i in range(STACKS):
        for a in range(s.row.shape[0]):
            for b in range(s.row.shape[0]):
                s.stack_inverse[i, a, b] = 1.0 / STACK_RIDGE if a == b else 0.0


@kernel
def retention(slow_decay: float, fast_decay: float, age: int) -> float:
    """What is left of regrets when a label comes that was served so many labels ago."""
    return 1.0 - max(slow_decay, fast_decay / (1.0 + max(age, 0) / DELAY_SCALE) ** 2)


@kernel
def complete(served: Array, weights: Array, outputs: Array) -> bool:
    """Put the others' weighted mean in the place of missing outputs; False where all are missing.

    So nothing is learned of them. Means move by steps, which do not overflow as sums would.
    """
    total = mean = plain = 0.0
    present = 0
    for j in range(served.shape[0]):
        if abs(served[j]) < math.inf:
            value = clip_in_kernel(served[j], -LARGEST_OUTPUT, LARGEST_OUTPUT)
            present += 1
            plain += (value - plain) / present
            if weights[j] > 0.0:
                total += weights[j]
                mean += (value - mean) * (weights[j] / total)
    for j in range(served.shape[0]):
        if abs(served[j]) < math.inf:
            outputs[j] = clip_in_kernel(served[j], -LARGEST_OUTPUT, LARGEST_OUTPUT)
        else:
            outputs[j] = mean if total > 0.0 else plain
    return present > 0


@kernel
def snapshot_index(counters: Array, age: int) -> int:
    """Which heads are those of about so many labels ago, no newer than that where there are any."""
    noted = int(counters[NOTED])
    if age <= 0 or noted == 0:
        return CURRENT
    newest = (noted - 1) // STRIDE
    since = (noted - 1) % STRIDE  # labels since the newest snapshot
    back = max(0, (age - since + STRIDE - 1) // STRIDE)
    return max(0, newest - min(back, SNAPSHOTS - 1)) % SNAPSHOTS


@kernel
def apply_heads(s: State, snapshot: int, outputs: Array) -> None:
    """Write what each head of a snapshot makes of outputs to ``answers``."""
    k = outputs.shape[0]
    low, high = outputs[0], outputs[0]
    for j in range(k):
        low, high = min(low, outputs[j]), max(high, outputs[j])
    for q in range(HEADS):
        total = s.head_bias[snapshot, q]
        for j in range(k):
            total += s.head_weights[snapshot, q, j] * outputs[j]
        margin = s.head_margin[snapshot, q]
        s.answers[q] = clip_in_kernel(total, low - margin, high + margin)


@kernel
def combine_row(s: State, outputs: Array) -> float:
    """The prediction for outputs (k,), all finite."""
    apply_heads(s, CURRENT, outputs)
    total = 0.0
    for q in range(HEADS):
        total += s.head_share[CURRENT, q] * s.answers[q]
    return total


@kernel
def write_heads(s: State) -> None:
    """Bring the heads of now, and the sizes of the experts' weights, up to date."""
    weights, bias, share = s.head_weights[CURRENT], s.head_bias[CURRENT], s.head_share[CURRENT]
    k = s.outputs.shape[0]
    for j in range(k):
        weights[0, j] = s.lasting[WEIGHTS, j]
        weights[1, j] = s.fading[WEIGHTS, j]
        weights[2, j] = s.recent_best[WEIGHTS, j]
    for i in range(STACKS):
        q = CONVEX + i
        bias[q] = write_line(s, i, s.lasting[WEIGHTS], weights[q])
        s.head_margin[CURRENT, q] = STACK_MARGIN * line_unit(s, i)
    for q in range(HEADS):
        share[q] = s.over_heads[WEIGHTS, q]
    total = 0.0
    for j in range(k):
        weight = 0.0
        for q in range(HEADS):
            weight += share[q] * weights[q, j]
        s.sizes[j] = abs(weight)
        total += abs(weight)
    for j in range(k):
        s.sizes[j] = s.sizes[j] / total if total > 0.0 else 1.0 / k


@kernel
def push_snapshot(s: State) -> None:
    """Keep the heads of now, every so many labels."""
    noted = int(s.counters[NOTED])
    if noted % STRIDE == 0:
        to = noted // STRIDE % SNAPSHOTS
        for q in range(HEADS):
            for j in range(s.outputs.shape[0]):
                s.head_weights[to, q, j] = s.head_weights[CURRENT, q, j]
            s.head_bias[to, q] = s.head_bias[CURRENT, q]
            s.head_margin[to, q] = s.head_margin[CURRENT, q]
            s.head_share[to, q] = s.head_share[CURRENT, q]
    s.counters[NOTED] += 1.0


@njit_cached
def learn_at(table: int, served: int, y: float, age: int) -> None:
    """As :func:`learn_row`, by addresses: the one that Python calls, with all others in it.

    Parameters
    ----------
    table
        The address of the state's array table.
    served
        The address of the experts' outputs as served, (k,) float64, NaN where an expert had none.
    y
        The target, finite.
    age
        How many labels were learned between the serving and now.
    """
    s = weights_at(table)
    learn_row(s, vector_at(served, s.outputs.shape[0]), y, age)


@njit_cached
def combine_at(table: int, outputs: int) -> float:
    """As :func:`combine_row`, by addresses.

    Parameters
    ----------
    table
        The address of the state's array table.
    outputs
        The address of the experts' outputs, (k,) float64, finite.

    Returns
    -------
    float
        The prediction, in target units.
    """
    s = weights_at(table)
    return combine_row(s, vector_at(outputs, s.outputs.shape[0]))
