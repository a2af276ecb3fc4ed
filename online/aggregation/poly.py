"""Weights by regret: ML-Poly."""

from __future__ import annotations

import numpy as np

from online.aggregation.heads import Array
from online.kernels.compiled import kept

__all__ = ["PolynomialWeights"]


class PolynomialWeights:
    """Convex weights that go by each expert's regret, without a learning rate to tune: ML-Poly [1]_.

    An expert's weight is proportional to its regret so far, where that is positive, over one plus the sum of
    its squares. Regrets are of the absolute error, linearised, in units of the largest disagreement met.
    Labels may come late [2]_: outputs are then those that were served.

    Parameters
    ----------
    size
        How many there are to weight.
    keep
        What is left of all regrets when a label comes, in (0, 1].

    Attributes
    ----------
    weights : array
        On the simplex, (size,); even before any label, or when nothing beats the combination.

    References
    ----------
    .. [1] Gaillard, P., Stoltz, G., van Erven, T., 2014. A second-order bound with excess losses. COLT,
       176-196, figure 1.
    .. [2] Joulani, P., György, A., Szepesvári, C., 2013. Online learning under delayed feedback. ICML,
       1453-1461.

    Examples
    --------
    >>> import numpy as np
    >>> from online.aggregation.poly import PolynomialWeights
    >>> poly = PolynomialWeights(2)
    >>> for truth in (1.0, 2.0, 3.0):
    ...     poly.learn(np.array([truth, 7.0]), truth)
    >>> poly.weights.tolist()
    [1.0, 0.0]
    """

    def __init__(self, size: int, keep: float = 1.0) -> None:
        self.keep = keep
        self.weights: Array = np.full(size, 1.0 / size)
        self._state: Array = np.zeros((2, size))  # regret, and sum of its squares
        self._largest: Array = np.zeros(1)

    def learn(self, outputs: Array, y: float) -> None:
        """Take in the target of outputs (size,), all finite."""
        learn_weights(self.weights, self._state, self._largest, outputs, y, self.keep)


@kept
def learn_weights(
    weights: Array, state: Array, largest: Array, outputs: Array, y: float, keep: float
) -> None:
    """Move the regrets on by one label, and the weights with them."""
    guess = 0.0
    for j in range(len(weights)):
        guess += weights[j] * outputs[j]
    for j in range(len(weights)):
        largest[0] = max(largest[0], abs(guess - outputs[j]))
    if largest[0] == 0.0:
        return
    total = 0.0
    for j in range(len(weights)):
        better = np.sign(guess - y) * ((guess - outputs[j]) / largest[0])
        state[0, j] = keep * state[0, j] + better
        state[1, j] = keep * state[1, j] + better * better
        weights[j] = max(state[0, j], 0.0) / (1.0 + state[1, j])
        total += weights[j]
    for j in range(len(weights)):
        weights[j] = weights[j] / total if total > 0.0 else 1.0 / len(weights)
