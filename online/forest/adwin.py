"""ADWIN, a window over a member's errors that shrinks when they change (Bifet and Gavaldà 2007).

The window is an exponential histogram: at most ``BUCKETS`` buckets of each size 1, 2, 4, ..., each with the
total and the variance of its values, so a window of w values takes O(log w) memory. Cuts are looked for every
``CLOCK`` values. It is River's ``drift.ADWIN`` on arrays, so that kernels can call it and a pickle is short.
"""

from __future__ import annotations

import math

from online.forest.forest_state import (
    BUCKETS,
    LEVELS,
    W_LEVELS,
    W_TICK,
    W_TOTAL,
    W_VAR,
    W_WIDTH,
    Arrays,
    kernel,
)

__all__ = ["reset_window", "update_and_rose"]

CLOCK = 32  # values between two looks; these three are River's defaults
GRACE_PERIOD = 10  # values before the first look
MIN_SUBWINDOW = 5  # values that either part of a cut window must have

# Kernels. A detector is a row of these arrays of the forest:
#   bucket    (LEVELS, BUCKETS + 1, 2): by level, the oldest first, a bucket's total and sum of squared
#             deviations; a bucket of level k holds 2^k values
#   bucket_n  (LEVELS,): how many buckets a level has
#   window_f  W_WIDTH, W_TOTAL, W_VAR: number, total and sum of squared deviations of all values
#   window_i  W_LEVELS, W_TICK: levels in use, values so far
# A window of n = n0 + n1 values is cut where (equation 3.1, with the variance v of the window)
#   |mean0 - mean1| > sqrt(2 m v ln(2 ln(n) / delta)) + 2/3 m ln(2 ln(n) / delta),   m = 1/n0 + 1/n1
# with River's n0 - MIN_SUBWINDOW + 1 in place of n0, and so for n1.


@kernel
def reset_window(forest: Arrays, detector: int) -> None:
    """Empty a detector.

    Parameters
    ----------
    forest
        The forest's arrays.
    detector
        Which one.
    """
    forest.bucket[detector] = 0.0
    forest.bucket_n[detector] = 0
    forest.window_f[detector] = 0.0
    forest.window_i[detector] = 0


@kernel
def update_and_rose(forest: Arrays, detector: int, value: float, delta: float) -> bool:
    """Add a value to a detector's window.

    Parameters
    ----------
    forest
        The forest's arrays.
    detector
        Which one.
    value
        In [0, 1].
    delta
        One minus the confidence of a cut, in (0, 1).

    Returns
    -------
    bool
        Whether the window was cut and its mean is now higher.
    """
    width, total = forest.window_f[detector, W_WIDTH], forest.window_f[detector, W_TOTAL]
    before = total / width if width > 0.0 else 0.0
    insert_value(forest, detector, value)
    forest.window_i[detector, W_TICK] += 1
    if forest.window_i[detector, W_TICK] % CLOCK or forest.window_f[detector, W_WIDTH] <= GRACE_PERIOD:
        return False
    cut = False
    while has_cut(forest, detector, delta):
        drop_oldest(forest, detector)
        cut = True
    return cut and forest.window_f[detector, W_TOTAL] / forest.window_f[detector, W_WIDTH] > before


@kernel
def insert_value(forest: Arrays, detector: int, value: float) -> None:
    """Add a bucket of one value and merge where there are too many of a size."""
    window = forest.window_f[detector]
    if window[W_WIDTH] > 0.0:
        gap = value - window[W_TOTAL] / window[W_WIDTH]
        window[W_VAR] += window[W_WIDTH] * gap * gap / (window[W_WIDTH] + 1.0)
    window[W_WIDTH] += 1.0
    window[W_TOTAL] += value
    push_bucket(forest, detector, 0, value, 0.0)
    level = 0
    while level < LEVELS - 1 and forest.bucket_n[detector, level] > BUCKETS:
        merge_oldest(forest, detector, level)
        level += 1
    if forest.bucket_n[detector, LEVELS - 1] > BUCKETS:
        drop_oldest(forest, detector)


@kernel
def push_bucket(forest: Arrays, detector: int, level: int, total: float, variance: float) -> None:
    """Add the newest bucket of a size."""
    count = forest.bucket_n[detector, level]
    forest.bucket[detector, level, count, 0] = total
    forest.bucket[detector, level, count, 1] = variance
    forest.bucket_n[detector, level] = count + 1
    forest.window_i[detector, W_LEVELS] = max(forest.window_i[detector, W_LEVELS], level + 1)


@kernel
def merge_oldest(forest: Arrays, detector: int, level: int) -> None:
    """Turn the two oldest buckets of a size into one of twice the size."""
    buckets = forest.bucket[detector, level]
    size = 2.0**level
    gap = (buckets[0, 0] - buckets[1, 0]) / size
    total, variance = buckets[0, 0] + buckets[1, 0], buckets[0, 1] + buckets[1, 1] + 0.5 * size * gap * gap
    remove_first(forest, detector, level, 2)
    push_bucket(forest, detector, level + 1, total, variance)


@kernel
def remove_first(forest: Arrays, detector: int, level: int, count: int) -> None:
    """Take out the oldest buckets of a size."""
    filled = forest.bucket_n[detector, level]
    for i in range(filled - count):
        forest.bucket[detector, level, i, 0] = forest.bucket[detector, level, i + count, 0]
        forest.bucket[detector, level, i, 1] = forest.bucket[detector, level, i + count, 1]
    forest.bucket_n[detector, level] = filled - count


@kernel
def drop_oldest(forest: Arrays, detector: int) -> None:
    """Take the oldest bucket out of the window."""
    level = forest.window_i[detector, W_LEVELS] - 1
    window = forest.window_f[detector]
    size = 2.0**level
    total, variance = forest.bucket[detector, level, 0, 0], forest.bucket[detector, level, 0, 1]
    window[W_WIDTH] -= size
    window[W_TOTAL] -= total
    gap = total / size - (window[W_TOTAL] / window[W_WIDTH] if window[W_WIDTH] > 0.0 else 0.0)
    window[W_VAR] = max(
        0.0, window[W_VAR] - variance - size * window[W_WIDTH] * gap * gap / (size + window[W_WIDTH])
    )
    remove_first(forest, detector, level, 1)
    while level > 0 and forest.bucket_n[detector, level] == 0:
        level -= 1
    forest.window_i[detector, W_LEVELS] = level + 1


@kernel
def has_cut(forest: Arrays, detector: int, delta: float) -> bool:
    """Whether some older part of the window differs from the rest: Bifet and Gavaldà 2007, equation 3.1."""
    window = forest.window_f[detector]
    width = window[W_WIDTH]
    if width <= GRACE_PERIOD:
        return False
    log = math.log(2.0 * math.log(width) / delta)
    variance = window[W_VAR] / width
    old_n = old_total = 0.0
    for level in range(forest.window_i[detector, W_LEVELS] - 1, -1, -1):
        for i in range(forest.bucket_n[detector, level]):
            old_n += 2.0**level
            old_total += forest.bucket[detector, level, i, 0]
            new_n = width - old_n
            if new_n < MIN_SUBWINDOW:
                return False
            if old_n >= MIN_SUBWINDOW:
                inverse_size = 1.0 / (old_n - MIN_SUBWINDOW + 1.0) + 1.0 / (new_n - MIN_SUBWINDOW + 1.0)
                bound = math.sqrt(2.0 * inverse_size * variance * log) + 2.0 / 3.0 * log * inverse_size
                if abs(old_total / old_n - (window[W_TOTAL] - old_total) / new_n) > bound:
                    return True
    return False
