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
    ABSENT,
    B_M2,
    B_MEAN,
    B_N,
    BINS,
    C_DEFAULT,
    C_HIGH,
    C_INDEX,
    C_LEFT_N,
    C_LOW,
    C_MASK,
    C_MERIT,
    C_RIGHT_N,
    C_SECOND,
    C_SEEN,
    C_THRESHOLD,
    F_KIND,
    MISSING_BIN,
    SPAN_INVERSE,
    SPAN_LOW,
    Array,
    Arrays,
    copy_row,
    kernel,
)

__all__ = ["best_cut", "is_significant"]

LARGER_SIDE = 2.0  # in C_DEFAULT: no value was missing, so missing ones will go to the side with more weight

# Kernels: running sums over at most 33 bins a feature, tried as left sides one after the other.
#   merit = (S_l^2/n_l + S_r^2/n_r - S^2/n) / (Q - S^2/n) * min(1, n / seen)
# with n, S, Q the weight, sum and sum of squares of the (scaled) targets of a side or, without index, of all.
#   bins  (BINS + 1, 3) float32, of one feature of one leaf, as in :mod:`online.forest.observers`
#   order (at least BINS,) int64: scratch, the bins that hold anything in the order they are tried
#   cut, trial (CUT_COLUMNS,) float64: the best cut so far, and that of the feature looked at


@kernel
def best_cut(  # noqa: PLR0913 - a kernel takes each array
    forest: Arrays, slot: int, tree: int, seen: float, min_branch: float, cut: Array, trial: Array
) -> None:
    """Find the best cut of a leaf, and the merit of the second-best feature.

    Parameters
    ----------
    forest
        The forest's arrays.
    slot
        The leaf's observers.
    tree
        The tree, whose subspace says which features are observed.
    seen
        The weight the observers have seen.
    min_branch
        Least weight on either side.
    cut
        Where the best cut goes, (CUT_COLUMNS,); its merit is 0 where there is none.
    trial
        Scratch, (CUT_COLUMNS,).
    """
    cut[C_MERIT] = 0.0
    second = 0.0
    order = forest.order
    for index in range(forest.subspace.shape[1]):
        feature = forest.subspace[tree, index]
        if feature == ABSENT:
            break
        bins = forest.bins[slot, index]
        trial[C_MERIT] = 0.0
        is_category = forest.feature[feature, F_KIND] > 0.0
        count = categories_by_mean(bins, order) if is_category else bins_in_order(bins, order)
        if count + (bins[MISSING_BIN, B_N] > 0.0) > 1:
            search_cuts(bins, order, count, seen, min_branch, trial)
        if trial[C_MERIT] > cut[C_MERIT]:
            second = cut[C_MERIT]
            complete_cut(forest, slot, index, is_category, order, count, trial)
            copy_row(cut, trial)
        else:
            second = max(second, trial[C_MERIT])
    cut[C_SECOND] = second


@kernel
def bins_in_order(bins: Array, order: Array) -> int:
    """Write the bins that hold anything to ``order``, by the feature's value; how many there are."""
    count = 0
    for i in range(BINS):
        if bins[i, B_N] > 0.0:
            order[count] = i
            count += 1
    return count


@kernel
def categories_by_mean(bins: Array, order: Array) -> int:
    """Write the categories seen to ``order``, by ascending mean target; how many there are.

    The best subset is a prefix of that order (Fisher 1958).
    """
    count = 0
    for i in range(BINS):
        if bins[i, B_N] > 0.0:
            position = count
            while position > 0 and bins[order[position - 1], B_MEAN] > bins[i, B_MEAN]:
                order[position] = order[position - 1]
                position -= 1
            order[position] = i
            count += 1
    return count


@kernel
def search_cuts(  # noqa: PLR0913 - a kernel takes each array
    bins: Array, order: Array, count: int, seen: float, min_branch: float, trial: Array
) -> None:
    """Try every prefix of ``order`` as the left side, missing values on either.

    It is one loop over running sums, which no helper would make plainer. While searching, C_INDEX is the last
    place of ``order`` that goes left.
    """
    total_n = total_1 = total_2 = 0.0
    for i in range(count + 1):
        position = order[i] if i < count else MISSING_BIN
        weight, mean = float(bins[position, B_N]), float(bins[position, B_MEAN])
        total_n += weight
        total_1 += weight * mean
        total_2 += bins[position, B_M2] + weight * mean * mean
    variation = total_2 - total_1 * total_1 / total_n
    if variation <= 1e-12 * total_2 or total_n < 2.0 * min_branch:
        return
    missing_n, missing_mean = float(bins[MISSING_BIN, B_N]), float(bins[MISSING_BIN, B_MEAN])
    coverage = min(1.0, total_n / seen)
    left_n = left_1 = 0.0
    for i in range(count if missing_n > 0.0 else count - 1):
        weight = float(bins[order[i], B_N])
        left_n += weight
        left_1 += weight * bins[order[i], B_MEAN]
        for with_left in range(2 if missing_n > 0.0 else 1):
            side_n = left_n + (missing_n if with_left else 0.0)
            side_1 = left_1 + (missing_n * missing_mean if with_left else 0.0)
            other_n, other_1 = total_n - side_n, total_1 - side_1
            if side_n < min_branch or other_n < min_branch:
                continue
            between = side_1 * side_1 / side_n + other_1 * other_1 / other_n - total_1 * total_1 / total_n
            merit = between / variation * coverage
            if merit > trial[C_MERIT]:
                trial[C_MERIT] = merit
                trial[C_INDEX] = i
                trial[C_DEFAULT] = with_left if missing_n > 0.0 else LARGER_SIDE


@kernel
def complete_cut(  # noqa: PLR0913 - a kernel takes each array
    forest: Arrays, slot: int, index: int, is_category: bool, order: Array, count: int, trial: Array
) -> None:
    """Fill in what a cut needs to be made: threshold or categories, default direction, the sides' targets."""
    bins, last = forest.bins[slot, index], int(trial[C_INDEX])
    side = forest.half
    side[:] = 0.0
    mask = seen = 0
    for i in range(count):
        add_side(side[0 if i <= last else 1], bins[order[i]])
        seen |= 1 << order[i]
        if i <= last:
            mask |= 1 << order[i]
    if trial[C_DEFAULT] == LARGER_SIDE:
        trial[C_DEFAULT] = 1.0 if side[0, 0] >= side[1, 0] else 0.0
    add_side(side[0 if trial[C_DEFAULT] else 1], bins[MISSING_BIN])
    for i in range(3):
        trial[C_LEFT_N + i], trial[C_RIGHT_N + i] = side[0, i], side[1, i]
    trial[C_MASK], trial[C_SEEN] = (mask, seen) if is_category else (0, 0)
    low = forest.span[slot, index, SPAN_LOW]
    step = 0.0 if is_category else 1.0 / forest.span[slot, index, SPAN_INVERSE]
    right = order[last + 1] if last + 1 < count else order[last] + 1
    trial[C_LOW], trial[C_HIGH] = low + (order[last] + 0.5) * step, low + (right + 0.5) * step
    trial[C_THRESHOLD] = 0.5 * (trial[C_LOW] + trial[C_HIGH]) if last + 1 < count else math.inf
    trial[C_INDEX] = index


@kernel
def add_side(side: Array, cell: Array) -> None:
    """Add a bin to the statistics (3,) of one side, as `observers.merge_bins` does, in double precision."""
    total = side[0] + cell[B_N]
    if total > side[0]:
        gap = cell[B_MEAN] - side[1]
        side[2] += cell[B_M2] + gap * gap * side[0] * cell[B_N] / total
        side[1] += gap * cell[B_N] / total
        side[0] = total


@kernel
def is_significant(cut: Array, weight: float, delta: float, tau: float) -> bool:
    """Whether the best feature is truly better than the second, or as good as equal to it.

    By Hoeffding's bound on the ratio of their merits, which lies in [0, 1]:
    ratio < 1 - b or b < tau, with b = sqrt(ln(1 / delta) / (2 weight)).

    Parameters
    ----------
    cut
        The best cut, (CUT_COLUMNS,).
    weight
        The weight the leaf observed.
    delta
        One minus the confidence, in (0, 1).
    tau
        The bound below which two features count as equally good.

    Returns
    -------
    bool
        Whether to split.
    """
    bound = math.sqrt(math.log(1.0 / delta) / (2.0 * weight))
    return cut[C_SECOND] / cut[C_MERIT] < 1.0 - bound or bound < tau
