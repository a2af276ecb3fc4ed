"""ADWIN, a window over a member's errors that shrinks when they change (Bifet and Gavaldà 2007).

The window is an exponential histogram: at most ``BUCKETS`` buckets of each size 1, 2, 4, ..., each with the
total and the variance of its values, so a window of w values takes O(log w) memory. Cuts are looked for every
``CLOCK`` values.
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

__all__ = ["reset_window", "rose"]

CLOCK = 32
GRACE = 10
MIN_SIDE = 5


@kernel
def reset_window(s: Arrays, d: int) -> None:
    """Empty detector ``d``."""
    s.bucket[d] = 0.0
    s.bucket_n[d] = 0
    s.window_f[d] = 0.0
    s.window_i[d] = 0


@kernel
def rose(s: Arrays, d: int, value: float, delta: float) -> bool:
    """Take in a value in [0, 1]; whether the window was cut and its mean is now higher."""
    width, total = s.window_f[d, W_WIDTH], s.window_f[d, W_TOTAL]
    before = total / width if width > 0.0 else 0.0
    insert(s, d, value)
    s.window_i[d, W_TICK] += 1
    if s.window_i[d, W_TICK] % CLOCK or s.window_f[d, W_WIDTH] <= GRACE:
        return False
    cut = False
    while has_cut(s, d, delta):
        drop_oldest(s, d)
        cut = True
    return cut and s.window_f[d, W_TOTAL] / s.window_f[d, W_WIDTH] > before


@kernel
def insert(s: Arrays, d: int, value: float) -> None:
    """Add a bucket of one value and merge where there are too many of a size."""
    f = s.window_f[d]
    if f[W_WIDTH] > 0.0:
        gap = value - f[W_TOTAL] / f[W_WIDTH]
        f[W_VAR] += f[W_WIDTH] * gap * gap / (f[W_WIDTH] + 1.0)
    f[W_WIDTH] += 1.0
    f[W_TOTAL] += value
    push(s, d, 0, value, 0.0)
    level = 0
    while level < LEVELS - 1 and s.bucket_n[d, level] > BUCKETS:
        merge_oldest(s, d, level)
        level += 1
    if s.bucket_n[d, LEVELS - 1] > BUCKETS:
        drop_oldest(s, d)


@kernel
def push(s: Arrays, d: int, level: int, total: float, variance: float) -> None:
    """Add the newest bucket of a size."""
    n = s.bucket_n[d, level]
    s.bucket[d, level, n, 0] = total
    s.bucket[d, level, n, 1] = variance
    s.bucket_n[d, level] = n + 1
    s.window_i[d, W_LEVELS] = max(s.window_i[d, W_LEVELS], level + 1)


@kernel
def merge_oldest(s: Arrays, d: int, level: int) -> None:
    """Turn the two oldest buckets of a size into one of twice the size."""
    b = s.bucket[d, level]
    size = 2.0**level
    gap = (b[0, 0] - b[1, 0]) / size
    total, variance = b[0, 0] + b[1, 0], b[0, 1] + b[1, 1] + 0.5 * size * gap * gap
    remove_first(s, d, level, 2)
    push(s, d, level + 1, total, variance)


@kernel
def remove_first(s: Arrays, d: int, level: int, count: int) -> None:
    """Take out the oldest buckets of a size."""
    n = s.bucket_n[d, level]
    for i in range(n - count):
        s.bucket[d, level, i, 0] = s.bucket[d, level, i + count, 0]
        s.bucket[d, level, i, 1] = s.bucket[d, level, i + count, 1]
    s.bucket_n[d, level] = n - count


@kernel
def drop_oldest(s: Arrays, d: int) -> None:
    """Take the oldest bucket out of the window."""
    level = s.window_i[d, W_LEVELS] - 1
    f = s.window_f[d]
    size = 2.0**level
    total, variance = s.bucket[d, level, 0, 0], s.bucket[d, level, 0, 1]
    f[W_WIDTH] -= size
    f[W_TOTAL] -= total
    gap = total / size - (f[W_TOTAL] / f[W_WIDTH] if f[W_WIDTH] > 0.0 else 0.0)
    f[W_VAR] = max(0.0, f[W_VAR] - variance - size * f[W_WIDTH] * gap * gap / (size + f[W_WIDTH]))
    remove_first(s, d, level, 1)
    while level > 0 and s.bucket_n[d, level] == 0:
        level -= 1
    s.window_i[d, W_LEVELS] = level + 1


@kernel
def has_cut(s: Arrays, d: int, delta: float) -> bool:
    """Whether some older part of the window differs from the rest: Bifet and Gavaldà 2007, equation 3.1."""
    f = s.window_f[d]
    width = f[W_WIDTH]
    if width <= GRACE:
        return False
    log = math.log(2.0 * math.log(width) / delta)
    variance = f[W_VAR] / width
    n0 = u0 = 0.0
    for level in range(s.window_i[d, W_LEVELS] - 1, -1, -1):
        for i in range(s.bucket_n[d, level]):
            n0 += 2.0**level
            u0 += s.bucket[d, level, i, 0]
            n1 = width - n0
            if n1 < MIN_SIDE:
                return False
            if n0 >= MIN_SIDE:
                m = 1.0 / (n0 - MIN_SIDE + 1.0) + 1.0 / (n1 - MIN_SIDE + 1.0)
                bound = math.sqrt(2.0 * m * variance * log) + 2.0 / 3.0 * log * m
                if abs(u0 / n0 - (f[W_TOTAL] - u0) / n1) > bound:
                    return True
    return False
