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
    DECAY,
    DELAY,
    E_FAST,
    E_MEAN,
    E_SLOW,
    FAST_STEP,
    HORIZON,
    LINES,
    M2,
    MEAN,
    ROWS,
    SEEN,
    SINCE,
    SLOW_STEP,
    VISITS,
    Array,
    Arrays,
    N,
    copy,
    kernel,
)

__all__ = ["best_error", "faded_visits", "leaf_output", "learn_leaf", "line_output"]


@kernel
def line_output(line: Array, x: Array) -> float:
    """The output of a linear model."""
    d = x.shape[0]
    total = float(line[d])
    for j in range(d):
        total += line[j] * x[j]
    return total


@kernel
def leaf_output(s: Arrays, node: int, x: Array) -> float:
    """A leaf's prediction for a row without gaps."""
    f = s.node_f[node]
    if f[E_MEAN] < min(f[E_SLOW], f[E_FAST]):
        return f[MEAN]
    return line_output(s.line[node, 0 if f[E_SLOW] <= f[E_FAST] else 1], x)


@kernel
def faded_visits(s: Arrays, node: int) -> float:
    """The weight of the rows that came to a leaf, the older the less."""
    f = s.node_f[node]
    return f[VISITS] * math.exp((f[SEEN] - s.counts[ROWS]) / s.par[HORIZON])


@kernel
def learn_leaf(s: Arrays, node: int, x: Array, y: float, weight: float) -> None:
    """Teach a leaf's mean, linear model and the choice between them."""
    f = s.node_f[node]
    f[VISITS] = faded_visits(s, node) + weight
    f[SEEN] = s.counts[ROWS]
    gap = y - f[MEAN]
    f[E_MEAN] += (1.0 - s.par[DECAY]) * (gap * gap - f[E_MEAN])
    f[N] += weight
    f[MEAN] += gap * weight / f[N]
    f[M2] += weight * gap * (y - f[MEAN])
    length = 1.0 + s.direction[x.shape[0]]
    for j in range(x.shape[0]):
        length += x[j] * s.direction[j]
    for i in range(LINES):
        error = y - line_output(s.line[node, i], x)
        judged = y - line_output(s.shadow[node, i], x) if s.par[DELAY] > 0.0 else error
        f[E_SLOW + i] += (1.0 - s.par[DECAY]) * (judged * judged - f[E_SLOW + i])
        share = 1.0 - (1.0 - s.par[FAST_STEP if i else SLOW_STEP]) ** weight
        learn_line(s.line[node, i], s.direction, share * error / length)

    if s.par[DELAY] > 0.0 and s.counts[ROWS] - f[SINCE] >= s.par[DELAY]:
        f[SINCE] = s.counts[ROWS]
        for i in range(LINES):
            copy(s.shadow[node, i], s.shadow[node, LINES + i])
            copy(s.shadow[node, LINES + i], s.line[node, i])


@kernel
def learn_line(line: Array, direction: Array, gain: float) -> None:
    """Move a linear model along the direction of a row."""
    for j in range(line.shape[0]):
        line[j] += gain * direction[j]


@kernel
def best_error(f: Array) -> float:
    """The faded squared error of what a leaf predicts by."""
    return min(f[E_MEAN], f[E_SLOW], f[E_FAST])
