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
from online.model.aggregation.weights_state import REGRETS, SQUARES, WEIGHTS

__all__ = ["learn_poly"]

# Kernel, as it is one step of the label's kernel in update.py; O(k).
#   poly: (3, k) float64, rows WEIGHTS (convex), REGRETS and SQUARES (sums)
#   largest: (3,) float64, the largest disagreement of each ML-Poly, in target units; `which` is this one's


@kernel
def learn_poly(  # noqa: PLR0913 - a kernel takes each array
    poly: Array, largest: Array, which: int, outputs: Array, y: float, retention: float
) -> None:
    """Move an ML-Poly on by a target.

    Parameters
    ----------
    poly, largest, which
        Weights with what they are learned from, (3, k), written; largest disagreements, and whose is this
        one's.
    outputs
        The outputs that are combined, (k,), finite, in target units.
    y
        The target.
    retention
        In (0, 1]: what is left of regrets and squares when a label comes.
    """
    size = poly.shape[1]
    guess = 0.0
    for j in range(size):
        guess += poly[WEIGHTS, j] * outputs[j]
    for j in range(size):
        largest[which] = max(largest[which], abs(guess - outputs[j]))
    if largest[which] == 0.0:
        return
    slope = 1.0 if guess > y else -1.0 if guess < y else 0.0
    total = 0.0
    for j in range(size):
        regret = slope * ((guess - outputs[j]) / largest[which])
        poly[REGRETS, j] = retention * poly[REGRETS, j] + regret
        poly[SQUARES, j] = retention * poly[SQUARES, j] + regret * regret
        poly[WEIGHTS, j] = max(poly[REGRETS, j], 0.0) / (1.0 + poly[SQUARES, j])
        total += poly[WEIGHTS, j]
    for j in range(size):
        poly[WEIGHTS, j] = poly[WEIGHTS, j] / total if total > 0.0 else 1.0 / size
