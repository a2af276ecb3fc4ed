"""Weights that follow the expert that was best of late."""

from __future__ import annotations

import numpy as np

from online.aggregation.heads import Array

__all__ = ["BestOfLate"]


class BestOfLate:
    """Convex weights by a high negative power of each expert's faded absolute error.

    Experts hardly worse than the best share its weight; all others have next to none. Fading makes it follow
    when another becomes the best, as a fixed share does for exponential weights [1]_.

    Parameters
    ----------
    size
        How many there are to weight.
    keep
        What is left of the errors when a label comes, in (0, 1).
    power
        Of the inverse error, positive.

    Attributes
    ----------
    weights : array
        On the simplex, (size,).

    References
    ----------
    .. [1] Herbster, M., Warmuth, M. K., 1998. Tracking the best expert. Machine Learning 32, 151-178.

    Examples
    --------
    >>> import numpy as np
    >>> from online.aggregation.best import BestOfLate
    >>> best = BestOfLate(2)
    >>> for truth in (1.0, 2.0, 3.0):
    ...     best.learn(np.array([truth + 0.1, truth + 0.2]), truth)
    >>> best.weights.round(3).tolist()
    [1.0, 0.0]
    """

    def __init__(self, size: int, keep: float = 0.999, power: float = 20.0) -> None:
        self.keep = keep
        self.power = power
        self.weights: Array = np.full(size, 1.0 / size)
        self._errors: Array = np.zeros(size)

    def learn(self, outputs: Array, y: float) -> None:
        """Take in the target of outputs (size,), all finite."""
        self._errors = self.keep * self._errors + np.abs(outputs - y)
        least = self._errors.min()
        perfect = (self._errors == 0.0).astype(float)
        merit = (least / self._errors) ** self.power if least > 0.0 else perfect
        self.weights = merit / merit.sum()
