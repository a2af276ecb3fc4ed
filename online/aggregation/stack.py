"""Stacking: a linear combination of experts learned by robust recursive least squares."""

from __future__ import annotations

import numpy as np
from numba import njit

from online.aggregation.heads import Array
from online.kernels.compiled import kept

__all__ = ["Stack"]

WAIT = 10  # labels before anything is learned: the unit must be known
UNIT_ROWS = 2000.0  # labels the unit is a mean of
ERROR_ROWS = 500.0  # labels the usual error is a mean of


class Stack:
    """Correct an anchor's prediction by a linear function of how the experts differ from it.

    The anchor is a convex combination of the experts. What it lacks of the target is regressed on the
    experts' differences from it and an intercept, by recursive least squares with forgetting and a ridge that
    does not fade; where the ridge holds the stack is the anchor. Each row counts by the inverse of its error,
    so that it is absolute errors that are made small [1]_. Stacking is Wolpert's [2]_.

    Parameters
    ----------
    size
        How many experts.
    keep
        Weight a label keeps from one label to the next, in (0, 1).
    ridge
        Weight of the squared coefficients, in labels, positive.

    References
    ----------
    .. [1] Holland, P. W., Welsch, R. E., 1977. Robust regression using iteratively reweighted least-squares.
       Communications in Statistics 6, 813-827.
    .. [2] Wolpert, D. H., 1992. Stacked generalization. Neural Networks 5, 241-259.

    Examples
    --------
    >>> import numpy as np
    >>> from online.aggregation.stack import Stack
    >>> stack, anchor = Stack(2, ridge=0.01), np.array([0.5, 0.5])
    >>> for n in range(2000):
    ...     outputs = np.array([np.sin(n), np.cos(n)])
    ...     stack.learn(outputs, anchor, 2.0 * np.sin(n) - np.cos(n) + 3.0)
    >>> bias, weights = stack.line(anchor)
    >>> round(bias, 1), weights.round(1).tolist()
    (3.0, [2.0, -1.0])
    """

    def __init__(self, size: int, keep: float = 0.999, ridge: float = 20.0) -> None:
        self.keep = keep
        self.ridge = ridge
        self._weights: Array = np.zeros(size + 1)  # the intercept last
        self._inverse: Array = np.eye(size + 1) / ridge
        self._seen: Array = np.zeros(3)  # labels, mean square of differences and errors, usual error in units

    @property
    def unit(self) -> float:
        """The unit of differences and errors, in target units: their root mean square."""
        return float(self._seen[1] ** 0.5)

    def learn(self, outputs: Array, anchor: Array, y: float) -> None:
        """Take in the target of outputs (size,), all finite, the anchor's weights being ``anchor``."""
        learn_stack(self._weights, self._inverse, self._seen, outputs, anchor, y, self.keep, self.ridge)

    def line(self, anchor: Array) -> tuple[float, Array]:
        """Bias, in target units, and weights (size,) of the combination, summing to one."""
        own = self._weights[:-1]
        return float(self._weights[-1] * self.unit), own + (1.0 - own.sum()) * anchor


@kept
def learn_stack(
    weights: Array,
    inverse: Array,
    seen: Array,
    outputs: Array,
    anchor: Array,
    y: float,
    keep: float,
    ridge: float,
) -> None:
    """Move a stack on by one label."""
    size = len(weights)
    middle = 0.0
    for j in range(size - 1):
        middle += anchor[j] * outputs[j]
    error = y - middle
    square = error * error
    for j in range(size - 1):
        square += (outputs[j] - middle) ** 2 / (size - 1)
    seen[0] += 1.0
    seen[1] += (square - seen[1]) / min(seen[0], UNIT_ROWS)
    unit = np.sqrt(seen[1])
    if seen[0] < WAIT or unit < 1e-150:
        return
    row = np.ones(size)
    error /= unit
    for j in range(size - 1):
        row[j] = (outputs[j] - middle) / unit
    for j in range(size):
        error -= weights[j] * row[j]
    seen[2] += (abs(error) - seen[2]) / min(seen[0], ERROR_ROWS)
    trust = seen[2] / (abs(error) + 0.3 * seen[2] + 1e-12)
    update(inverse, weights, row, error, keep, max(trust, 1e-12))
    turn = int(seen[0]) % size
    amount = ridge * (1.0 - keep) * size
    column = np.zeros(size)
    column[turn] = 1.0
    update(inverse, weights, column, -weights[turn], 1.0, amount)


@njit
def update(inverse: Array, weights: Array, row: Array, error: float, keep: float, trust: float) -> None:
    """One step of recursive least squares, a row counting ``trust`` times."""
    size = len(weights)
    gain = np.zeros(size)
    total = keep / trust
    for a in range(size):
        for b in range(size):
            gain[a] += inverse[a, b] * row[b]
        total += gain[a] * row[a]
    for a in range(size):
        weights[a] += gain[a] / total * error
        for b in range(size):
            inverse[a, b] = (inverse[a, b] - gain[a] * gain[b] / total) / keep
