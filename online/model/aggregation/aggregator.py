"""The combination of experts that the pool predicts by."""

from __future__ import annotations

from typing import Any

from online.model.aggregation.heads import Array, Heads
from online.model.aggregation.update import combine, learn
from online.model.aggregation.weights_state import fresh, heads_at, places

__all__ = ["Aggregator"]


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
    >>> from online.model.aggregation.aggregator import Aggregator
    >>> aggregator = Aggregator(2)
    >>> for n in range(500):
    ...     truth = np.sin(n)
    ...     aggregator.learn(np.array([truth, 7.0]), truth)
    >>> round(aggregator.combine(np.array([0.5, 7.0])), 2)
    0.5
    """

    def __init__(self, experts: int) -> None:
        self.experts = experts
        self._numbers = fresh(experts)
        self._places = places(experts)

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
        learn(self._numbers, self._places, outputs, y, age)

    def weights(self) -> Array:
        """Each expert's weight in the combination, (k,), summing to one; a stack's may be below zero."""
        heads = self._now()
        return heads.share @ heads.weights

    def sizes(self) -> Array:
        """The size of each expert's weight, (k,), summing to one."""
        sizes = self._places.sizes
        return self._numbers[sizes : sizes + self.experts]

    def regrets(self) -> Array:
        """How much better each expert would have been, (k,), mean absolute error a row, in target units."""
        gained = self._places.gained
        return self._numbers[gained : gained + self.experts].copy()

    def heads(self) -> Heads:
        """How outputs are combined now."""
        return Heads(*(part.copy() for part in self._now()))

    def combine(self, outputs: Array) -> float:
        """The prediction for outputs (k,), all finite, in target units."""
        return float(combine(self._numbers, self._places, outputs))

    def _now(self) -> Heads:
        return heads_at(self._numbers, self._places.now, self.experts)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._places != places(self.experts):
            raise ValueError("this aggregator was pickled by another version of Millrace")
