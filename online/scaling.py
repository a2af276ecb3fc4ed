"""Standardising by what a feature was like of late."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from river import base

__all__ = ["FadedScaler"]

LARGEST = 1e30  # beyond this a number is no measurement
SETTLED = 30  # values after which outliers are told from the rest
REACH = 30.0  # deviations beyond which a value is pulled in before it is learned


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
    >>> from online.scaling import FadedScaler
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
        """Take in a row.

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
        gap, limit = value - mean, REACH * math.sqrt(variance)
        if count >= SETTLED and limit > 0.0:
            gap = min(max(gap, -limit), limit)
        self.counts[name] = count + 1
        self.means[name] = mean + share * gap
        self.vars[name] = (1.0 - share) * (variance + share * gap * gap)

    def transform_one(self, x: Mapping[str, Any]) -> dict[str, float]:
        """Return the row in deviations from the means.

        Parameters
        ----------
        x
            Numbers by feature name.
        """
        scaled = {}
        for name, value in x.items():
            variance = self.vars.get(name, 0.0)
            known = variance > 0.0 and is_measured(value)
            deviation = variance**0.5  # to the last bit what a plan scales by
            scaled[name] = (value - self.means[name]) / deviation if known else 0.0
        return scaled


def is_measured(value: object) -> bool:
    """Whether a value is a number that a measurement can give."""
    return isinstance(value, (int, float)) and abs(value) <= LARGEST
