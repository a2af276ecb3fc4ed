"""One label taken in by an aggregator: the kernel that moves everything in its array of numbers on."""

from __future__ import annotations

import math

from online.core.jit import kernel, njit_cached
from online.model.aggregation.best import learn_best
from online.model.aggregation.heads import Array
from online.model.aggregation.poly import learn_weights
from online.model.aggregation.stack import RIDGE, SEEN, learn_stack, write_line
from online.model.aggregation.weights_state import CONVEX, HEADS, KEPT, MEMORIES, POLY, STRIDE, Places

__all__ = ["combine", "learn"]

LARGEST = 1e140  # in size: beyond it squares could overflow
MARGIN = 0.2  # how far beyond its experts a stack may go, in units of their disagreement
FADING = 0.0005  # what the second head's regrets lose when a label comes
PROMPT, PROMPT_OVER = 0.004, 0.006  # what they, and those of the heads, lose when it comes at once
LATENESS_ROWS = 200.0  # labels that tell how late labels come
DOUBT = 0.05  # what is left of regrets when they come sooner than they did
LATE = 2.0  # labels that late quarter that: they tell less of what is to come


@kernel
def learn_row(f: Array, at: Places, served: Array, y: float, age: int) -> None:
    """Take in the target of outputs (k,) as served ``age`` labels ago, NaN where an expert had none."""
    k = served.shape[0]
    outputs = f[at.scratch : at.scratch + k]
    made = f[at.scratch + k : at.scratch + k + HEADS]
    if not complete(served, f[at.long : at.long + k], outputs):
        return
    y = min(max(y, -LARGEST), LARGEST)
    if sooner(f[at.counts : at.largest], age):
        doubt(f, at, k)
    then = f[ago(f, at, k, age) :]
    apply_heads(then, k, outputs, made)
    guess = 0.0
    for q in range(HEADS):
        guess += f[at.over + q] * made[q]
    f[at.counts] += 1.0
    for j in range(k):
        better = abs(guess - y) - abs(outputs[j] - y)
        f[at.gained + j] += (better - f[at.gained + j]) / f[at.counts]
    learn_poly(f, at.over, HEADS, f[at.largest + 2 :], made, y, keep(0.0, PROMPT_OVER, age))
    learn_poly(f, at.long, k, f[at.largest :], outputs, y, 1.0)
    learn_poly(f, at.short, k, f[at.largest + 1 :], outputs, y, keep(FADING, PROMPT, age))
    learn_best(f[at.best : at.best + k], f[at.best + k : at.best + 2 * k], outputs, y)
    learn_stacks(f, at, k, outputs, then[:k], y)
    write_heads(f, at, k)
    note(f, at, k)


@kernel
def sooner(counts: Array, age: int) -> bool:
    """Whether labels come sooner than they did, by a factor of e in the mean of many."""
    late = math.log1p(max(age, 0))
    if counts[0] == 0.0:
        counts[2] = counts[3] = late
    counts[2] += (late - counts[2]) / LATENESS_ROWS
    counts[3] = max(counts[3], counts[2])
    changed = bool(counts[3] - counts[2] > 1.0)
    if changed:
        counts[3] = counts[2]
    return changed


@kernel
def doubt(f: Array, at: Places, k: int) -> None:
    """Hold what is known of experts and heads less certain: labels that come sooner make others the best.

    When they come later, what is known stays: little could be learned in its place.
    """
    for i in range(at.long + k, at.long + POLY * k):
        f[i] *= DOUBT
    for i in range(at.short + k, at.short + POLY * k):
        f[i] *= DOUBT
    for i in range(at.over + HEADS, at.over + POLY * HEADS):
        f[i] *= DOUBT
    for i in range(at.best + k, at.best + 2 * k):
        f[i] *= DOUBT
    side = k + 1
    for i in range(len(MEMORIES)):
        inverse = at.stacks + i * (side + side * side + SEEN) + side
        for j in range(side * side):
            f[inverse + j] = 1.0 / RIDGE if j % (side + 1) == 0 else 0.0


@kernel
def keep(fading: float, prompt: float, age: int) -> float:
    """What is left of regrets when a label comes that was served so many labels ago."""
    return 1.0 - max(fading, prompt / (1.0 + max(age, 0) / LATE) ** 2)


@kernel
def complete(served: Array, shares: Array, outputs: Array) -> bool:
    """Put the others' mean, by shares, in the place of missing outputs; False where all are missing.

    So nothing is learned of them.
    """
    total = mean = plain = 0.0
    there = 0
    for j in range(served.shape[0]):
        if abs(served[j]) < math.inf:
            value = min(max(served[j], -LARGEST), LARGEST)
            there += 1
            plain += (value - plain) / there
            if shares[j] > 0.0:
                total += shares[j]
                mean += (value - mean) * (shares[j] / total)
    for j in range(served.shape[0]):
        if abs(served[j]) < math.inf:
            outputs[j] = min(max(served[j], -LARGEST), LARGEST)
        else:
            outputs[j] = mean if total > 0.0 else plain
    return there > 0


@kernel
def ago(f: Array, at: Places, k: int, age: int) -> int:
    """Where the heads lie as they were about so many labels ago, no newer than that where there are any."""
    learned = int(f[at.counts + 1])
    if age <= 0 or learned == 0:
        return at.now
    newest = (learned - 1) // STRIDE
    since = (learned - 1) % STRIDE  # labels since the newest kept state
    back = max(0, (age - since + STRIDE - 1) // STRIDE)
    return at.past + max(0, newest - min(back, KEPT - 1)) % KEPT * HEADS * (k + 3)


@kernel
def apply_heads(heads: Array, k: int, outputs: Array, made: Array) -> None:
    """What each head makes of the outputs."""
    low, high = outputs[0], outputs[0]
    for j in range(k):
        low, high = min(low, outputs[j]), max(high, outputs[j])
    for q in range(HEADS):
        total = heads[HEADS * k + q]
        for j in range(k):
            total += heads[q * k + j] * outputs[j]
        margin = heads[HEADS * (k + 1) + q]
        made[q] = min(max(total, low - margin), high + margin)


@kernel
def combine_row(f: Array, at: Places, outputs: Array) -> float:
    """The prediction for outputs (k,), all finite."""
    k = outputs.shape[0]
    made = f[at.scratch + k : at.scratch + k + HEADS]
    apply_heads(f[at.now :], k, outputs, made)
    total = 0.0
    for q in range(HEADS):
        total += f[at.now + HEADS * (k + 2) + q] * made[q]
    return total


@kernel
def learn_poly(f: Array, at: int, size: int, largest: Array, outputs: Array, y: float, keep: float) -> None:
    """ML-Poly on the weights, regrets and squares that lie at a place."""
    regrets, squares = at + size, at + 2 * size
    learn_weights(f[at:regrets], f[regrets:squares], f[squares : squares + size], largest, outputs, y, keep)


@kernel
def learn_stacks(f: Array, at: Places, k: int, outputs: Array, anchor: Array, y: float) -> None:
    """Teach every stack; the anchor is the first head as served."""
    side, scratch = k + 1, at.scratch + k + HEADS
    for i in range(len(MEMORIES)):
        w = at.stacks + i * (side + side * side + SEEN)
        inverse, seen = w + side, w + side + side * side
        learn_stack(
            f[w:inverse], f[inverse:seen], f[seen : seen + SEEN], outputs, anchor, y, MEMORIES[i],
            f[scratch : scratch + side], f[scratch + side : scratch + 2 * side],
        )  # fmt: skip


@kernel
def write_heads(f: Array, at: Places, k: int) -> None:
    """Bring the heads of now up to date."""
    bias, margin, share = at.now + HEADS * k, at.now + HEADS * (k + 1), at.now + HEADS * (k + 2)
    for j in range(k):
        f[at.now + j] = f[at.long + j]
        f[at.now + k + j] = f[at.short + j]
        f[at.now + 2 * k + j] = f[at.best + j]
    side = k + 1
    for i in range(len(MEMORIES)):
        w, q = at.stacks + i * (side + side * side + SEEN), CONVEX + i
        seen = w + side + side * side
        unit = write_line(
            f[w : w + side], f[seen : seen + SEEN], f[at.long : at.long + k],
            f[at.now + q * k : at.now + (q + 1) * k], f[bias + q : bias + q + 1],
        )  # fmt: skip
        f[margin + q] = MARGIN * unit
    for q in range(HEADS):
        f[share + q] = f[at.over + q]
    total = 0.0
    for j in range(k):
        weight = 0.0
        for q in range(HEADS):
            weight += f[share + q] * f[at.now + q * k + j]
        f[at.sizes + j] = abs(weight)
        total += abs(weight)
    for j in range(k):
        f[at.sizes + j] = f[at.sizes + j] / total if total > 0.0 else 1.0 / k


@kernel
def note(f: Array, at: Places, k: int) -> None:
    """Keep the heads of now, every so many labels."""
    learned, block = int(f[at.counts + 1]), HEADS * (k + 3)
    if learned % STRIDE == 0:
        to = at.past + learned // STRIDE % KEPT * block
        for i in range(block):
            f[to + i] = f[at.now + i]
    f[at.counts + 1] += 1.0


@njit_cached
def learn(f: Array, at: Places, served: Array, y: float, age: int) -> None:
    """As :func:`learn_row`, for Python: the one that is cached on disk, with all others in it."""
    learn_row(f, at, served, y, age)


@njit_cached
def combine(f: Array, at: Places, outputs: Array) -> float:
    """As :func:`combine_row`, for Python."""
    return combine_row(f, at, outputs)
