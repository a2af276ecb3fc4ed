"""Stacking: a linear combination of experts learned by robust recursive least squares.

An anchor, which is a convex combination of the experts, is corrected by a linear function of how the experts
differ from it. What the anchor lacks of the target is regressed on these differences and an intercept, by
recursive least squares with forgetting and a ridge that does not fade; where the ridge holds, the stack is
the anchor. Each row counts by the inverse of its error, so that it is absolute errors that are made small
(Holland and Welsch 1977, Robust regression using iteratively reweighted least-squares). Stacking is Wolpert's
(1992, Stacked generalization).
"""

from __future__ import annotations

import math

from online.core.jit import kernel
from online.model.aggregation.heads import Array

__all__ = ["RIDGE", "SEEN", "learn_stack", "write_line"]

WAIT = 10  # labels before anything is learned: the unit must be known
UNIT_ROWS = 2000.0  # labels the unit is a mean of
ERROR_ROWS = 500.0  # labels the usual error is a mean of
RIDGE = 20.0  # weight of the squared coefficients, in labels
LABELS, SQUARE, USUAL = range(3)  # labels, mean square of differences and errors, usual error in units
SEEN = 3


@kernel
def learn_stack(
    weights: Array,
    inverse: Array,
    seen: Array,
    outputs: Array,
    anchor: Array,
    y: float,
    keep: float,
    row: Array,
    gain: Array,
) -> None:
    """Move a stack on by the target of outputs (k,), all finite, ``anchor`` (k,) being the anchor's weights.

    ``weights`` (k + 1,) has the intercept last, in units of differences; ``inverse`` is the covariance,
    (k + 1)^2 numbers row by row; ``keep`` what is left of a label's weight when the next one comes;
    ``row`` and ``gain`` (k + 1,) are scratch.
    """
    size = weights.shape[0]
    middle = 0.0
    for j in range(size - 1):
        middle += anchor[j] * outputs[j]
    error = y - middle
    square = error * error
    for j in range(size - 1):
        square += (outputs[j] - middle) ** 2 / (size - 1)
    seen[LABELS] += 1.0
    seen[SQUARE] += (square - seen[SQUARE]) / min(seen[LABELS], UNIT_ROWS)
    unit = math.sqrt(seen[SQUARE])
    if seen[LABELS] < WAIT or unit < 1e-150:
        return
    error /= unit
    row[size - 1] = 1.0
    for j in range(size - 1):
        row[j] = (outputs[j] - middle) / unit
    for j in range(size):
        error -= weights[j] * row[j]
    seen[USUAL] += (abs(error) - seen[USUAL]) / min(seen[LABELS], ERROR_ROWS)
    trust = seen[USUAL] / (abs(error) + 0.3 * seen[USUAL] + 1e-12)
    update(inverse, weights, row, gain, error, keep, max(trust, 1e-12))
    turn = int(seen[LABELS]) % size
    for j in range(size):
        row[j] = 1.0 if j == turn else 0.0
    update(inverse, weights, row, gain, -weights[turn], 1.0, RIDGE * (1.0 - keep) * size)


@kernel
def update(
    inverse: Array, weights: Array, row: Array, gain: Array, error: float, keep: float, trust: float
) -> None:
    """One step of recursive least squares, a row counting ``trust`` times."""
    size = weights.shape[0]
    total = keep / trust
    for a in range(size):
        gain[a] = 0.0
        for b in range(size):
            gain[a] += inverse[a * size + b] * row[b]
        total += gain[a] * row[a]
    for a in range(size):
        weights[a] += gain[a] / total * error
        for b in range(size):
            inverse[a * size + b] = (inverse[a * size + b] - gain[a] * gain[b] / total) / keep


@kernel
def write_line(weights: Array, seen: Array, anchor: Array, line: Array, bias: Array) -> float:
    """Write the combination's weights (k,), summing to one, and bias (1,); returns the unit.

    Bias and unit, the root mean square of differences and errors, are in target units.
    """
    unit = math.sqrt(seen[SQUARE])
    own = 0.0
    for j in range(line.shape[0]):
        own += weights[j]
    for j in range(line.shape[0]):
        line[j] = weights[j] + (1.0 - own) * anchor[j]
    bias[0] = weights[line.shape[0]] * unit
    return unit
