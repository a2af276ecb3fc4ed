"""Filling in what a row lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from river import base

from online.core.jit import njit_cached
from online.features.matrix import FeatureIndex

__all__ = ["FadedImputer"]

Floats = npt.NDArray[np.float64]


class FadedImputer(base.Transformer):
    """Fill missing values with the feature's exponentially weighted mean.

    It gives what River's `StatImputer` with an `EWMean` a feature gives, to the last bit, and learns a whole
    row at a time.

    Parameters
    ----------
    columns
        The features that may be missing; others pass as they are.
    fading
        Share of a new value in the mean, in (0, 1].

    Attributes
    ----------
    means : dict
        The mean by feature, 0.0 before any value.

    Raises
    ------
    ValueError
        If `fading` is out of range.

    Examples
    --------
    >>> from online.model.imputing import FadedImputer
    >>> imputer = FadedImputer(["a"], fading=0.5)
    >>> for value in (1, None, 3):
    ...     imputer.learn_one({"a": value})
    >>> imputer.transform_one({"a": None})
    {'a': 2.0}
    """

    def __init__(self, columns: Sequence[str], fading: float = 0.01) -> None:
        if not 0.0 < fading <= 1.0:
            raise ValueError(f"fading must be in (0, 1], not {fading!r}")
        self.columns = columns
        self.fading = fading
        self._rows = FeatureIndex()
        self._seen = np.zeros((2, self._rows.add(columns)))  # counts, means

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"columns": ["ordinal_date", "gallup"]}
        yield {"columns": [], "fading": 0.5}

    @property
    def means(self) -> dict[str, float]:
        """The mean by feature."""
        return dict(zip(self._rows.names, self._seen[1].tolist(), strict=True))

    def learn_one(self, x: Mapping[str, Any]) -> None:
        """Learn a row.

        Parameters
        ----------
        x
            Numbers by feature name, None or NaN where missing.
        """
        update_means(self._seen, self._rows.to_array(x)[0], self.fading)

    def transform_one(self, x: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row with nothing missing.

        Parameters
        ----------
        x
            Numbers by feature name, None where missing.

        Returns
        -------
        dict
            The row, means in place of None.
        """
        if None not in x.values():
            return dict(x)
        means = self.means
        return {name: means.get(name) if value is None else value for name, value in x.items()}


# Kernel: mean_j = fading * x_j + (1 - fading) * mean_j, or x_j if it is the first. One call a row in place of
# one a feature.
#   stats: (2, n) float64, counts and means; row: (n,) float64, NaN where a value is missing.


@njit_cached
def update_means(stats: Floats, row: Floats, fading: float) -> None:
    """Learn a row (n,) into counts and means (2, n); NaN is left out."""
    for j in range(len(row)):
        if row[j] == row[j]:
            stats[1, j] = fading * row[j] + (1.0 - fading) * stats[1, j] if stats[0, j] > 0.0 else row[j]
            stats[0, j] += 1.0
