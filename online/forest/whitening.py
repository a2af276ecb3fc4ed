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

from online.forest.forest_state import N_ROWS, Array, Arrays, kernel

__all__ = ["find_direction", "observe_moments"]

MOMENT_FADING = 0.001  # least share of a new row in the moments
MOMENT_RIDGE = 1e-3  # share of the diagonal that is added to it
FACTORISE_EVERY = 32  # rows; a factorisation costs the cube of the number of features, a row the square
MOST_CORRELATED = 96  # with more features only the diagonal is used

# Kernels, for a row x with an always-one behind it:
#   R = (1 - a) R + a x x';   L L' = R + ridge * diag(R)  (Cholesky's factor, lower);   g = L'^-1 L^-1 x
# Loops in place: the matrices are of a dozen rows, and half of each operation is never computed.
#   moment (D + 1, D + 1): R, the lower triangle; factor (D + 1, D + 1): L; direction (D + 1,): g


@kernel
def observe_moments(forest: Arrays, row: Array) -> None:
    """Add a row to the moments, and factorise them now and then.

    Parameters
    ----------
    forest
        The forest's arrays.
    row
        A row without gaps, (D,).
    """
    n, d = forest.counts[N_ROWS], row.shape[0]
    share = max(MOMENT_FADING, 1.0 / (n + 1.0))
    for i in range(d + 1):
        a = row[i] if i < d else 1.0
        for j in range(i + 1 if d <= MOST_CORRELATED else 0):
            forest.moment[i, j] += share * (a * (row[j] if j < d else 1.0) - forest.moment[i, j])
        if d > MOST_CORRELATED:
            forest.moment[i, i] += share * (a * a - forest.moment[i, i])
    if n % FACTORISE_EVERY == 0 or (n < 10 * FACTORISE_EVERY and n % 8 == 0):
        factorise(forest, d + 1)


@kernel
def factorise(forest: Arrays, size: int) -> None:
    """Write Cholesky's factor of the moments and the ridge; ``size`` is D + 1."""
    for i in range(size):
        for j in range(i + 1):
            if size > MOST_CORRELATED + 1 and j < i:
                continue
            total = forest.moment[i, j] * (1.0 + MOMENT_RIDGE if i == j else 1.0)
            for k in range(j if size <= MOST_CORRELATED + 1 else 0):
                total -= forest.factor[i, k] * forest.factor[j, k]
            if i > j:
                forest.factor[i, j] = total / forest.factor[j, j]
            else:
                least = 0.5 * MOMENT_RIDGE * forest.moment[i, i]
                total = max(total, least)
                forest.factor[i, i] = math.sqrt(total) if total > 0.0 else 1.0


@kernel
def find_direction(forest: Arrays, row: Array) -> None:
    """Solve for the direction of a row, into ``forest.direction``.

    Parameters
    ----------
    forest
        The forest's arrays.
    row
        A row without gaps, (D,).
    """
    d, g = row.shape[0], forest.direction
    wide = d > MOST_CORRELATED
    for i in range(d + 1):
        total = row[i] if i < d else 1.0
        for k in range(0 if wide else i):
            total -= forest.factor[i, k] * g[k]
        g[i] = total / forest.factor[i, i]
    for i in range(d, -1, -1):
        total = g[i]
        for k in range(d + 1 if wide else i + 1, d + 1):
            total -= forest.factor[k, i] * g[k]
        g[i] = total / forest.factor[i, i]
