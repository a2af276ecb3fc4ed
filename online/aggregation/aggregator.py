"""The combination of experts that the pool predicts by."""

from __future__ import annotations

import numpy as np

from online.aggregation.best import BestOfLate
from online.aggregation.heads import Array, HeadHistory, Heads
from online.aggregation.poly import PolynomialWeights
from online.aggregation.stack import Stack

__all__ = ["Aggregator"]

LARGEST = 1e140  # in size: beyond it squares could overflow
MARGIN = 0.2  # how far beyond its experts a stack may go, in units of their disagreement
MEMORIES = (0.9999, 0.999, 0.997)  # of the stacks


class Aggregator:
    """Combine experts' outputs in several ways at once, and those by their regrets.

    The ways, or heads: ML-Poly weights for good and with fading, whoever was best of late, and three stacks
    with long and short memory, held to the experts' hull and a margin. ML-Poly over the heads gives each its
    share. Everything is learned from outputs as they were served, a head being judged as it was then.

    Parameters
    ----------
    experts
        How many there are.

    Examples
    --------
    >>> import numpy as np
    >>> from online.aggregation.aggregator import Aggregator
    >>> aggregator = Aggregator(2)
    >>> for n in range(500):
    ...     truth = np.sin(n)
    ...     aggregator.learn(np.array([truth, 7.0]), truth)
    >>> round(aggregator.combine(np.array([0.5, 7.0])), 2)
    0.5
    """

    def __init__(self, experts: int) -> None:
        self.experts = experts
        self._long = PolynomialWeights(experts)
        self._short = PolynomialWeights(experts, keep=0.9995)
        self._best = BestOfLate(experts)
        self._stacks = [Stack(experts, keep) for keep in MEMORIES]
        self._over = PolynomialWeights(3 + len(MEMORIES))
        self._history = HeadHistory()
        self._gained = np.zeros(experts)  # absolute error of the combination less the expert's
        self._rows = 0
        self._now = self._heads()

    def learn(self, outputs: Array, y: float, age: int = 0) -> None:
        """Take in one target.

        Parameters
        ----------
        outputs
            The experts' outputs as served, (k,), NaN where an expert had none, in target units.
        y
            The target, finite.
        age
            How many labels were taken in between the serving and now.
        """
        there = np.isfinite(outputs)
        if not there.any():
            return
        y = min(max(y, -LARGEST), LARGEST)
        outputs = self._complete(np.clip(outputs, -LARGEST, LARGEST), there)
        served = self._history.ago(age, self._now)
        made = served.outputs(outputs)
        self._rows += 1
        error = abs(float(self._over.weights @ made) - y)
        self._gained += (error - np.abs(outputs - y) - self._gained) / self._rows
        self._over.learn(made, y)
        for part in (self._long, self._short, self._best):
            part.learn(outputs, y)
        for stack in self._stacks:
            stack.learn(outputs, served.weights[0], y)
        self._now = self._heads()
        self._history.keep(self._now)

    def _complete(self, outputs: Array, there: Array) -> Array:
        """Outputs with the others' mean in the place of those that are missing, so that nothing is learned of
        them."""
        if there.all():
            return outputs
        shares = np.where(there, self._long.weights, 0.0)
        shares = shares if shares.sum() > 0.0 else there.astype(float)
        known = np.where(there, outputs, 0.0)
        return np.where(there, outputs, known @ shares / shares.sum())

    def _heads(self) -> Heads:
        convex = [self._long.weights.copy(), self._short.weights.copy(), self._best.weights]
        lines = [stack.line(self._long.weights) for stack in self._stacks]
        none = [0.0] * len(convex)
        return Heads(
            np.array(convex + [weights for _, weights in lines]),
            np.array(none + [bias for bias, _ in lines]),
            np.array(none + [MARGIN * stack.unit for stack in self._stacks]),
            self._over.weights.copy(),
        )

    def weights(self) -> Array:
        """Each expert's weight in the combination, (k,), summing to one; a stack's may be below zero."""
        return self._now.share @ self._now.weights

    def regrets(self) -> Array:
        """How much better each expert would have been, (k,), mean absolute error a row, in target units."""
        return self._gained.copy()

    def heads(self) -> Heads:
        """How outputs are combined now."""
        return self._now

    def combine(self, outputs: Array) -> float:
        """The prediction for outputs (k,), all finite, in target units."""
        return self._now.combine(outputs)
