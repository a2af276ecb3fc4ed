"""What a leaf remembers of each feature: a histogram of the targets over bins of the feature's values.

The quantising observer of Mastelini and de Carvalho (2021, "Using dynamical quantization to perform split
attempts in online tree regressors") keeps weight, mean and variance of the targets by bin, in constant time a
row. Theirs hashes by a fixed radius. Here there are always ``BINS`` bins, whose span follows the feature: it
starts from the feature's range when the leaf came to be, doubles by merging neighbours while much weight
falls outside, and starts anew when the feature has gone somewhere else altogether. A category has a bin of
its own; missing values have one more.
"""

from __future__ import annotations

import math

from online.core.jit import prefetch
from online.forest.forest_state import (
    B_M2,
    B_MEAN,
    B_N,
    BINS,
    F_HIGH,
    F_KIND,
    F_LOW,
    F_MEAN,
    F_N,
    F_VAR,
    INVERSE,
    LOW,
    MISSING,
    NONE,
    OUTSIDE,
    SHIFT,
    UNIT,
    Array,
    Arrays,
    kernel,
)

__all__ = ["fetch_bins", "observe", "observe_feature"]

KNOWN = 25.0  # rows after which a feature's range is trusted
REACH = 4.0  # standard deviations to either side of the mean that the bins span at first
OUTLYING = 8.0  # standard deviations beyond which a value moves a feature's mean no further
MEMORY = 0.001  # share of a new value in a feature's mean
TOO_MUCH = 1.0 / 16.0  # share of the weight outside the span at which it is widened
EXTREME = 1000.0  # of the targets' deviations: a float32 sum of squares stays finite


@kernel
def observe_feature(f: Array, x: float) -> None:
    """Take a value into a feature's faded mean, variance and range."""
    share = max(MEMORY, 1.0 / (f[F_N] + 1.0))
    if f[F_N] == 0.0:
        f[F_MEAN] = f[F_LOW] = f[F_HIGH] = x
    f[F_N] += 1.0
    gap = x - f[F_MEAN]
    limit = OUTLYING * math.sqrt(f[F_VAR])
    if limit > 0.0:
        gap = min(max(gap, -limit), limit)
    f[F_MEAN] += share * gap
    f[F_VAR] = (1.0 - share) * (f[F_VAR] + share * gap * gap)
    f[F_LOW] = min(x, f[F_LOW])
    f[F_HIGH] = max(x, f[F_HIGH])


@kernel
def add(b: Array, target: float, weight: float) -> None:
    """Take a target into a bin (West 1979)."""
    n = b[B_N] + weight
    gap = target - b[B_MEAN]
    b[B_MEAN] += gap * weight / n
    b[B_M2] += weight * gap * (target - b[B_MEAN])
    b[B_N] = n


@kernel
def merge(into: Array, other: Array) -> None:
    """Take a bin into another (Chan, Golub and LeVeque 1983)."""
    n = into[B_N] + other[B_N]
    if n > 0.0:
        gap = other[B_MEAN] - into[B_MEAN]
        into[B_M2] += other[B_M2] + gap * gap * into[B_N] * other[B_N] / n
        into[B_MEAN] += gap * other[B_N] / n
        into[B_N] = n


@kernel
def place_span(span: Array, f: Array, low: float, high: float) -> None:
    """Lay the bins over a feature's usual range, within the bounds of the leaf."""
    reach = REACH * math.sqrt(f[F_VAR])
    low = max(low, f[F_LOW], f[F_MEAN] - reach)
    high = min(high, f[F_HIGH], f[F_MEAN] + reach)
    width = high - low
    least = 1e-6 * max(1e-6, abs(f[F_MEAN]))
    if width < least:
        low = 0.5 * (low + high) - 0.5 * least
        width = least
    span[LOW] = low
    span[INVERSE] = BINS / (width * (1.0 + 1e-9))
    span[OUTSIDE] = 0.0


@kernel
def widen(b: Array, span: Array, upwards: bool) -> None:
    """Double the span to one side; two bins become one."""
    start = 0 if upwards else BINS // 2
    if upwards:
        for i in range(BINS // 2):
            fold_pair(b, i, 2 * i)
    else:
        for i in range(BINS // 2 - 1, -1, -1):
            fold_pair(b, start + i, 2 * i)
        span[LOW] -= BINS / span[INVERSE]
    cleared = BINS // 2 - start
    b[cleared : cleared + BINS // 2] = 0.0
    span[INVERSE] *= 0.5
    span[OUTSIDE] = 0.0


@kernel
def fold_pair(b: Array, to: int, first: int) -> None:
    """Put the bins ``first`` and ``first + 1`` into ``to``, which may be one of them."""
    merge(b[first], b[first + 1])
    n, mean, m2 = b[first, B_N], b[first, B_MEAN], b[first, B_M2]
    b[to, B_N], b[to, B_MEAN], b[to, B_M2] = n, mean, m2


@kernel
def bin_of(b: Array, span: Array, f: Array, x: float, seen: float, weight: float) -> int:
    """The bin of a value, after moving the bins if too much weight has fallen beside them."""
    place = (x - span[LOW]) * span[INVERSE]
    if 0.0 <= place < BINS:
        return int(place)
    span[OUTSIDE] += weight
    if span[OUTSIDE] > TOO_MUCH * seen:
        if -BINS <= place < 2 * BINS:
            widen(b, span, place > 0.0)
            place = (x - span[LOW]) * span[INVERSE]
        else:  # somewhere else altogether: what was seen there helps no split here
            b[:BINS] = 0.0
            place_span(span, f, -math.inf, math.inf)
            place = (x - span[LOW]) * span[INVERSE]
    return int(min(max(place, 0.0), BINS - 1.0))


@kernel
def fetch_bins(s: Arrays, slot: int, tree: int, x: Array) -> None:
    """Have the bins that a row falls into brought nearer, all at once: each would be a wait of its own."""
    for k in range(s.subspace.shape[1]):
        j = s.subspace[tree, k]
        if j == NONE:
            break
        place = (x[j] - s.span[slot, k, LOW]) * s.span[slot, k, INVERSE]
        if 0.0 <= place < BINS:
            prefetch(s.bins[slot, k, int(place)])


@kernel
def observe(s: Arrays, slot: int, tree: int, x: Array, y: float, weight: float, seen: float) -> None:
    """Take a row into a leaf's observers; ``seen`` is the weight they have had so far."""
    target = (y - s.slot_f[slot, SHIFT]) / s.slot_f[slot, UNIT]
    target = min(max(target, -EXTREME), EXTREME)
    for k in range(s.subspace.shape[1]):
        j = s.subspace[tree, k]
        if j == NONE:
            break
        b, value = s.bins[slot, k], x[j]
        if math.isnan(value):
            add(b[MISSING], target, weight)
        elif s.feature[j, F_KIND]:
            add(b[int(value)], target, weight)
        elif s.feature[j, F_N] >= KNOWN:
            span = s.span[slot, k]
            if span[INVERSE] == 0.0:
                place_span(span, s.feature[j], -math.inf, math.inf)
            add(b[bin_of(b, span, s.feature[j], value, seen + weight, weight)], target, weight)
