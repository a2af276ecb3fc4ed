"""The combination of experts that the pool predicts by."""

from __future__ import annotations

from typing import Any

import numpy as np

from online.model.aggregation.heads import Array, Heads
from online.model.aggregation.update import combine_at, learn_at
from online.model.aggregation.weights_state import WeightsState

__all__ = ["Aggregator"]


class Aggregator:
    """Combine experts' outputs in several ways at once, and those by their regrets.

    The ways, or heads: ML-Poly weights for good and with fading, whoever was best of late, and three stacks
    with long and short memory, clipped to the experts' hull and a margin. ML-Poly over the heads gives each
    its share. Everything is learned from outputs as they were served, a head being judged as it was then.

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
        self._state = WeightsState(experts)

    def learn(self, outputs: Array, y: float, age: int = 0) -> None:
        """Learn from one target.

        Parameters
        ----------
        outputs
            The experts' outputs as served, (k,), NaN where an expert had none, in target units.
        y
            The target, finite.
        age
            How many labels were learned between the serving and now.
        """
        outputs = np.ascontiguousarray(outputs, np.float64)  # the kernel takes an address
        learn_at(self._state.address, outputs.ctypes.data, float(y), age)

    def weights(self) -> Array:
        """Each expert's weight in the combination, (k,), summing to one; a stack's may be below zero."""
        heads = self._state.heads()
        return heads.share @ heads.weights

    def sizes(self) -> Array:
        """The size of each expert's weight, (k,), summing to one; to be read at once, not kept."""
        return self._state.arrays["sizes"]

    def heads(self) -> Heads:
        """How outputs are combined now."""
        return Heads(*(part.copy() for part in self._state.heads()))

    def combine(self, outputs: Array) -> float:
        """The prediction for outputs (k,), all finite, in target units."""
        outputs = np.ascontiguousarray(outputs, np.float64)
        return float(combine_at(self._state.address, outputs.ctypes.data))

    def __getstate__(self) -> dict[str, Any]:
        return {"experts": self.experts, "arrays": self._state.arrays}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.experts = state["experts"]
        arrays = state.get("arrays")
        if arrays is None:  # format 1 had all numbers in one array, and where each part began
            from online.model.aggregation.flat_weights import from_flat

            arrays = from_flat(state["_numbers"], state["_places"], self.experts)
        self._state = WeightsState(self.experts, arrays)
