"""The forest's rows: cleaned, scored by all members, learned by each, and members replaced when their error
rises.

Each member learns a row with a Poisson(6) weight (leveraging bagging, Bifet, Holmes and Pfahringer 2010; ARF-
Reg, Gomes et al. 2018). Two ADWIN detectors watch its error: the nervous one starts a background tree, the
calm one lets it replace the member. The members' outputs are weighted by the inverse of their faded errors.
"""

from __future__ import annotations

import math

from online.features.matrix import LARGEST_MEASUREMENT
from online.forest.adwin import reset_window, update_and_rose
from online.forest.forest_state import (
    ABSENT,
    CALIBRATION_ERRORS,
    M_BACKGROUND,
    M_BACKGROUND_ROWS,
    M_CALIBRATED,
    M_DRIFTS,
    M_PENDING,
    M_TREE,
    M_WARNINGS,
    N_NODES_FREE,
    N_NODES_HIGH,
    N_NODES_MAX,
    N_ROWS,
    N_SKIPPED,
    N_SLOTS_FREE,
    N_SLOTS_HIGH,
    N_SLOTS_MAX,
    P_DRIFT_DELTA,
    P_ERROR_DECAY,
    P_HORIZON,
    P_POWER,
    P_RATE,
    P_SUBSPACE,
    P_WARN_DELTA,
    P_Y_VAR,
    T_ERROR,
    T_ERROR_N,
    Array,
    Arrays,
    kernel,
)
from online.forest.inputs import clean_row, clip_prediction, observe_row
from online.forest.leaf import leaf_output
from online.forest.random_state import poisson
from online.forest.tree import find_leaves, grow_tree, learn_tree, prefetch_leaves, remove_tree
from online.forest.whitening import find_direction, observe_moments

__all__ = ["learn_rows", "predict_rows"]

MIN_BACKGROUND_ROWS = 100  # rows a background tree must have seen before it can replace its member

# Kernels: all that happens to a row, so that Python makes one call a row or batch. An error e enters the
# detectors as e / (e + scale), which lies in [0, 1); scale is the median of the member's first errors. The
# forest predicts sum_m w_m y_m / sum_m w_m with w_m = (faded mean absolute error)^-power.
#   rows (n, D) float64, C-contiguous, NaN where missing; targets, weights, predict_only (n,) float64
#   member_i, tree_f, scale, calibration, root, leaf: see `forest_state`


@kernel
def mean_error(forest: Arrays, tree: int) -> float:
    """A tree's faded mean absolute error; infinite before any."""
    errors = forest.tree_f[tree]
    return errors[T_ERROR] / errors[T_ERROR_N] if errors[T_ERROR_N] > 0.0 else math.inf


@kernel
def is_full(counts: Array, reserve: int) -> bool:
    """Whether the budget leaves fewer than ``reserve`` nodes or slots."""
    nodes = counts[N_NODES_MAX] - counts[N_NODES_HIGH] + counts[N_NODES_FREE]
    return min(nodes, counts[N_SLOTS_MAX] - counts[N_SLOTS_HIGH] + counts[N_SLOTS_FREE]) < reserve


@kernel
def learn_rows(forest: Arrays, rows: Array, targets: Array, weights: Array, predict_only: Array) -> int:
    """Learn rows until all are learned, or a pool has to grow first.

    Those to predict are scored instead, and the prediction takes the target's place.

    Parameters
    ----------
    forest
        The forest's arrays.
    rows
        The rows, (n, D).
    targets
        Their targets, (n,).
    weights
        How often each counts, (n,).
    predict_only
        Not 0 for a row to predict, (n,).

    Returns
    -------
    int
        How many of the rows were learned or predicted.
    """
    row, filled = forest.row[0], forest.row[1]
    reserve = 4 * forest.member_i.shape[0] + 2
    counts = forest.counts
    for i in range(rows.shape[0]):
        if predict_only[i] != 0.0:
            predict_rows(forest, rows[i : i + 1], targets[i : i + 1])
            continue
        if is_full(counts, reserve):
            return i
        if counts[N_NODES_FREE] + forest.free_node.shape[0] - counts[N_NODES_HIGH] < reserve:
            return i
        if counts[N_SLOTS_FREE] + forest.free_slot.shape[0] - counts[N_SLOTS_HIGH] < reserve:
            return i
        target = targets[i]
        if not abs(target) <= LARGEST_MEASUREMENT or not weights[i] > 0.0:
            counts[N_SKIPPED] += 1
            continue
        clean_row(forest, rows[i], row, filled)
        target = observe_row(forest, row, target)
        clean_row(forest, rows[i], row, filled)  # again: its own values have moved the bounds
        observe_moments(forest, filled)
        find_direction(forest, filled)
        counts[N_ROWS] += 1
        find_leaves(forest, row)
        prefetch_leaves(forest)
        for member in range(forest.member_i.shape[0]):
            learn_member(forest, member, row, filled, target, weights[i])
    return rows.shape[0]


@kernel
def learn_member(  # noqa: PLR0913 - a kernel takes each array
    forest: Arrays, member: int, row: Array, filled: Array, target: float, weight: float
) -> None:
    """Measure, teach and monitor one member and its background tree."""
    i = forest.member_i[member]
    if forest.root[i[M_TREE]] == ABSENT:
        forest.leaf[i[M_TREE]] = grow_tree(forest, i[M_TREE], member, forest.par[P_SUBSPACE], row.shape[0])
    drawn = float(poisson(forest.rng, member, forest.par[P_RATE] * weight))
    error = 0.0
    for role in (M_BACKGROUND, M_TREE):
        if i[role] != ABSENT:
            error = measure_and_learn(forest, i[role], row, filled, target, drawn)
    if i[M_BACKGROUND] != ABSENT:
        i[M_BACKGROUND_ROWS] += 1
        if i[M_BACKGROUND_ROWS] > forest.par[P_HORIZON]:  # the warning was a false alarm
            remove_tree(forest, i[M_BACKGROUND])
            i[M_BACKGROUND], i[M_PENDING] = ABSENT, 0
    monitor_member(forest, member, error, row.shape[0])


@kernel
def measure_and_learn(  # noqa: PLR0913 - a kernel takes each array
    forest: Arrays, tree: int, row: Array, filled: Array, target: float, drawn: float
) -> float:
    """Add a tree's error to its faded one, then teach it the row; the error."""
    errors = forest.tree_f[tree]
    leaf = forest.leaf[tree]
    error = abs(target - clip_prediction(forest, leaf_output(forest, leaf, filled)))
    errors[T_ERROR] = forest.par[P_ERROR_DECAY] * errors[T_ERROR] + error
    errors[T_ERROR_N] = forest.par[P_ERROR_DECAY] * errors[T_ERROR_N] + 1.0
    if drawn > 0.0:
        learn_tree(forest, tree, leaf, row, filled, target, drawn)
    return error


@kernel
def monitor_member(forest: Arrays, member: int, error: float, features: int) -> None:
    """Give a member's error to its detectors and act on their findings."""
    i = forest.member_i[member]
    if i[M_CALIBRATED] < CALIBRATION_ERRORS:
        forest.calibration[member, i[M_CALIBRATED]] = error
        i[M_CALIBRATED] += 1
        if i[M_CALIBRATED] == CALIBRATION_ERRORS:
            forest.scale[member] = median_of(forest.calibration[member])
    else:
        level = error / (error + forest.scale[member]) if error > 0.0 else 0.0
        if update_and_rose(forest, 2 * member, level, forest.par[P_WARN_DELTA]) and i[M_BACKGROUND] == ABSENT:
            i[M_WARNINGS] += 1
            start_background(forest, member, features)
        if update_and_rose(forest, 2 * member + 1, level, forest.par[P_DRIFT_DELTA]):
            i[M_DRIFTS] += 1
            i[M_PENDING] = 1
            if i[M_BACKGROUND] == ABSENT:
                start_background(forest, member, features)
    if (
        i[M_PENDING]
        and i[M_BACKGROUND_ROWS] >= MIN_BACKGROUND_ROWS
        and mean_error(forest, i[M_BACKGROUND]) < mean_error(forest, i[M_TREE])
    ):
        replace_member(forest, member)


@kernel
def median_of(values: Array) -> float:
    """The median of values (n,), by sorting them in place."""
    count = values.shape[0]
    for i in range(1, count):
        value, position = values[i], i
        while position > 0 and values[position - 1] > value:
            values[position] = values[position - 1]
            position -= 1
        values[position] = value
    return 0.5 * (values[(count - 1) // 2] + values[count // 2])


@kernel
def start_background(forest: Arrays, member: int, features: int) -> None:
    """Start a tree beside a member, on a subspace of its own."""
    i = forest.member_i[member]
    i[M_BACKGROUND] = 4 * member + 1 - i[M_TREE]  # the other of its two trees
    i[M_BACKGROUND_ROWS] = 0
    forest.tree_f[i[M_BACKGROUND]] = 0.0
    grow_tree(forest, i[M_BACKGROUND], member, forest.par[P_SUBSPACE], features)


@kernel
def replace_member(forest: Arrays, member: int) -> None:
    """Put the background tree in the member's place; its detectors start anew."""
    i = forest.member_i[member]
    remove_tree(forest, i[M_TREE])
    i[M_TREE], i[M_BACKGROUND] = i[M_BACKGROUND], ABSENT
    i[M_PENDING] = i[M_CALIBRATED] = i[M_BACKGROUND_ROWS] = 0
    reset_window(forest, 2 * member)
    reset_window(forest, 2 * member + 1)


@kernel
def member_weight(forest: Arrays, member: int) -> float:
    """A member's weight: the inverse of its faded error, to a power."""
    error = mean_error(forest, forest.member_i[member, M_TREE])
    return max(error, 1e-9 * math.sqrt(forest.par[P_Y_VAR]), 1e-60) ** -forest.par[P_POWER]


@kernel
def predict_rows(forest: Arrays, rows: Array, out: Array) -> None:
    """Predict rows; zero before anything was learned.

    Parameters
    ----------
    forest
        The forest's arrays; ``votes`` holds the members' weights afterwards.
    rows
        The rows, (n, D).
    out
        Where the predictions go, (n,).
    """
    row, filled = forest.row[0], forest.row[1]
    members = forest.member_i.shape[0]
    votes, best = forest.votes, 0.0
    for member in range(members):
        has_tree = forest.root[forest.member_i[member, M_TREE]] != ABSENT
        votes[member] = member_weight(forest, member) if has_tree else 0.0
        best = max(best, votes[member])
    for i in range(rows.shape[0]):
        if best == 0.0:
            out[i] = 0.0
            continue
        clean_row(forest, rows[i], row, filled)
        find_leaves(forest, row)
        total = weight = 0.0
        for member in range(members):
            if votes[member] > 0.0:
                leaf = forest.leaf[forest.member_i[member, M_TREE]]
                output = clip_prediction(forest, leaf_output(forest, leaf, filled))
                total += votes[member] / best * output
                weight += votes[member] / best
        out[i] = total / weight
