"""What a leaf predicts: its mean or its linear model, whichever has been better of late.

The linear model is learned by normalised least mean squares (Haykin 2002, Adaptive Filter Theory, chapter 6):
one row takes away at most the share ``step`` of its own error, however large its features. FIMT-DD's
perceptron (Ikonomovska et al. 2011, section 4.3) has a fixed rate instead, and River's trees with it explode
on outliers. The choice by the faded squared errors is that of River's ``HoeffdingTreeRegressor`` with
``leaf_prediction="adaptive"``.
"""

from __future__ import annotations

import math

from online.forest.forest_state import (
    LEAF_LINES,
    N_ROWS,
    NODE_COPIED,
    NODE_ERROR_FAST,
    NODE_ERROR_MEAN,
    NODE_ERROR_SLOW,
    NODE_M2,
    NODE_MEAN,
    NODE_N,
    NODE_SEEN,
    NODE_VISITS,
    P_DECAY,
    P_DELAY,
    P_FAST_STEP,
    P_HORIZON,
    P_SLOW_STEP,
    Array,
    Arrays,
    copy_row,
    kernel,
)

__all__ = ["best_error", "faded_visits", "leaf_output", "learn_leaf", "line_output"]


# Kernels: with R^-1 the inverse of the features' second moments (:mod:`online.forest.whitening`), a row x and
# its error e, a line's weights w move by
#   g = R^-1 x;   w += (1 - (1 - step)^weight) * e * g / (1 + x.g)
# and errors fade, E = decay * E + (1 - decay) * e^2.
#   line: (LEAF_LINES, D + 1) float64, weights and, last, the intercept; direction: (D + 1,), g of this row.
# Where labels are late, e in E is that of the line of so many rows before (``shadow``).


@kernel
def line_output(line: Array, row: Array) -> float:
    """The output of a linear model.

    Parameters
    ----------
    line
        Weights and intercept, (D + 1,).
    row
        A row without gaps, (D,).

    Returns
    -------
    float
        In target units.
    """
    features = row.shape[0]
    total = float(line[features])
    for j in range(features):
        total += line[j] * row[j]
    return total


@kernel
def leaf_output(forest: Arrays, node: int, row: Array) -> float:
    """A leaf's prediction: its mean, or the line that has been better of late.

    Parameters
    ----------
    forest
        The forest's arrays.
    node
        The leaf.
    row
        A row without gaps, (D,).

    Returns
    -------
    float
        In target units.
    """
    f = forest.node_f[node]
    if f[NODE_ERROR_MEAN] < min(f[NODE_ERROR_SLOW], f[NODE_ERROR_FAST]):
        return f[NODE_MEAN]
    return line_output(forest.line[node, 0 if f[NODE_ERROR_SLOW] <= f[NODE_ERROR_FAST] else 1], row)


@kernel
def faded_visits(forest: Arrays, node: int) -> float:
    """The weight of the rows that came to a leaf, fading by 1/e every ``horizon`` rows of the forest.

    Parameters
    ----------
    forest
        The forest's arrays.
    node
        The leaf.

    Returns
    -------
    float
        The faded weight.
    """
    f = forest.node_f[node]
    return f[NODE_VISITS] * math.exp((f[NODE_SEEN] - forest.counts[N_ROWS]) / forest.par[P_HORIZON])


@kernel
def learn_leaf(forest: Arrays, node: int, row: Array, target: float, weight: float) -> None:
    """Teach a leaf's mean, its linear models and the choice among them.

    Parameters
    ----------
    forest
        The forest's arrays, ``direction`` of this row.
    node
        The leaf.
    row
        A row without gaps, (D,).
    target
        Its target.
    weight
        How often it counts.
    """
    f = forest.node_f[node]
    f[NODE_VISITS] = faded_visits(forest, node) + weight
    f[NODE_SEEN] = forest.counts[N_ROWS]
    gap = target - f[NODE_MEAN]
    f[NODE_ERROR_MEAN] += (1.0 - forest.par[P_DECAY]) * (gap * gap - f[NODE_ERROR_MEAN])
    f[NODE_N] += weight
    f[NODE_MEAN] += gap * weight / f[NODE_N]
    f[NODE_M2] += weight * gap * (target - f[NODE_MEAN])
    length = 1.0 + forest.direction[row.shape[0]]
    for j in range(row.shape[0]):
        length += row[j] * forest.direction[j]
    for i in range(LEAF_LINES):
        error = target - line_output(forest.line[node, i], row)
        judged = target - line_output(forest.shadow[node, i], row) if forest.par[P_DELAY] > 0.0 else error
        f[NODE_ERROR_SLOW + i] += (1.0 - forest.par[P_DECAY]) * (judged * judged - f[NODE_ERROR_SLOW + i])
        share = 1.0 - (1.0 - forest.par[P_FAST_STEP if i else P_SLOW_STEP]) ** weight
        learn_line(forest.line[node, i], forest.direction, share * error / length)

    if forest.par[P_DELAY] > 0.0 and forest.counts[N_ROWS] - f[NODE_COPIED] >= forest.par[P_DELAY]:
        f[NODE_COPIED] = forest.counts[N_ROWS]
        for i in range(LEAF_LINES):
            copy_row(forest.shadow[node, i], forest.shadow[node, LEAF_LINES + i])
            copy_row(forest.shadow[node, LEAF_LINES + i], forest.line[node, i])


@kernel
def learn_line(line: Array, direction: Array, gain: float) -> None:
    """Move a linear model (D + 1,) along the direction (D + 1,) of a row."""
    for j in range(line.shape[0]):
        line[j] += gain * direction[j]


@kernel
def best_error(node_f: Array) -> float:
    """The faded squared error of what a leaf predicts by."""
    return min(node_f[NODE_ERROR_MEAN], node_f[NODE_ERROR_SLOW], node_f[NODE_ERROR_FAST])
