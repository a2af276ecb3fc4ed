"""The forest's rows: cleaned, scored by all members, learned by each, and members replaced when their error
rises.

Each member learns a row with a Poisson(6) weight (leveraging bagging, Bifet, Holmes and Pfahringer 2010; ARF-
Reg, Gomes et al. 2018). Two ADWIN detectors watch its error: the nervous one starts a background tree, the
calm one lets it replace the member. The members' outputs are weighted by the inverse of their faded errors.
"""

from __future__ import annotations

import math

from online.forest.adwin import reset_window, rose
from online.forest.forest_state import (
    BACK,
    BACK_ROWS,
    CALIBRATED,
    CALIBRATION,
    DRIFT_DELTA,
    DRIFTS,
    ERR,
    ERR_DECAY,
    ERR_N,
    HORIZON,
    MAX_NODES,
    MAX_SLOTS,
    NODE_FREE,
    NODE_HIGH,
    NONE,
    PENDING,
    POWER,
    RATE,
    ROWS,
    SHARE,
    SKIPPED,
    SLOT_FREE,
    SLOT_HIGH,
    TREE,
    WARN_DELTA,
    WARNINGS,
    Y_VAR,
    Array,
    Arrays,
    kernel,
)
from online.forest.inputs import LARGEST, clean_row, held, observe_row
from online.forest.leaf import leaf_output
from online.forest.random_state import poisson
from online.forest.tree import fell, fetch_leaves, find_leaves, learn_tree, plant
from online.forest.whitening import find_direction, observe_moments

__all__ = ["learn_rows", "predict_rows"]

SETTLED = 100  # rows a background tree must have seen before it can replace its member


@kernel
def mean_error(s: Arrays, tree: int) -> float:
    """A tree's faded mean absolute error; infinite before any."""
    f = s.tree_f[tree]
    return f[ERR] / f[ERR_N] if f[ERR_N] > 0.0 else math.inf


@kernel
def is_full(c: Array, need: int) -> bool:
    """Whether the budget leaves fewer than ``need`` nodes or slots."""
    nodes = c[MAX_NODES] - c[NODE_HIGH] + c[NODE_FREE]
    return min(nodes, c[MAX_SLOTS] - c[SLOT_HIGH] + c[SLOT_FREE]) < need


@kernel
def learn_rows(s: Arrays, rows: Array, targets: Array, weights: Array, asked: Array) -> int:
    """Learn rows until all are, or a pool has to grow first; how many were.

    Those that are asked about are scored instead, and the score takes the target's place.
    """
    x, filled = s.row[0], s.row[1]
    need = 4 * s.member_i.shape[0] + 2
    c = s.counts
    for i in range(rows.shape[0]):
        if asked[i] != 0.0:
            predict_rows(s, rows[i : i + 1], targets[i : i + 1])
            continue
        if is_full(c, need):
            return i
        if c[NODE_FREE] + s.free_node.shape[0] - c[NODE_HIGH] < need:
            return i
        if c[SLOT_FREE] + s.free_slot.shape[0] - c[SLOT_HIGH] < need:
            return i
        y = targets[i]
        if not abs(y) <= LARGEST or not weights[i] > 0.0:
            c[SKIPPED] += 1
            continue
        clean_row(s, rows[i], x, filled)
        y = observe_row(s, x, y)
        clean_row(s, rows[i], x, filled)
        observe_moments(s, filled)
        find_direction(s, filled)
        c[ROWS] += 1
        find_leaves(s, x)
        fetch_leaves(s)
        for m in range(s.member_i.shape[0]):
            learn_member(s, m, x, filled, y, weights[i])
    return rows.shape[0]


@kernel
def learn_member(s: Arrays, m: int, x: Array, filled: Array, y: float, weight: float) -> None:
    """Measure, teach and watch one member and its background tree."""
    i = s.member_i[m]
    if s.root[i[TREE]] == NONE:
        s.leaf[i[TREE]] = plant(s, i[TREE], m, s.par[SHARE], x.shape[0])
    k = float(poisson(s.rng, m, s.par[RATE] * weight))
    error = 0.0
    for role in (BACK, TREE):
        if i[role] != NONE:
            error = measure_and_learn(s, i[role], x, filled, y, k)
    if i[BACK] != NONE:
        i[BACK_ROWS] += 1
        if i[BACK_ROWS] > s.par[HORIZON]:  # nothing came of it
            fell(s, i[BACK])
            i[BACK], i[PENDING] = NONE, 0
    watch(s, m, error, x.shape[0])


@kernel
def measure_and_learn(s: Arrays, tree: int, x: Array, filled: Array, y: float, k: float) -> float:
    """Take a tree's error into its faded one, then teach it the row; the error."""
    f = s.tree_f[tree]
    leaf = s.leaf[tree]
    error = abs(y - held(s, leaf_output(s, leaf, filled)))
    f[ERR] = s.par[ERR_DECAY] * f[ERR] + error
    f[ERR_N] = s.par[ERR_DECAY] * f[ERR_N] + 1.0
    if k > 0.0:
        learn_tree(s, tree, leaf, x, filled, y, k)
    return error


@kernel
def watch(s: Arrays, m: int, error: float, features: int) -> None:
    """Show a member's error to its detectors and act on what they say."""
    i = s.member_i[m]
    if i[CALIBRATED] < CALIBRATION:
        s.calibration[m, i[CALIBRATED]] = error
        i[CALIBRATED] += 1
        if i[CALIBRATED] == CALIBRATION:
            s.scale[m] = median(s.calibration[m])
    else:
        level = error / (error + s.scale[m]) if error > 0.0 else 0.0
        if rose(s, 2 * m, level, s.par[WARN_DELTA]) and i[BACK] == NONE:
            i[WARNINGS] += 1
            start_background(s, m, features)
        if rose(s, 2 * m + 1, level, s.par[DRIFT_DELTA]):
            i[DRIFTS] += 1
            i[PENDING] = 1
            if i[BACK] == NONE:
                start_background(s, m, features)
    if i[PENDING] and i[BACK_ROWS] >= SETTLED and mean_error(s, i[BACK]) < mean_error(s, i[TREE]):
        replace(s, m)


@kernel
def median(values: Array) -> float:
    """The median, by sorting in place."""
    n = values.shape[0]
    for i in range(1, n):
        value, at = values[i], i
        while at > 0 and values[at - 1] > value:
            values[at] = values[at - 1]
            at -= 1
        values[at] = value
    return 0.5 * (values[(n - 1) // 2] + values[n // 2])


@kernel
def start_background(s: Arrays, m: int, features: int) -> None:
    """Plant a tree beside a member, on a subspace of its own."""
    i = s.member_i[m]
    i[BACK] = 4 * m + 1 - i[TREE]
    i[BACK_ROWS] = 0
    s.tree_f[i[BACK]] = 0.0
    plant(s, i[BACK], m, s.par[SHARE], features)


@kernel
def replace(s: Arrays, m: int) -> None:
    """Put the background tree in the member's place; its detectors start anew."""
    i = s.member_i[m]
    fell(s, i[TREE])
    i[TREE], i[BACK], i[PENDING], i[CALIBRATED], i[BACK_ROWS] = i[BACK], NONE, 0, 0, 0
    reset_window(s, 2 * m)
    reset_window(s, 2 * m + 1)


@kernel
def member_weight(s: Arrays, m: int) -> float:
    """A member's say: the inverse of its faded error, to a power."""
    error = mean_error(s, s.member_i[m, TREE])
    return max(error, 1e-9 * math.sqrt(s.par[Y_VAR]), 1e-60) ** -s.par[POWER]


@kernel
def predict_rows(s: Arrays, rows: Array, out: Array) -> None:
    """Score rows; zero before anything was learned."""
    x, filled = s.row[0], s.row[1]
    members = s.member_i.shape[0]
    say, best = s.say, 0.0
    for m in range(members):
        say[m] = member_weight(s, m) if s.root[s.member_i[m, TREE]] != NONE else 0.0
        best = max(best, say[m])
    for i in range(rows.shape[0]):
        if best == 0.0:
            out[i] = 0.0
            continue
        clean_row(s, rows[i], x, filled)
        find_leaves(s, x)
        total = weight = 0.0
        for m in range(members):
            if say[m] > 0.0:
                output = held(s, leaf_output(s, s.leaf[s.member_i[m, TREE]], filled))
                total += say[m] / best * output
                weight += say[m] / best
        out[i] = total / weight
