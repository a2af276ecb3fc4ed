"""The direction in which linear models learn a row: the inverse of the features' second moments, times the
row.

Normalised least mean squares crawls along features that go together. LMS-Newton (Widrow and Stearns 1985,
Adaptive Signal Processing, chapter 8) goes along R^-1 x instead, R being the moments of the features; it is
nearly recursive least squares, and knows no scale. R is the forest's, so all leaves share one direction a
row, and learning stays linear in the number of features for each. R fades, a share of its diagonal is added,
and it is factorised now and then, so it cannot wind up.
"""

from __future__ import annotations

import math

from online.forest.forest_state import ROWS, Array, Arrays, kernel

__all__ = ["find_direction", "observe_moments"]

MEMORY = 0.001
RIDGE = 1e-3
EVERY = 32
WIDEST = 96  # beyond so many features only the diagonal is used: a row costs the square of their number


@kernel
def observe_moments(s: Arrays, x: Array) -> None:
    """Take a row without gaps into the moments; factorise them now and then."""
    n, d = s.counts[ROWS], x.shape[0]
    share = max(MEMORY, 1.0 / (n + 1.0))
    for i in range(d + 1):
        a = x[i] if i < d else 1.0
        for j in range(i + 1 if d <= WIDEST else 0):
            s.moment[i, j] += share * (a * (x[j] if j < d else 1.0) - s.moment[i, j])
        if d > WIDEST:
            s.moment[i, i] += share * (a * a - s.moment[i, i])
    if n % EVERY == 0 or (n < 10 * EVERY and n % 8 == 0):
        factorise(s, d + 1)


@kernel
def factorise(s: Arrays, n: int) -> None:
    """Cholesky's factor of the moments and the ridge."""
    for i in range(n):
        for j in range(i + 1):
            if n > WIDEST + 1 and j < i:
                continue
            total = s.moment[i, j] * (1.0 + RIDGE if i == j else 1.0)
            for k in range(j if n <= WIDEST + 1 else 0):
                total -= s.factor[i, k] * s.factor[j, k]
            if i > j:
                s.factor[i, j] = total / s.factor[j, j]
            else:
                least = 0.5 * RIDGE * s.moment[i, i]
                total = max(total, least)
                s.factor[i, i] = math.sqrt(total) if total > 0.0 else 1.0


@kernel
def find_direction(s: Arrays, x: Array) -> None:
    """Solve for the direction of a row."""
    d, g = x.shape[0], s.direction
    wide = d > WIDEST
    for i in range(d + 1):
        total = x[i] if i < d else 1.0
        for k in range(0 if wide else i):
            total -= s.factor[i, k] * g[k]
        g[i] = total / s.factor[i, i]
    for i in range(d, -1, -1):
        total = g[i]
        for k in range(d + 1 if wide else i + 1, d + 1):
            total -= s.factor[k, i] * g[k]
        g[i] = total / s.factor[i, i]
