"""Standardising features: by all their values so far, or by recent ones most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from river import base

from online.core.clip import clip
from online.core.jit import njit_cached
from online.features.matrix import LARGEST_MEASUREMENT, FeatureIndex

__all__ = ["FadedScaler", "StandardScaler", "deviations_of"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TRUSTED_COUNT = 30  # values after which outliers are told from the rest
OUTLIER_DEVIATIONS = 30.0  # a value further out is clipped before it is learned


class StandardScaler(base.Transformer):
    """Scale features by their mean and standard deviation: River's `StandardScaler`, a whole row at a time.

    Means and variances are River's to the last bit [1]_; a row takes a tenth of the time.

    Attributes
    ----------
    counts, means, vars : dict
        Values seen, mean and variance by feature, as in River's `StandardScaler`.

    Notes
    -----
    A value that is None or NaN is not learned. One that is missing, like a feature that never varied, is
    scaled to 0.0.

    References
    ----------
    .. [1] Welford, B. P., 1962. Note on a method for calculating corrected sums of squares and products.
       Technometrics 4(3), 419-420.

    Examples
    --------
    >>> from online.model.scaling import StandardScaler
    >>> scaler = StandardScaler()
    >>> for value in (1, 2, 3):
    ...     scaler.learn_one({"a": value, "b": 7})
    >>> scaler.transform_one({"a": 2, "b": 8})
    {'a': 0.0, 'b': 0.0}
    """

    def __init__(self) -> None:
        self._rows = FeatureIndex()
        self._seen = np.zeros((3, 0))  # counts, means, variances

    @property
    def counts(self) -> dict[str, float]:
        """Values seen by feature."""
        return self._by_name(0)

    @property
    def means(self) -> dict[str, float]:
        """Mean by feature."""
        return self._by_name(1)

    @property
    def vars(self) -> dict[str, float]:
        """Variance by feature."""
        return self._by_name(2)

    def _by_name(self, statistic: int) -> dict[str, float]:
        return dict(zip(self._rows.names, self._seen[statistic].tolist(), strict=True))

    def learn_one(self, x: Mapping[str, Any]) -> None:
        """Learn a row.

        Parameters
        ----------
        x
            Numbers by feature name.
        """
        row, is_complete = self._rows.to_array(x)
        if not is_complete:
            features = self._rows.add(x)
            self._seen = np.pad(self._seen, ((0, 0), (0, features - self._seen.shape[1])))
            row, _ = self._rows.to_array(x)
        update_moments(self._seen, row)

    def transform_one(self, x: Mapping[str, Any]) -> dict[str, float]:
        """Return the row in deviations from the means.

        Parameters
        ----------
        x
            Numbers by feature name.

        Returns
        -------
        dict
            Scaled values by feature name, without unit.
        """
        row, is_complete = self._rows.to_array(x)
        standardise(self._seen, row)
        scaled = dict(zip(self._rows.names, row.tolist(), strict=True))
        return scaled if is_complete else {name: scaled.get(name, 0.0) for name in x}

    def learn_transform_many(
        self, names: tuple[str, ...], rows: Floats, transform_only: Sequence[bool]
    ) -> bool:
        """Learn rows and scale them in place, in order, to the last bit as one by one.

        Parameters
        ----------
        names
            The features.
        rows
            Their values, (n, features), C-contiguous.
        transform_only
            Which rows are scaled but not learned, (n,).

        Returns
        -------
        bool
            False, and nothing was done, when these are not just the features known, in their order.
        """
        if names != tuple(self._rows.names):
            return False
        learn_transform_rows(self._seen, rows, np.array(transform_only, dtype=bool))
        return True


# Kernels: Welford's mean and variance of each feature [1], written as River writes them so that they agree to
# the last bit; one call for a row or a batch in place of one a feature.
#   count += 1
#   mean  += (x - mean_before) / count
#   var   += ((x - mean_before) * (x - mean) - var) / count
#   stats: (3, n) float64, counts, means and variances; row: (n,) float64, NaN where a value is missing.


@njit_cached
def update_moments(stats: Floats, row: Floats) -> None:
    """Learn a row (n,) into counts, means and variances (3, n); NaN is left out."""
    for j in range(len(row)):
        value = row[j]
        if value == value:
            before = stats[1, j]
            stats[0, j] += 1.0
            stats[1, j] += (value - before) / stats[0, j]
            stats[2, j] += ((value - before) * (value - stats[1, j]) - stats[2, j]) / stats[0, j]


@njit_cached
def standardise(stats: Floats, row: Floats) -> None:
    """Scale a row (n,) in place; NaN, and what never varied, is 0."""
    for j in range(len(row)):
        is_known = stats[2, j] > 0.0 and row[j] == row[j]
        row[j] = (row[j] - stats[1, j]) / np.sqrt(stats[2, j]) if is_known else 0.0


@njit_cached
def learn_transform_rows(stats: Floats, rows: Floats, transform_only: Bools) -> None:
    """Learn rows (n, features), but for those to scale only, and scale each in place."""
    for i in range(len(rows)):
        if not transform_only[i]:
            update_moments(stats, rows[i])
        standardise(stats, rows[i])


def deviations_of(scaler: Any) -> dict[str, float]:
    """By what a scaler, River's own too, divides each feature, to the last bit; 0.0 where it never varied."""
    root = math.sqrt if isinstance(scaler, StandardScaler) else power
    return {name: root(variance) for name, variance in scaler.vars.items()}


def power(variance: float) -> float:
    """A square root as Python's power gives it: the last bit decides on which side of a split a row falls."""
    return float(variance**0.5)


class FadedScaler(base.Transformer):
    """Scale features by their faded mean and standard deviation.

    River's `StandardScaler` weighs all rows alike, so after a million of them it follows a feature that moved
    no more. Here a row's weight fades [1]_. The first rows are averaged plainly, so nothing leans on where
    the stream began, and one outlier moves a feature by thirty deviations at most.

    Parameters
    ----------
    memory
        Rows over which weights fade to 1/e, at least 2. A million is practically River's `StandardScaler`.

    Attributes
    ----------
    counts, means, vars : dict
        Values seen, faded mean and faded variance by feature, named as in River's `StandardScaler`.

    Raises
    ------
    ValueError
        If `memory` is less than 2.

    Notes
    -----
    A feature that stands still for many times `memory` rows is scaled by next to nothing, and is far out once
    it moves: choose a memory longer than features stand still, and River's scaler where none wanders off.

    A value that is no finite number, or beyond 1e30, is not learned and is scaled to 0.0, as are features
    that never varied.

    References
    ----------
    .. [1] Finch, T., 2009. Incremental calculation of weighted mean and variance. University of Cambridge
       Computing Service, section 9.

    Examples
    --------
    >>> from online.model.scaling import FadedScaler
    >>> scaler = FadedScaler(memory=10)
    >>> for i in range(1000):
    ...     scaler.learn_one({"a": i % 2 + (100 if i >= 500 else 0)})
    >>> {name: round(value, 1) for name, value in scaler.transform_one({"a": 101}).items()}
    {'a': 1.0}
    """

    def __init__(self, memory: float = 5000.0) -> None:
        if not memory >= 2.0:
            raise ValueError(f"memory must be at least 2, not {memory!r}")
        self.memory = memory
        self.counts: dict[str, int] = {}
        self.means: dict[str, float] = {}
        self.vars: dict[str, float] = {}

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"memory": 5000.0}
        yield {"memory": 2.0}

    def learn_one(self, x: Mapping[str, Any]) -> None:
        """Learn a row.

        Parameters
        ----------
        x
            Numbers by feature name.
        """
        for name, value in x.items():
            if is_measured(value):
                self._learn_value(name, float(value))

    def _learn_value(self, name: str, value: float) -> None:
        count = self.counts.get(name, 0)
        mean, variance = self.means.get(name, value), self.vars.get(name, 0.0)
        share = max(1.0 / self.memory, 1.0 / (count + 1.0))
        distance, limit = value - mean, OUTLIER_DEVIATIONS * math.sqrt(variance)
        if count >= TRUSTED_COUNT and limit > 0.0:
            distance = clip(distance, -limit, limit)
        self.counts[name] = count + 1
        self.means[name] = mean + share * distance
        self.vars[name] = (1.0 - share) * (variance + share * distance * distance)

    def transform_one(self, x: Mapping[str, Any]) -> dict[str, float]:
        """Return the row in deviations from the means.

        Parameters
        ----------
        x
            Numbers by feature name.

        Returns
        -------
        dict
            Scaled values by feature name, without unit.
        """
        scaled = {}
        for name, value in x.items():
            variance = self.vars.get(name, 0.0)
            known = variance > 0.0 and is_measured(value)
            scaled[name] = (value - self.means[name]) / variance**0.5 if known else 0.0
        return scaled


def is_measured(value: object) -> bool:
    """Whether a value is a number that a measurement can give."""
    return isinstance(value, (int, float)) and abs(value) <= LARGEST_MEASUREMENT
