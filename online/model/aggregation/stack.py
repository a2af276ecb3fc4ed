"""Stacking: a linear combination of experts learned by robust recursive least squares.

An anchor, which is a convex combination of the experts, is corrected by a linear function of how the experts
differ from it. What the anchor lacks of the target is regressed on these differences and an intercept, by
recursive least squares with forgetting and a ridge that does not fade; where the ridge wins, the stack is
the anchor. Each row counts by the inverse of its error, so that it is absolute errors that are made small
(Holland and Welsch 1977, Robust regression using iteratively reweighted least-squares). Stacking is Wolpert's
(1992, Stacked generalization).
"""

from __future__ import annotations

import math
from typing import Any

from online.core.jit import kernel
from online.model.aggregation.heads import Array

__all__ = ["STACK_RIDGE", "STACK_STATS", "State", "learn_stack", "line_unit", "write_line"]

State = Any  # what weights_at gives: the arrays of WeightsState as attributes

UNIT_LABELS = 10  # before anything is learned: the unit must be known
UNIT_ROWS = 2000.0  # labels the unit is a mean of
ERROR_ROWS = 500.0  # labels the usual error is a mean of
STACK_RIDGE = 20.0  # weight of the squared coefficients, in labels
SMALLEST_UNIT = 1e-150  # below, its square is no number to divide by
ERROR_FLOOR = 0.3  # of the usual error: a row's trust stays below 1 / ERROR_FLOOR
SMALLEST_TRUST = 1e-12

# columns of a stack's statistics: labels, mean square of differences and errors, usual error in units
STACK_LABELS, MEAN_SQUARE, USUAL_ERROR = range(3)
STACK_STATS = 3

# Kernels, as they are a step of the label's kernel in update.py; O(k^2), too little for BLAS to help.
# Of the state s (weights_state.py) they use a stack's
#   stack_weights: (k + 1,) float64, the intercept last, in units of differences
#   stack_inverse: (k + 1, k + 1) float64, the covariance
#   stack_stats: (3,) float64
# and the scratch space row and gain, (k + 1,).


@kernel
def learn_stack(s: State, stack: int, anchor: Array, y: float, retention: float) -> None:
    """Move a stack on by the target of ``s.outputs``, all finite.

    Parameters
    ----------
    s, stack
        The state, and which of its stacks.
    anchor
        The anchor's weights, (k,).
    y
        The target.
    retention
        What is left of a label's weight when the next one comes.
    """
    weights, stats, outputs, row = s.stack_weights[stack], s.stack_stats[stack], s.outputs, s.row
    size = weights.shape[0]
    anchored = 0.0
    for j in range(size - 1):
        anchored += anchor[j] * outputs[j]
    error = y - anchored
    square = error * error
    for j in range(size - 1):
        square += (outputs[j] - anchored) ** 2 / (size - 1)
    stats[STACK_LABELS] += 1.0
    stats[MEAN_SQUARE] += (square - stats[MEAN_SQUARE]) / min(stats[STACK_LABELS], UNIT_ROWS)
    unit = math.sqrt(stats[MEAN_SQUARE])
    if stats[STACK_LABELS] < UNIT_LABELS or unit < SMALLEST_UNIT:
        return
    error /= unit
    row[size - 1] = 1.0
    for j in range(size - 1):
        row[j] = (outputs[j] - anchored) / unit
    for j in range(size):
        error -= weights[j] * row[j]
    stats[USUAL_ERROR] += (abs(error) - stats[USUAL_ERROR]) / min(stats[STACK_LABELS], ERROR_ROWS)
    trust = stats[USUAL_ERROR] / (abs(error) + ERROR_FLOOR * stats[USUAL_ERROR] + 1e-12)
    update_least_squares(s, stack, error, retention, max(trust, SMALLEST_TRUST))
    # The ridge fades with everything else, so a part of it is put back: to one coefficient a label, in turn,
    # as a row that says it is 0
    turn = int(stats[STACK_LABELS]) % size
    for j in range(size):
        row[j] = 1.0 if j == turn else 0.0
    update_least_squares(s, stack, -weights[turn], 1.0, STACK_RIDGE * (1.0 - retention) * size)


@kernel
def update_least_squares(s: State, stack: int, error: float, retention: float, trust: float) -> None:
    """One step of recursive least squares on ``s.row``, which counts ``trust`` times."""
    inverse, weights, row, gain = s.stack_inverse[stack], s.stack_weights[stack], s.row, s.gain
    size = weights.shape[0]
    total = retention / trust
    for a in range(size):
        gain[a] = 0.0
        for b in range(size):
            gain[a] += inverse[a, b] * row[b]
        total += gain[a] * row[a]
    for a in range(size):
        weights[a] += gain[a] / total * error
        for b in range(size):
            inverse[a, b] = (inverse[a, b] - gain[a] * gain[b] / total) / retention


@kernel
def line_unit(s: State, stack: int) -> float:
    """The unit of a stack.

    Parameters
    ----------
    s, stack
        The state, and which of its stacks.

    Returns
    -------
    float
        The root mean square of differences and errors, in target units.
    """
    return math.sqrt(s.stack_stats[stack, MEAN_SQUARE])


@kernel
def write_line(s: State, stack: int, anchor: Array, line: Array) -> float:
    """Write a stack as a combination of experts.

    Parameters
    ----------
    s, stack
        The state, and which of its stacks.
    anchor
        The anchor's weights, (k,).
    line
        Where the combination's weights go, (k,); they sum to one.

    Returns
    -------
    float
        Its bias, in target units.
    """
    weights = s.stack_weights[stack]
    own = 0.0
    for j in range(line.shape[0]):
        own += weights[j]
    for j in range(line.shape[0]):
        line[j] = weights[j] + (1.0 - own) * anchor[j]
    return float(weights[line.shape[0]] * line_unit(s, stack))
