"""Learning online how to combine the outputs of several experts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Aggregator", "Array", "Heads"]

Array = npt.NDArray[np.float64]

LARGEST = 1e150  # in size: beyond it differences could overflow


class Heads(NamedTuple):
    """Ways to combine experts' outputs, and their shares in the prediction.

    With the outputs ``o`` (k,), the prediction is the sum over heads ``q`` of ``share[q]`` times
    ``bias[q] + weights[q] . o``, which is first put between the lowest output minus ``margin[q]`` and the
    highest plus ``margin[q]``.
    """

    weights: Array  # (heads, k)
    bias: Array  # (heads,), target units
    margin: Array  # (heads,), target units, not below zero
    share: Array  # (heads,), on the simplex

    def combine(self, outputs: Array) -> float:
        """The prediction for experts' outputs (k,), in target units."""
        lines = self.bias + self.weights @ outputs
        held = np.clip(lines, outputs.min() - self.margin, outputs.max() + self.margin)
        return float(self.share @ held)


class Aggregator:
    """Combine experts' outputs by ML-Poly, from outputs as they were served.

    Each expert's weight goes by its regret so far, the positive part of how much better it would have been
    than the combination, over one plus the regrets' squares [1]_. Regrets are of the linearised squared error
    in units of the target's spread.

    Parameters
    ----------
    experts
        How many there are.

    References
    ----------
    .. [1] Gaillard, P., Stoltz, G., van Erven, T., 2014. A second-order bound with excess losses. COLT,
       176-196, figure 1.

    Examples
    --------
    >>> import numpy as np
    >>> from online.aggregation import Aggregator
    >>> aggregator = Aggregator(2)
    >>> for truth in (1.0, 2.0, 3.0):
    ...     aggregator.learn(np.array([truth, 7.0]), truth)
    >>> aggregator.weights().tolist()
    [1.0, 0.0]
    """

    def __init__(self, experts: int) -> None:
        self.experts = experts
        self._regret = np.zeros(experts)
        self._squares = np.zeros(experts)
        self._gained = np.zeros(experts)  # absolute error of the combination minus the expert's
        self._rows = 0
        self._scale = 0.0

    def learn(self, outputs: Array, y: float) -> None:
        """Take in one target.

        Parameters
        ----------
        outputs
            The experts' outputs as served, (k,), NaN where an expert had none, in target units.
        y
            The target, finite.
        """
        weights = self.weights()
        there = np.isfinite(outputs)
        outputs, y = np.clip(outputs, -LARGEST, LARGEST), min(max(y, -LARGEST), LARGEST)
        if not there.any():
            return
        shares = np.where(there, weights, 0.0)
        shares = shares / shares.sum() if shares.sum() > 0.0 else there / there.sum()
        guess = float(np.where(there, outputs, 0.0) @ shares)
        errors = np.where(there, outputs, guess) - y
        self._rows += 1
        self._gained += (abs(guess - y) - np.abs(errors) - self._gained) / self._rows
        self._scale = max(self._scale, float(np.abs(errors).max()))
        if self._scale > 0.0:
            better = 2.0 * ((guess - y) / self._scale) * ((guess - y - errors) / self._scale)
            self._regret += better
            self._squares += better * better

    def weights(self) -> Array:
        """Each expert's share, (k,), summing to one."""
        merit = np.maximum(self._regret, 0.0) / (1.0 + self._squares)
        total = merit.sum()
        return merit / total if total > 0.0 else np.full(self.experts, 1.0 / self.experts)

    def regrets(self) -> Array:
        """How much better each expert would have been, (k,), mean absolute error a row, in target units."""
        return self._gained.copy()

    def heads(self) -> Heads:
        """How outputs are combined now."""
        return Heads(self.weights()[None, :], np.zeros(1), np.zeros(1), np.ones(1))

    def combine(self, outputs: Array) -> float:
        """The prediction for outputs (k,), all finite, in target units."""
        return self.heads().combine(outputs)
