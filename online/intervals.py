"""Prediction intervals from the errors of predictions as served."""

from __future__ import annotations

import math

from river import utils

__all__ = ["ResidualQuantile"]


class ResidualQuantile:
    """Half-width of the interval that would have covered a share of the recent labels.

    Split conformal prediction on a sliding window of absolute residuals: the half-width is the
    ceil((n + 1) * coverage)-th smallest of the last n residuals (Vovk, Gammerman and Shafer 2005,
    section 2.2; Lei et al. 2018, equation 4), in the target's unit.

    Parameters
    ----------
    coverage
        Share of labels the interval aims to hold, between 0 and 1.
    window
        How many residuals are kept.

    Examples
    --------
    >>> from online.intervals import ResidualQuantile
    >>> width = ResidualQuantile(coverage=0.8, window=100)
    >>> for residual in (3.0, -1.0, 2.0, 5.0):
    ...     width.update(residual)
    >>> width.get()
    5.0
    """

    def __init__(self, coverage: float, window: int = 2000) -> None:
        self.coverage = coverage
        self._residuals = utils.SortedWindow(size=window)

    def update(self, residual: float) -> None:
        """Take in one residual (any sign)."""
        self._residuals.append(abs(residual))

    def get(self) -> float:
        """The half-width; 0.0 before any residual, the largest residual while there are too few."""
        n = len(self._residuals)
        if n == 0:
            return 0.0
        rank = min(n, math.ceil((n + 1) * self.coverage))
        return float(self._residuals[rank - 1])
