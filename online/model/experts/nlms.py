"""Linear regression whose step is divided by the size of the row it learns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from river import base

from online.core.clip import clip
from online.features.matrix import LARGEST_FLOAT

__all__ = ["NormalizedLMS"]


class NormalizedLMS(base.Regressor):
    """Linear regression by normalised least mean squares (NLMS).

    For a row `x` with an always-one feature for the intercept, and the error `e = y - weights . x`, the
    update is [1]_ [2]_::

        weights += step * e * x / (eps + |x|^2)

    One update takes away at most the share `step` of the row's own error, whatever the size of the
    features. So a huge or stuck feature cannot make the weights diverge, as it does with a fixed learning
    rate. It can be used alone or as the `leaf_model` of River's Hoeffding trees.

    Parameters
    ----------
    step
        Share of a row's error that one update takes away (no unit), in (0, 1].
    eps
        Added to the squared length of the row (its unit), positive. Larger is steadier on short rows.

    Attributes
    ----------
    weights : dict[str, float]
        One weight a feature seen so far, in target units per feature unit.
    intercept : float
        The prediction of a row of zeros, in target units.

    Raises
    ------
    ValueError
        If `step` or `eps` is out of range.

    Notes
    -----
    Features are numbers. One that is missing from a row counts as zero and keeps its weight.

    Learning and predicting never raise on size, and the state stays finite. If the plain formulas overflow,
    the same update is computed on the row divided by its largest feature. If that overflows too, or if the
    row or its target holds NaN or infinity, the row is skipped. A prediction too large for a float is
    returned as the largest float of its sign; one of a row with NaN as the intercept.

    A target outlier moves the prediction by `step` times its error and is then forgotten geometrically: the
    update does not judge whether a label is plausible.

    References
    ----------
    .. [1] Nagumo, J., Noda, A., 1967. A learning method for system identification. IEEE Transactions on
       Automatic Control 12(3), 282-287.
    .. [2] Haykin, S., 2002. Adaptive Filter Theory, 4th ed., chapter 6, equation for the regularised
       normalised LMS filter.

    Examples
    --------
    >>> import random
    >>> from online.model.experts.nlms import NormalizedLMS
    >>> rng = random.Random(7)
    >>> model = NormalizedLMS(step=0.2)
    >>> for _ in range(2000):
    ...     x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)}
    ...     model.learn_one(x, 3 * x["a"] - x["b"] + 5)
    >>> round(model.predict_one({"a": 1.0, "b": 2.0}), 6)
    6.0
    """

    def __init__(self, step: float = 0.05, eps: float = 1.0) -> None:
        if not 0.0 < step <= 1.0:
            raise ValueError(f"step must be in (0, 1], not {step!r}")
        if not 0.0 < eps < math.inf:
            raise ValueError(f"eps must be positive and finite, not {eps!r}")
        self.step = step
        self.eps = eps
        self.weights: dict[str, float] = {}
        self.intercept = 0.0

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {}
        yield {"step": 0.5, "eps": 0.01}

    def predict_one(self, x: dict[str, float]) -> float:
        """Return the linear prediction for one row, in target units; always finite.

        Parameters
        ----------
        x
            Feature values by name.
        """
        total = self.intercept
        weight = self.weights.get
        for name, value in x.items():
            total += weight(name, 0.0) * value
        if -LARGEST_FLOAT <= total <= LARGEST_FLOAT:
            return total
        return self._predict_scaled(x)

    def learn_one(self, x: dict[str, float], y: float, w: float = 1.0) -> None:
        """Learn one row.

        Parameters
        ----------
        x
            Feature values by name.
        y
            The target.
        w
            Sample weight: counts as `w` repeats, by the effective step `1 - (1 - step) ** w`. Zero or less
            learns nothing.
        """
        total = self.intercept
        length = self.eps + 1.0
        weights = self.weights
        for name, value in x.items():
            total += weights.get(name, 0.0) * value
            length += value * value
        step = self._effective_step(w)
        gain = step * ((y - total) / length)
        if not (-LARGEST_FLOAT <= gain <= LARGEST_FLOAT and length <= LARGEST_FLOAT):
            self._learn_scaled(x, y, step)
        else:
            self._apply(x, gain, gain)

    def _effective_step(self, w: float) -> float:
        if w == 1.0:
            return self.step
        return 1.0 - (1.0 - self.step) ** w if w > 0.0 else 0.0

    def _apply(self, x: dict[str, float], gain: float, intercept_gain: float) -> None:
        """Add `gain * x` to the weights; a weight that would overflow keeps its value."""
        weights = self.weights
        for name, value in x.items():
            updated = weights.get(name, 0.0) + gain * value
            if -LARGEST_FLOAT <= updated <= LARGEST_FLOAT:
                weights[name] = updated
        updated = self.intercept + intercept_gain
        if -LARGEST_FLOAT <= updated <= LARGEST_FLOAT:
            self.intercept = updated

    def _scaled(self, x: dict[str, float]) -> tuple[dict[str, float], float, float]:
        """Return the row divided by its largest feature, that feature's size, and the scaled prediction."""
        size = max(1.0, *(abs(value) for value in x.values())) if x else 1.0
        unit = {name: value / size for name, value in x.items()}
        terms = [self.weights.get(name, 0.0) * value for name, value in unit.items()]
        return unit, size, sum(terms, self.intercept / size)

    def _learn_scaled(self, x: dict[str, float], y: float, step: float) -> None:
        if not math.isfinite(y) or not all(math.isfinite(value) for value in x.values()):
            return
        unit, size, total = self._scaled(x)
        length = (self.eps + 1.0) / size / size + sum(value * value for value in unit.values())
        gain = step * ((y / size - total) / length)
        if math.isfinite(gain):
            self._apply(unit, gain, gain / size)

    def _predict_scaled(self, x: dict[str, float]) -> float:
        _, size, total = self._scaled(x)
        if math.isnan(total):
            return self.intercept
        return clip(total * size, -LARGEST_FLOAT, LARGEST_FLOAT)
