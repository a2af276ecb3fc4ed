"""Linear regression by recursive least squares that neither winds up nor blows up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from river import base

from online.core.clip import clip_in_kernel
from online.core.jit import njit_cached
from online.features.matrix import LARGEST_FLOAT, values_getter, write_row

__all__ = ["RecursiveLeastSquares"]

Array = npt.NDArray[np.float64]

LARGEST_INVERSE = 1e12  # beyond it the arithmetic on the inverse information is no longer to be trusted


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
        Features are clipped to plus and minus this many deviations when a row is learned.

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

    Features not seen before join with a weight of zero; those missing from a row count as zero. A row or
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
        self._places: dict[str, int] = {}  # column by feature, from 1
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
        return {name: float(self._weights[column]) for name, column in self._places.items()}

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
        return float(predict_row(self._row(x), self._weights))

    def learn_one(self, x: Mapping[str, float], y: float) -> None:
        """Learn one row.

        Parameters
        ----------
        x
            Feature values by name.
        y
            The target.
        """
        row = self._complete_row(x)
        if row is None:
            self._add_features(x)
            row = self._row(x)
        settings = (self.forgetting, self.ridge, self.limit)
        turn = self.n_learned % len(row)
        if learn_row(self._inverse, self._weights, row, float(y), settings, turn):
            self.n_learned += 1

    def learn_predict_many(
        self, names: tuple[str, ...], rows: Array, targets: Sequence[float]
    ) -> list[float] | None:
        """Learn and predict rows in order, to the last bit as one by one.

        Parameters
        ----------
        names
            The features, in the order of their names.
        rows
            Their values, (n, features), C-contiguous.
        targets
            The targets, (n,), NaN for rows to predict.

        Returns
        -------
        list or None
            The predictions for those; None, and nothing was done, when these are not just the features known.
        """
        if names != tuple(self._places):
            return None
        settings = (self.forgetting, self.ridge, self.limit)
        outputs = np.array(targets, dtype=float)
        predict_only = np.isnan(outputs)
        count = learn_predict_rows(self._inverse, self._weights, rows, outputs, settings, self.n_learned)
        self.n_learned = int(count)
        predictions: list[float] = outputs[predict_only].tolist()
        return predictions

    def _row(self, x: Mapping[str, float]) -> Array:
        """Any row; features not known are left out, and those it lacks are zero."""
        row = self._complete_row(x)
        if row is not None:
            return row
        row = np.zeros(len(self._weights))
        row[0] = 1.0
        for name, value in x.items():
            column = self._places.get(name)
            if column is not None:
                row[column] = value
        return row

    def _complete_row(self, x: Mapping[str, float]) -> Array | None:
        """A row that has just the known features; None for any other."""
        row = np.empty(len(self._weights))
        row[0] = 1.0
        return row if write_row(self._all, row, x, 1) else None

    def _add_features(self, x: Mapping[str, float]) -> None:
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


# Kernels: recursive least squares [1] with Gunnarsson's ridge [2], d features and an always-one before them.
# For a row x with target y, error e = y - w.x and forgetting l:
#   k = P x / (l + x.P x);   w += k e;   P = (P - k (x P)) / l
# and then an observation of weight zero for one feature i in turn, worth a = ridge (1 - l) (d + 1) rows:
#   k = P[:, i] / (1/a + P[i, i]);   w -= k w[i];   P -= k P[i]
# The loops over P run in place: as NumPy expressions each would allocate a matrix.
#   inverse: (d + 1, d + 1) float64, P; weights: (d + 1,) float64, w, the intercept first;
#   row: (d + 1,) float64, the first 1; settings: forgetting, ridge, clip limit.


@njit_cached
def predict_row(row: Array, weights: Array) -> float:
    """The linear prediction, clipped to finite numbers; the intercept where it has no value."""
    total = 0.0
    for j in range(len(row)):
        total += row[j] * weights[j]
    return weights[0] if np.isnan(total) else clip_in_kernel(total, -LARGEST_FLOAT, LARGEST_FLOAT)


@njit_cached
def learn_row(  # noqa: PLR0913 - a kernel takes each array
    inverse: Array, weights: Array, row: Array, y: float, settings: tuple[float, float, float], turn: int
) -> bool:
    """Learn one row in place; False, and nothing changed, when it is not finite or that would overflow."""
    forgetting, ridge, limit = settings
    if not np.isfinite(y):
        return False
    for j in range(len(row)):
        if not np.isfinite(row[j]):
            return False
        row[j] = clip_in_kernel(row[j], -limit, limit)
    error = y - row @ weights
    gain = inverse @ row
    gain /= forgetting + row @ gain
    step = gain * error
    if not np.isfinite((weights + step).sum()):
        return False
    projected = row @ inverse
    weights += step
    size = len(row)
    for i in range(size):
        for j in range(size):
            updated = (inverse[i, j] - gain[i] * projected[j]) / forgetting
            inverse[i, j] = clip_in_kernel(updated, -LARGEST_INVERSE, LARGEST_INVERSE)
    if turn and forgetting < 1.0:
        add_ridge(inverse, weights, turn, ridge * (1.0 - forgetting) * size)
    return True


@njit_cached
def learn_predict_rows(  # noqa: PLR0913 - a kernel takes each array
    inverse: Array,
    weights: Array,
    rows: Array,
    targets: Array,
    settings: tuple[float, float, float],
    count: int,
) -> int:
    """Learn rows (n, features) in place, ``count`` having been learned before; how many have now.

    A row whose target is NaN is predicted, and the prediction takes the target's place.
    """
    row = np.empty(len(weights))
    for i in range(len(rows)):
        row[0] = 1.0
        row[1:] = rows[i]
        if np.isnan(targets[i]):
            targets[i] = predict_row(row, weights)
        elif learn_row(inverse, weights, row, targets[i], settings, count % len(row)):
            count += 1
    return count


@njit_cached
def add_ridge(inverse: Array, weights: Array, turn: int, amount: float) -> None:
    """Observe a weight of zero for feature ``turn``, as an observation worth ``amount`` rows."""
    gain = inverse[:, turn] / (1.0 / amount + inverse[turn, turn])
    projected = inverse[turn].copy()
    weights -= gain * weights[turn]
    for i in range(len(weights)):
        for j in range(len(weights)):
            inverse[i, j] -= gain[i] * projected[j]
