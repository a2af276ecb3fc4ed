"""The forest's rows: cleaned, scored by all members, learned by each, and members replaced when their error
rises.

Each member learns a row with a Poisson(6) weight (leveraging bagging, Bifet, Holmes and Pfahringer 2010; ARF-
Reg, Gomes et al. 2018). Two ADWIN detectors watch its error: the nervous one starts a background tree, the
calm one lets it replace the member. The members' outputs are weighted by the inverse of their faded errors.
"""

from __future__ import annotations

import math

from online.forest.adwin import reset_window, rose
from online.forest.leaf import leaf_output
from online.forest.observers import observe_feature
from online.forest.random import poisson
from online.forest.state import (
    BACK,
    BACK_ERR,
    BACK_ERR_N,
    BACK_ROWS,
    BINS,
    CALIBRATED,
    CALIBRATION,
    DRIFT_DELTA,
    DRIFTS,
    ERR,
    ERR_DECAY,
    ERR_N,
    F_KIND,
    F_MEAN,
    F_N,
    F_VAR,
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
    SCALE,
    SHARE,
    SKIPPED,
    SLOT_FREE,
    SLOT_HIGH,
    TREE,
    WARN_DELTA,
    WARNINGS,
    Y_HIGH,
    Y_LOW,
    Y_MEAN,
    Y_N,
    Y_VAR,
    Array,
    Arrays,
    kernel,
)
from online.forest.tree import descend, fell, learn_tree, plant
from online.forest.whitening import find_direction, observe_moments

__all__ = ["learn_rows", "predict_rows"]

LARGEST = 1e30  # beyond this a number is no measurement, and squares of squares would overflow
CLIP = 8.0  # deviations: linear models see no value further out
TARGET_CLIP = (
    30.0  # deviations beyond which a target is pulled in; the deviation then grows, so it may come again
)
TARGET_MEMORY = 0.001
MARGIN = 0.1  # of the targets' range: predictions go no further beyond it
SETTLED = 100  # rows a background tree must have seen before it can replace its member


@kernel
def clean_row(s: Arrays, row: Array, x: Array, filled: Array) -> None:
    """A row with NaN where nothing usable stands, and one without gaps or far outliers for linear models."""
    spread = math.sqrt(s.par[Y_VAR])
    for j in range(row.shape[0]):
        f = s.feature[j]
        value = row[j] if abs(row[j]) <= LARGEST else math.nan
        x[j] = value
        if f[F_KIND]:
            filled[j] = category_value(s, j, value, spread)
        elif math.isnan(value):
            filled[j] = f[F_MEAN]
        else:
            reach = CLIP * math.sqrt(f[F_VAR])
            filled[j] = min(max(value, f[F_MEAN] - reach), f[F_MEAN] + reach) if f[F_N] > CLIP else value


@kernel
def category_value(s: Arrays, j: int, value: float, spread: float) -> float:
    """A category as a number: the deviation of its targets' mean, pulled to zero while it is rare."""
    if math.isnan(value) or spread == 0.0 or not 0.0 <= value < BINS:
        return 0.0
    weight, mean = s.category[j, int(value), 0], s.category[j, int(value), 1]
    return (mean - s.par[Y_MEAN]) / spread * weight / (weight + 10.0)


@kernel
def observe_row(s: Arrays, x: Array, y: float) -> float:
    """Take a row into the statistics of features and target; the target, pulled in if it is far out."""
    p = s.par
    if p[Y_N] == 0.0:
        p[Y_MEAN] = p[Y_LOW] = p[Y_HIGH] = y
    limit = TARGET_CLIP * math.sqrt(p[Y_VAR])
    gap = y - p[Y_MEAN]
    if p[Y_N] > TARGET_CLIP and limit > 0.0:
        gap = min(max(gap, -limit), limit)
        y = p[Y_MEAN] + gap
    share = max(TARGET_MEMORY, 1.0 / (p[Y_N] + 1.0))
    p[Y_N] += 1.0
    p[Y_MEAN] += share * gap
    p[Y_VAR] = (1.0 - share) * (p[Y_VAR] + share * gap * gap)
    p[Y_LOW], p[Y_HIGH] = min(y, p[Y_LOW]), max(y, p[Y_HIGH])
    for j in range(x.shape[0]):
        if math.isnan(x[j]):
            continue
        if s.feature[j, F_KIND]:
            cell = s.category[j, int(x[j])]
            cell[0] += 1.0
            cell[1] += (y - cell[1]) * max(TARGET_MEMORY, 1.0 / cell[0])
            s.feature[j, F_N] += 1.0
        else:
            observe_feature(s.feature[j], x[j])
    return y


@kernel
def held(s: Arrays, output: float) -> float:
    """An output within the range of targets, and a margin."""
    margin = MARGIN * (s.par[Y_HIGH] - s.par[Y_LOW])
    return min(max(output, s.par[Y_LOW] - margin), s.par[Y_HIGH] + margin)


@kernel
def mean_error(total: float, n: float) -> float:
    """A faded mean absolute error; infinite before any."""
    return total / n if n > 0.0 else math.inf


@kernel
def is_full(c: Array, need: int) -> bool:
    """Whether the budget leaves fewer than ``need`` nodes or slots."""
    nodes = c[MAX_NODES] - c[NODE_HIGH] + c[NODE_FREE]
    return min(nodes, c[MAX_SLOTS] - c[SLOT_HIGH] + c[SLOT_FREE]) < need


@kernel
def learn_rows(s: Arrays, rows: Array, targets: Array, weights: Array) -> int:
    """Learn rows until all are, or a pool has to grow first; how many were."""
    x, filled = s.row[0], s.row[1]
    need = 4 * s.member_i.shape[0] + 2
    c = s.counts
    for i in range(rows.shape[0]):
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
        for m in range(s.member_i.shape[0]):
            learn_member(s, m, x, filled, y, weights[i])
    return rows.shape[0]


@kernel
def learn_member(s: Arrays, m: int, x: Array, filled: Array, y: float, weight: float) -> None:
    """Measure, teach and watch one member and its background tree."""
    i, f = s.member_i[m], s.member_f[m]
    features = x.shape[0]
    if s.root[i[TREE]] == NONE:
        plant(s, i[TREE], m, s.par[SHARE], features)
    k = float(poisson(s.rng, m, s.par[RATE] * weight))
    leaf = descend(s, s.root[i[TREE]], x)
    error = abs(y - held(s, leaf_output(s, leaf, filled)))
    f[ERR] = s.par[ERR_DECAY] * f[ERR] + error
    f[ERR_N] = s.par[ERR_DECAY] * f[ERR_N] + 1.0
    if k > 0.0:
        learn_tree(s, i[TREE], leaf, x, filled, y, k)
    if i[BACK] != NONE:
        learn_background(s, m, x, filled, y, k)
    watch(s, m, error, features)


@kernel
def learn_background(s: Arrays, m: int, x: Array, filled: Array, y: float, k: float) -> None:
    """Teach the tree that grows beside a member; drop it if nothing came of it."""
    i, f = s.member_i[m], s.member_f[m]
    leaf = descend(s, s.root[i[BACK]], x)
    error = abs(y - held(s, leaf_output(s, leaf, filled)))
    f[BACK_ERR] = s.par[ERR_DECAY] * f[BACK_ERR] + error
    f[BACK_ERR_N] = s.par[ERR_DECAY] * f[BACK_ERR_N] + 1.0
    if k > 0.0:
        learn_tree(s, i[BACK], leaf, x, filled, y, k)
    i[BACK_ROWS] += 1
    if i[BACK_ROWS] > s.par[HORIZON]:
        fell(s, i[BACK])
        i[BACK], i[PENDING] = NONE, 0


@kernel
def watch(s: Arrays, m: int, error: float, features: int) -> None:
    """Show a member's error to its detectors and act on what they say."""
    i, f = s.member_i[m], s.member_f[m]
    if i[CALIBRATED] < CALIBRATION:
        s.calibration[m, i[CALIBRATED]] = error
        i[CALIBRATED] += 1
        if i[CALIBRATED] == CALIBRATION:
            f[SCALE] = median(s.calibration[m])
    else:
        level = error / (error + f[SCALE]) if error > 0.0 else 0.0
        if rose(s, 2 * m, level, s.par[WARN_DELTA]) and i[BACK] == NONE:
            i[WARNINGS] += 1
            start_background(s, m, features)
        if rose(s, 2 * m + 1, level, s.par[DRIFT_DELTA]):
            i[DRIFTS] += 1
            i[PENDING] = 1
            if i[BACK] == NONE:
                start_background(s, m, features)
    if i[PENDING] and i[BACK_ROWS] >= SETTLED and is_better(f):
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
def is_better(f: Array) -> bool:
    """Whether the background tree's faded error is below its member's."""
    return mean_error(f[BACK_ERR], f[BACK_ERR_N]) < mean_error(f[ERR], f[ERR_N])


@kernel
def start_background(s: Arrays, m: int, features: int) -> None:
    """Plant a tree beside a member, on a subspace of its own."""
    i, f = s.member_i[m], s.member_f[m]
    i[BACK] = 4 * m + 1 - i[TREE]
    i[BACK_ROWS] = 0
    f[BACK_ERR] = f[BACK_ERR_N] = 0.0
    plant(s, i[BACK], m, s.par[SHARE], features)


@kernel
def replace(s: Arrays, m: int) -> None:
    """Put the background tree in the member's place; its detectors start anew."""
    i, f = s.member_i[m], s.member_f[m]
    fell(s, i[TREE])
    i[TREE], i[BACK], i[PENDING], i[CALIBRATED], i[BACK_ROWS] = i[BACK], NONE, 0, 0, 0
    f[ERR], f[ERR_N] = f[BACK_ERR], f[BACK_ERR_N]
    reset_window(s, 2 * m)
    reset_window(s, 2 * m + 1)


@kernel
def member_weight(s: Arrays, m: int) -> float:
    """A member's say: the inverse of its faded error, to a power."""
    error = mean_error(s.member_f[m, ERR], s.member_f[m, ERR_N])
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
        total = weight = 0.0
        for m in range(members):
            if say[m] > 0.0:
                tree = s.member_i[m, TREE]
                output = held(s, leaf_output(s, descend(s, s.root[tree], x), filled))
                total += say[m] / best * output
                weight += say[m] / best
        out[i] = total / weight
