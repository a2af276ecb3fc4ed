"""Weights by regret: ML-Poly.

An expert's weight is proportional to its regret so far, where that is positive, over one plus the sum of its
squares (Gaillard, Stoltz and van Erven 2014, A second-order bound with excess losses, figure 1): there is no
learning rate to tune. Regrets are of the absolute error, linearised, in units of the largest disagreement
met. Labels may come late (Joulani, György and Szepesvári 2013, Online learning under delayed feedback):
outputs are then those that were served.
"""

from __future__ import annotations

from online.core.jit import kernel
from online.model.aggregation.heads import Array

__all__ = ["learn_weights"]


@kernel
def learn_weights(
    weights: Array, regrets: Array, squares: Array, largest: Array, outputs: Array, y: float, keep: float
) -> None:
    """Move convex weights (k,) on by the target of outputs (k,), all finite.

    ``regrets`` and ``squares`` (k,) are sums, of which ``keep`` in (0, 1] is left when a label comes;
    ``largest`` (1,) is the largest disagreement, in target units.
    """
    guess = 0.0
    for j in range(weights.shape[0]):
        guess += weights[j] * outputs[j]
    for j in range(weights.shape[0]):
        largest[0] = max(largest[0], abs(guess - outputs[j]))
    if largest[0] == 0.0:
        return
    slope = 1.0 if guess > y else -1.0 if guess < y else 0.0
    total = 0.0
    for j in range(weights.shape[0]):
        better = slope * ((guess - outputs[j]) / largest[0])
        regrets[j] = keep * regrets[j] + better
        squares[j] = keep * squares[j] + better * better
        weights[j] = max(regrets[j], 0.0) / (1.0 + squares[j])
        total += weights[j]
    for j in range(weights.shape[0]):
        weights[j] = weights[j] / total if total > 0.0 else 1.0 / weights.shape[0]
