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

from online.core.clip import clip_in_kernel
from online.core.jit import prefetch
from online.forest.forest_state import (
    ABSENT,
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
    MISSING_BIN,
    SLOT_SHIFT,
    SLOT_UNIT,
    SPAN_INVERSE,
    SPAN_LOW,
    SPAN_OUTSIDE,
    Array,
    Arrays,
    kernel,
)

__all__ = ["observe", "observe_feature", "prefetch_bins"]

TRUSTED_ROWS = 25.0  # rows after which a feature's range is trusted
SPAN_DEVIATIONS = 4.0  # standard deviations to either side of the mean that the bins span at first
FEATURE_CLIP_DEVIATIONS = 8.0  # standard deviations beyond which a value moves a feature's mean no further
FEATURE_FADING = 0.001  # share of a new value in a feature's mean
TOO_MUCH_OUTSIDE = 1.0 / 16.0  # share of the weight outside the span at which it is widened
LARGEST_TARGET = 1000.0  # of the targets' deviations: a float32 sum of squares stays finite

# Kernels. What a leaf observes is a row of the slot pool:
#   bins  (F, BINS + 1, 3) float32: for each feature of the tree and bin the weight, mean and sum of squared
#         deviations of the targets (scaled by slot_f); the last bin is for missing values
#   span  (F, 3): where a feature's bins start, bins per unit, weight that fell outside
# A row changes a few scattered cells of megabytes of bins: hence prefetching, and loops instead of arrays.


@kernel
def observe_feature(stats: Array, value: float) -> None:
    """Learn a value into a feature's faded mean, variance and range.

    Parameters
    ----------
    stats
        The feature's row of ``feature``, (FEATURE_COLUMNS,).
    value
        A finite number.
    """
    share = max(FEATURE_FADING, 1.0 / (stats[F_N] + 1.0))
    if stats[F_N] == 0.0:
        stats[F_MEAN] = stats[F_LOW] = stats[F_HIGH] = value
    stats[F_N] += 1.0
    distance = value - stats[F_MEAN]
    limit = FEATURE_CLIP_DEVIATIONS * math.sqrt(stats[F_VAR])
    if limit > 0.0:
        distance = clip_in_kernel(distance, -limit, limit)
    stats[F_MEAN] += share * distance
    stats[F_VAR] = (1.0 - share) * (stats[F_VAR] + share * distance * distance)
    stats[F_LOW] = min(value, stats[F_LOW])
    stats[F_HIGH] = max(value, stats[F_HIGH])


@kernel
def add_target(cell: Array, target: float, weight: float) -> None:
    """Add a target to a bin (3,) (West 1979)."""
    total = cell[B_N] + weight
    gap = target - cell[B_MEAN]
    cell[B_MEAN] += gap * weight / total
    cell[B_M2] += weight * gap * (target - cell[B_MEAN])
    cell[B_N] = total


@kernel
def merge_bins(into: Array, other: Array) -> None:
    """Add a bin (3,) to another (Chan, Golub and LeVeque 1983)."""
    total = into[B_N] + other[B_N]
    if total > 0.0:
        gap = other[B_MEAN] - into[B_MEAN]
        into[B_M2] += other[B_M2] + gap * gap * into[B_N] * other[B_N] / total
        into[B_MEAN] += gap * other[B_N] / total
        into[B_N] = total


@kernel
def lay_span(span: Array, stats: Array, low: float, high: float) -> None:
    """Lay the bins over a feature's usual range, within the bounds of the leaf."""
    limit = SPAN_DEVIATIONS * math.sqrt(stats[F_VAR])
    low = max(low, stats[F_LOW], stats[F_MEAN] - limit)
    high = min(high, stats[F_HIGH], stats[F_MEAN] + limit)
    width = high - low
    least = 1e-6 * max(1e-6, abs(stats[F_MEAN]))
    if width < least:
        low = 0.5 * (low + high) - 0.5 * least
        width = least
    span[SPAN_LOW] = low
    span[SPAN_INVERSE] = BINS / (width * (1.0 + 1e-9))
    span[SPAN_OUTSIDE] = 0.0


@kernel
def double_span(bins: Array, span: Array, upwards: bool) -> None:
    """Double the span (3,) to one side; two bins (BINS + 1, 3) become one."""
    start = 0 if upwards else BINS // 2
    if upwards:
        for i in range(BINS // 2):
            merge_pair(bins, i, 2 * i)
    else:
        for i in range(BINS // 2 - 1, -1, -1):
            merge_pair(bins, start + i, 2 * i)
        span[SPAN_LOW] -= BINS / span[SPAN_INVERSE]
    cleared = BINS // 2 - start
    bins[cleared : cleared + BINS // 2] = 0.0
    span[SPAN_INVERSE] *= 0.5
    span[SPAN_OUTSIDE] = 0.0


@kernel
def merge_pair(bins: Array, into: int, first: int) -> None:
    """Put the bins ``first`` and ``first + 1`` into bin ``into``, which may be one of them."""
    merge_bins(bins[first], bins[first + 1])
    n, mean, m2 = bins[first, B_N], bins[first, B_MEAN], bins[first, B_M2]
    bins[into, B_N], bins[into, B_MEAN], bins[into, B_M2] = n, mean, m2


@kernel
def bin_of(  # noqa: PLR0913 - a kernel takes each array
    bins: Array, span: Array, stats: Array, value: float, seen: float, weight: float
) -> int:
    """The bin of a value, after moving the bins if too much weight has fallen outside them."""
    position = (value - span[SPAN_LOW]) * span[SPAN_INVERSE]
    if 0.0 <= position < BINS:
        return int(position)
    span[SPAN_OUTSIDE] += weight
    if span[SPAN_OUTSIDE] > TOO_MUCH_OUTSIDE * seen:
        if -BINS <= position < 2 * BINS:
            double_span(bins, span, position > 0.0)
            position = (value - span[SPAN_LOW]) * span[SPAN_INVERSE]
        else:  # somewhere else altogether: what was seen there helps no split here
            bins[:BINS] = 0.0
            lay_span(span, stats, -math.inf, math.inf)
            position = (value - span[SPAN_LOW]) * span[SPAN_INVERSE]
    return int(clip_in_kernel(position, 0.0, BINS - 1.0))


@kernel
def prefetch_bins(forest: Arrays, slot: int, tree: int, row: Array) -> None:
    """Have the bins that a row falls into loaded into the cache, all at once: one by one each is a wait.

    Parameters
    ----------
    forest
        The forest's arrays.
    slot
        The leaf's observers.
    tree
        The tree, whose subspace says which features are observed.
    row
        The row, (D,).
    """
    for index in range(forest.subspace.shape[1]):
        feature = forest.subspace[tree, index]
        if feature == ABSENT:
            break
        span = forest.span[slot, index]
        position = (row[feature] - span[SPAN_LOW]) * span[SPAN_INVERSE]
        if 0.0 <= position < BINS:
            prefetch(forest.bins[slot, index, int(position)])


@kernel
def observe(  # noqa: PLR0913 - a kernel takes each array
    forest: Arrays, slot: int, tree: int, row: Array, target: float, weight: float, seen: float
) -> None:
    """Add a row to a leaf's observers.

    Parameters
    ----------
    forest
        The forest's arrays.
    slot
        The leaf's observers.
    tree
        The tree, whose subspace says which features are observed.
    row
        The row, (D,), NaN where missing.
    target
        Its target.
    weight
        How often it counts.
    seen
        The weight they have had so far.
    """
    scaled = (target - forest.slot_f[slot, SLOT_SHIFT]) / forest.slot_f[slot, SLOT_UNIT]
    scaled = clip_in_kernel(scaled, -LARGEST_TARGET, LARGEST_TARGET)
    for index in range(forest.subspace.shape[1]):
        feature = forest.subspace[tree, index]
        if feature == ABSENT:
            break
        bins, value = forest.bins[slot, index], row[feature]
        if math.isnan(value):
            add_target(bins[MISSING_BIN], scaled, weight)
        elif forest.feature[feature, F_KIND]:
            add_target(bins[int(value)], scaled, weight)
        elif forest.feature[feature, F_N] >= TRUSTED_ROWS:
            span = forest.span[slot, index]
            if span[SPAN_INVERSE] == 0.0:
                lay_span(span, forest.feature[feature], -math.inf, math.inf)
            index_of_bin = bin_of(bins, span, forest.feature[feature], value, seen + weight, weight)
            add_target(bins[index_of_bin], scaled, weight)
