"""Linear regression by recursive least squares that neither winds up nor blows up."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from river import base

from online.core.jit import njit_cached
from online.features.matrix import values_getter, write_row

__all__ = ["RecursiveLeastSquares"]

Array = npt.NDArray[np.float64]

HUGE = sys.float_info.max
LARGEST = 1e12  # of the inverse information: beyond it the arithmetic is no longer to be trusted


class RecursiveLeastSquares(base.Regressor):
    """Linear regression by recursive least squares with forgetting and a ridge that does not fade.

    It minimises the squared errors of all rows, each weighted `forgetting` to the power of its age [1]_, plus
    `ridge` times the squared weights. Features are expected to be standardised.

    Parameters
    ----------
    forgetting
        Weight a row keeps from one row to the next, in (0, 1]. `1 / (1 - forgetting)` rows are remembered.
    ridge
        Weight of the squared weights against the squared errors, in rows (standardised features), positive.
    limit
        Features are pulled into plus and minus this many deviations when a row is learned.

    Attributes
    ----------
    n_learned : int
        Rows learned.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Notes
    -----
    Plain forgetting lets the inverse information grow without bound along directions that rows no longer
    excite ("wind-up") and the next excitation throws the weights far off. Here every row also adds the
    missing ridge to one feature in turn, as one more observation of a weight of zero, so that in the mean
    over all features `ridge` stays in the information matrix. It costs one more update of rank one [2]_.

    Features not met before join with a weight of zero; those missing from a row count as zero. A row or
    target that is not finite, or would make the state so, is skipped.

    References
    ----------
    .. [1] Haykin, S., 2002. Adaptive Filter Theory, 4th ed., chapter 9.
    .. [2] Gunnarsson, S., 1996. Combining tracking and regularization in recursive least squares
       identification. CDC, 2551-2552.

    Examples
    --------
    >>> import random
    >>> from online.model.experts.rls import RecursiveLeastSquares
    >>> rng = random.Random(7)
    >>> model = RecursiveLeastSquares(forgetting=0.99, ridge=1e-6)
    >>> for _ in range(200):
    ...     x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)}
    ...     model.learn_one(x, 3 * x["a"] - x["b"] + 5)
    >>> round(model.predict_one({"a": 1.0, "b": 2.0}), 6)
    6.0
    """

    def __init__(self, forgetting: float = 0.999, ridge: float = 1.0, limit: float = 10.0) -> None:
        if not 0.0 < forgetting <= 1.0:
            raise ValueError(f"forgetting must be in (0, 1], not {forgetting!r}")
        for name, value in (("ridge", ridge), ("limit", limit)):
            if not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, not {value!r}")
        self.forgetting = forgetting
        self.ridge = ridge
        self.limit = limit
        self.n_learned = 0
        self._places: dict[str, int] = {}
        self._all: Callable[[Mapping[str, float]], Any] | None = None  # the values of a whole row, in order
        self._weights: Array = np.zeros(1)  # the intercept first
        self._inverse: Array = np.full((1, 1), 1.0 / ridge)

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {}
        yield {"forgetting": 0.9, "ridge": 0.01}

    @property
    def weights(self) -> dict[str, float]:
        """One weight a feature, in target units per feature unit."""
        return {name: float(self._weights[place]) for name, place in self._places.items()}

    @property
    def intercept(self) -> float:
        """The prediction of a row of zeros, in target units."""
        return float(self._weights[0])

    def predict_one(self, x: Mapping[str, float]) -> float:
        """Return the linear prediction for one row, in target units; always finite.

        Parameters
        ----------
        x
            Feature values by name.
        """
        return float(answer(self._row(x), self._weights))

    def learn_one(self, x: Mapping[str, float], y: float) -> None:
        """Learn one row.

        Parameters
        ----------
        x
            Feature values by name.
        y
            The target.
        """
        row = self._whole(x)
        if row is None:
            self._meet(x)
            row = self._row(x)
        settings = (self.forgetting, self.ridge, self.limit)
        turn = self.n_learned % len(row)
        if learned(self._inverse, self._weights, row, float(y), settings, turn):
            self.n_learned += 1

    def follow_lines(
        self, names: tuple[str, ...], lines: Array, targets: Sequence[float]
    ) -> list[float] | None:
        """As :meth:`online.model.micro_batch.LineExpert.follow_lines`."""
        if names != tuple(self._places):
            return None
        settings = (self.forgetting, self.ridge, self.limit)
        outputs = np.array(targets, dtype=float)
        asked = np.isnan(outputs)
        self.n_learned = int(followed(self._inverse, self._weights, lines, outputs, settings, self.n_learned))
        answers: list[float] = outputs[asked].tolist()
        return answers

    def _row(self, x: Mapping[str, float]) -> Array:
        """Any row; features not met are left out, and those it lacks are zero."""
        row = self._whole(x)
        if row is not None:
            return row
        row = np.zeros(len(self._weights))
        row[0] = 1.0
        for name, value in x.items():
            place = self._places.get(name)
            if place is not None:
                row[place] = value
        return row

    def _whole(self, x: Mapping[str, float]) -> Array | None:
        """A row that has just the features met; None for any other."""
        row = np.empty(len(self._weights))
        row[0] = 1.0
        return row if write_row(self._all, row, x, 1) else None

    def _meet(self, x: Mapping[str, float]) -> None:
        """Make room for features not seen before, whatever order the row has them in."""
        new = sorted((name for name in x if name not in self._places), key=str)
        if not new:
            return
        for name in new:
            self._places[name] = len(self._places) + 1
        self._all = values_getter(tuple(self._places))
        known, size = len(self._weights), len(self._places) + 1
        inverse = np.eye(size) / self.ridge
        inverse[:known, :known] = self._inverse
        self._weights = np.concatenate((self._weights, np.zeros(size - known)))
        self._inverse = inverse


@njit_cached
def answer(row: Array, weights: Array) -> float:
    """Their scalar product, held to finite numbers; the intercept where it has no value."""
    total = 0.0
    for j in range(len(row)):
        total += row[j] * weights[j]
    return weights[0] if np.isnan(total) else min(max(total, -HUGE), HUGE)


@njit_cached
def learned(
    inverse: Array, weights: Array, row: Array, y: float, settings: tuple[float, float, float], turn: int
) -> bool:
    """Learn one row in place; False, and nothing changed, when it is not finite or that would overflow."""
    keep, ridge, limit = settings
    if not np.isfinite(y):
        return False
    for j in range(len(row)):
        if not np.isfinite(row[j]):
            return False
        row[j] = min(max(row[j], -limit), limit)
    error = y - row @ weights
    gain = inverse @ row
    gain /= keep + row @ gain
    step = gain * error
    if not np.isfinite((weights + step).sum()):
        return False
    seen = row @ inverse
    weights += step
    size = len(row)
    for a in range(size):
        for b in range(size):
            inverse[a, b] = min(max((inverse[a, b] - gain[a] * seen[b]) / keep, -LARGEST), LARGEST)
    if turn and keep < 1.0:
        add_ridge(inverse, weights, turn, ridge * (1.0 - keep) * size)
    return True


@njit_cached
def followed(
    inverse: Array, weights: Array, lines: Array, targets: Array, settings: tuple[float, float, float],
    count: int,
) -> int:  # fmt: skip
    """Learn lines (n, features) in place, ``count`` rows having been learned before; how many have now.

    The answer takes the place of a target that is NaN.
    """
    row = np.empty(len(weights))
    for i in range(len(lines)):
        row[0] = 1.0
        row[1:] = lines[i]
        if np.isnan(targets[i]):
            targets[i] = answer(row, weights)
        elif learned(inverse, weights, row, targets[i], settings, count % len(row)):
            count += 1
    return count


@njit
def add_ridge(inverse: Array, weights: Array, turn: int, amount: float) -> None:
    """Observe a weight of zero for one feature, with a weight of ``amount`` rows."""
    gain = inverse[:, turn] / (1.0 / amount + inverse[turn, turn])
    seen = inverse[turn].copy()
    weights -= gain * weights[turn]
    for a in range(len(weights)):
        for b in range(len(weights)):
            inverse[a, b] -= gain[a] * seen[b]
