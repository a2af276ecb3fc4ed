"""Page-Hinkley's test in both directions and for several sizes of change at once, its threshold from a
budget.

Each of the sums is Page's (1954): S = max(0, S + z - k), z in long-run standard deviations. It alarms when S
passes the h at which, by Siegmund's approximation (1985, Sequential Analysis, equation 2.56), a series
without change crosses it once in a given number of rows. Autocorrelation enters through the long-run
deviation.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["ALLOWANCES", "CusumBank", "long_run_deviation", "page", "threshold"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

ALLOWANCES = np.array([0.25, 0.5, 1.0])  # k: half of the changes looked for, in standard deviations
OVERSHOOT = 1.166  # by which a sum of normal steps passes its threshold on both ends together
BLOCKS = (1, 4, 16, 64)  # rows: the longest memory looked for
FEWEST_BLOCKS = 20
SIDES = np.array([1.0, -1.0])
MARGIN = 1.1  # over the highest sum the reference itself has made


def threshold(allowance: float, run_length: float) -> float:
    """The h that a series without change passes once in ``run_length`` rows."""
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = 0.5 * (low + high)
        a = 2.0 * allowance * (middle + OVERSHOOT)
        reached = math.inf if a > 700 else (math.exp(a) - 1.0 - a) / (2.0 * allowance**2)
        low, high = (middle, high) if reached < run_length else (low, middle)
    return high


def long_run_deviation(scores: Floats) -> Floats:
    """Standard deviations (columns,) that sums of rows (n, columns) grow by, whatever their autocorrelation.

    The largest of the square roots of block length times variance of block means (Carlstein 1986), over
    several lengths: a longer memory than the longest is not seen.
    """
    found = np.full(scores.shape[1], 1e-12)
    for length in BLOCKS:
        n = len(scores) // length
        if n >= FEWEST_BLOCKS:
            means = scores[: n * length].reshape(n, length, -1).mean(axis=1)
            found = np.maximum(found, np.sqrt(length) * means.std(axis=0))
    return found


def page(sums: Floats, begun: Places, steps: Floats, first: int) -> tuple[Floats, Places]:
    """Page's sums after each of the steps, and where each began to grow.

    Parameters
    ----------
    sums, begun
        As they were before, of the shape of one step.
    steps
        Along axis 0.
    first
        The place of the first step.
    """
    path = sums + np.cumsum(steps, axis=0)
    lowest = np.minimum(np.minimum.accumulate(path, axis=0), 0.0)
    places = (first + 1 + np.arange(len(steps))).reshape(-1, *[1] * sums.ndim)
    since = np.where((path <= lowest) & (path <= 0.0), places, begun)
    return path - lowest, np.maximum.accumulate(since, axis=0)


class CusumBank:
    """The sums of several series, two directions and all ALLOWANCES.

    Parameters
    ----------
    scale
        Long-run standard deviation of each series.
    run_length
        Rows after which one sum may alarm falsely.
    rows
        Rows that what is usual is the mean of: its own error takes a part of the allowance.
    """

    def __init__(self, scale: Floats, run_length: float, rows: int) -> None:
        self._scale = scale
        shape = (len(scale), len(ALLOWANCES), 2)
        limits = np.array([threshold(max(k - rows**-0.5, 0.5 * k), run_length) for k in ALLOWANCES])
        self.limits = np.broadcast_to(limits[:, None], shape).copy()
        self.sums = np.zeros(shape)
        self.begun = np.zeros(shape, np.int64)

    def calibrate(self, scores: Floats) -> None:
        """Raise the thresholds over what scores without drift (n, series) have made of the sums."""
        sums, _ = page(np.zeros(self.sums.shape), np.zeros(self.sums.shape, np.int64), self._steps(scores), 0)
        self.limits = np.maximum(self.limits, MARGIN * sums.max(axis=0))

    def rescale(self, series: Places, scores: Floats) -> None:
        """Let scores (n, series) without drift say how much some series vary."""
        self._scale[series] = long_run_deviation(scores)

    def update(self, scores: Floats, first: int) -> tuple[Floats, Places]:
        """Take in scores (n, series) from place ``first`` on.

        Returns
        -------
        tuple
            Sums over thresholds after each row, and where each sum began: (n, series, allowances, sides).
        """
        sums, begun = page(self.sums, self.begun, self._steps(scores), first)
        self.sums, self.begun = sums[-1], begun[-1]
        return sums / self.limits, begun

    def reset(self, series: int | Places, place: int) -> None:
        """Begin one series' sums anew."""
        self.sums[series] = 0.0
        self.begun[series] = place

    def _steps(self, scores: Floats) -> Floats:
        z = scores / self._scale
        return np.asarray(z[:, :, None, None] * SIDES - ALLOWANCES[:, None])
