"""Where to split a leaf: the threshold, or set of categories, that takes most variance away, and whether to
trust it.

Merit is the reduction of variance (Ikonomovska, Gama and Džeroski 2011, FIMT-DD, use its root), as a share of
the leaf's variance and of the rows the observer saw. A leaf is split when the Hoeffding bound says that the
best feature is truly better than the second, by the ratio of their merits, or that they are as good as equal
(ibid., section 4.2; ties: Domingos and Hulten 2000, section 3).
"""

from __future__ import annotations

import math

from online.forest.forest_state import (
    B_M2,
    B_MEAN,
    B_N,
    BINS,
    C_DEFAULT,
    C_HIGH,
    C_LEFT_N,
    C_LOW,
    C_MASK,
    C_MERIT,
    C_PLACE,
    C_RIGHT_N,
    C_SECOND,
    C_SEEN,
    C_THRESHOLD,
    F_KIND,
    INVERSE,
    LOW,
    MISSING,
    NONE,
    Array,
    Arrays,
    copy,
    kernel,
)

__all__ = ["best_cut", "is_significant"]


@kernel
def best_cut(s: Arrays, slot: int, tree: int, seen: float, branch: float, cut: Array, trial: Array) -> None:
    """Write the best cut of a leaf into ``cut``, with the merit of the second-best feature."""
    cut[C_MERIT] = 0.0
    second = 0.0
    order = s.order
    for k in range(s.subspace.shape[1]):
        j = s.subspace[tree, k]
        if j == NONE:
            break
        b = s.bins[slot, k]
        trial[C_MERIT] = 0.0
        n = by_mean(b, order) if s.feature[j, F_KIND] else by_place(b, order)
        if n + (b[MISSING, B_N] > 0.0) > 1:
            scan(b, order, n, seen, branch, trial)
        if trial[C_MERIT] > cut[C_MERIT]:
            second = cut[C_MERIT]
            finish(s, slot, k, s.feature[j, F_KIND] > 0.0, order, n, trial)
            copy(cut, trial)
        else:
            second = max(second, trial[C_MERIT])
    cut[C_SECOND] = second


@kernel
def by_place(b: Array, order: Array) -> int:
    """The bins that hold anything, in order of the feature."""
    n = 0
    for i in range(BINS):
        if b[i, B_N] > 0.0:
            order[n] = i
            n += 1
    return n


@kernel
def by_mean(b: Array, order: Array) -> int:
    """The categories seen, by ascending mean target: the best subset is a prefix of it (Fisher 1958)."""
    n = 0
    for i in range(BINS):
        if b[i, B_N] > 0.0:
            at = n
            while at > 0 and b[order[at - 1], B_MEAN] > b[i, B_MEAN]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = i
            n += 1
    return n


@kernel
def scan(b: Array, order: Array, n: int, seen: float, branch: float, trial: Array) -> None:
    """Try every prefix of ``order`` as the left side, missing values on either.

    One loop over running sums, hence longer than most.
    """
    total_n = total_1 = total_2 = 0.0
    for i in range(n + 1):
        at = order[i] if i < n else MISSING
        weight, mean = float(b[at, B_N]), float(b[at, B_MEAN])
        total_n += weight
        total_1 += weight * mean
        total_2 += b[at, B_M2] + weight * mean * mean
    spread = total_2 - total_1 * total_1 / total_n
    if spread <= 1e-12 * total_2 or total_n < 2.0 * branch:
        return
    missing_n, missing_mean = float(b[MISSING, B_N]), float(b[MISSING, B_MEAN])
    coverage = min(1.0, total_n / seen)
    left_n = left_1 = 0.0
    for i in range(n if missing_n > 0.0 else n - 1):
        weight = float(b[order[i], B_N])
        left_n += weight
        left_1 += weight * b[order[i], B_MEAN]
        for with_left in range(2 if missing_n > 0.0 else 1):
            side_n = left_n + (missing_n if with_left else 0.0)
            side_1 = left_1 + (missing_n * missing_mean if with_left else 0.0)
            other_n, other_1 = total_n - side_n, total_1 - side_1
            if side_n < branch or other_n < branch:
                continue
            between = side_1 * side_1 / side_n + other_1 * other_1 / other_n - total_1 * total_1 / total_n
            merit = between / spread * coverage
            if merit > trial[C_MERIT]:
                trial[C_MERIT] = merit
                trial[C_PLACE] = i
                trial[C_DEFAULT] = with_left if missing_n > 0.0 else 2.0


@kernel
def finish(s: Arrays, slot: int, k: int, nominal: bool, order: Array, n: int, trial: Array) -> None:
    """Fill in what a cut needs to be made: threshold or categories, default direction, the sides' targets."""
    b, last = s.bins[slot, k], int(trial[C_PLACE])
    side = s.half
    side[:] = 0.0
    mask = seen = 0
    for i in range(n):
        add_side(side[0 if i <= last else 1], b[order[i]])
        seen |= 1 << order[i]
        if i <= last:
            mask |= 1 << order[i]
    if trial[C_DEFAULT] == 2.0:  # none was missing so far: they will go with the most
        trial[C_DEFAULT] = 1.0 if side[0, 0] >= side[1, 0] else 0.0
    add_side(side[0 if trial[C_DEFAULT] else 1], b[MISSING])
    for i in range(3):
        trial[C_LEFT_N + i], trial[C_RIGHT_N + i] = side[0, i], side[1, i]
    trial[C_MASK], trial[C_SEEN] = (mask, seen) if nominal else (0, 0)
    low, step = s.span[slot, k, LOW], 1.0 / s.span[slot, k, INVERSE] if not nominal else 0.0
    right = order[last + 1] if last + 1 < n else order[last] + 1
    trial[C_LOW], trial[C_HIGH] = low + (order[last] + 0.5) * step, low + (right + 0.5) * step
    trial[C_THRESHOLD] = 0.5 * (trial[C_LOW] + trial[C_HIGH]) if last + 1 < n else math.inf
    trial[C_PLACE] = k


@kernel
def add_side(side: Array, b: Array) -> None:
    """Take a bin into the statistics of one side, as `observers.merge` does, in double precision."""
    n = side[0] + b[B_N]
    if n > side[0]:
        gap = b[B_MEAN] - side[1]
        side[2] += b[B_M2] + gap * gap * side[0] * b[B_N] / n
        side[1] += gap * b[B_N] / n
        side[0] = n


@kernel
def is_significant(cut: Array, weight: float, delta: float, tau: float) -> bool:
    """The Hoeffding bound on the ratio of the second merit to the best, which lies in [0, 1]."""
    bound = math.sqrt(math.log(1.0 / delta) / (2.0 * weight))
    return cut[C_SECOND] / cut[C_MERIT] < 1.0 - bound or bound < tau
