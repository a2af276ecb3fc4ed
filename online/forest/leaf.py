"""What a leaf predicts: its mean or its linear model, whichever has been better of late.

The linear model is learned by normalised least mean squares (Haykin 2002, Adaptive Filter Theory, chapter 6): one row
takes away at most the share ``step`` of its own error, however large its features. FIMT-DD's perceptron (Ikonomovska et
al. 2011, section 4.3) has a fixed rate instead, and River's trees with it explode on outliers. The choice by the faded
squared errors is that of River's ``HoeffdingTreeRegressor`` with ``leaf_prediction="adaptive"``.
"""

from __future__ import annotations

import math


from online.forest.state import (
    BIAS,
    DECAY,
    E_LINE,
    E_MEAN,
    HORIZON,
    M2,
    MEAN,
    N,
    NONE,
    ROWS,
    SEEN,
    STEP,
    VISITS,
    Array,
    Arrays,
    kernel,
)

__all__ = ["faded_visits", "leaf_output", "learn_leaf", "line_output"]


@kernel
def line_output(s: Arrays, node: int, tree: int, x: Array) -> float:
    """The output of a leaf's linear model."""
    total = s.node_f[node, BIAS]
    for k in range(s.subspace.shape[1]):
        j = s.subspace[tree, k]
        if j == NONE:
            break
        total += s.line[node, k] * x[j]
    return total


@kernel
def leaf_output(s: Arrays, node: int, tree: int, x: Array) -> float:
    """A leaf's prediction for a row without gaps."""
    f = s.node_f[node]
    if f[E_MEAN] < f[E_LINE]:
        return f[MEAN]
    return line_output(s, node, tree, x)


@kernel
def faded_visits(s: Arrays, node: int) -> float:
    """The weight of the rows that came to a leaf, the older the less."""
    f = s.node_f[node]
    return f[VISITS] * math.exp((f[SEEN] - s.counts[ROWS]) / s.par[HORIZON])


@kernel
def learn_leaf(s: Arrays, node: int, tree: int, x: Array, y: float, weight: float) -> None:
    """Teach a leaf's mean, linear model and the choice between them."""
    f = s.node_f[node]
    f[VISITS] = faded_visits(s, node) + weight
    f[SEEN] = s.counts[ROWS]
    gap = y - f[MEAN]
    error = y - line_output(s, node, tree, x)
    f[E_MEAN] = s.par[DECAY] * f[E_MEAN] + (1.0 - s.par[DECAY]) * gap * gap
    f[E_LINE] = s.par[DECAY] * f[E_LINE] + (1.0 - s.par[DECAY]) * error * error
    f[N] += weight
    f[MEAN] += gap * weight / f[N]
    f[M2] += weight * gap * (y - f[MEAN])
    length = 2.0
    for k in range(s.subspace.shape[1]):
        j = s.subspace[tree, k]
        if j == NONE:
            break
        length += x[j] * x[j]
    gain = (1.0 - (1.0 - s.par[STEP]) ** weight) * error / length
    f[BIAS] += gain
    for k in range(s.subspace.shape[1]):
        j = s.subspace[tree, k]
        if j == NONE:
            break
        s.line[node, k] += gain * x[j]
