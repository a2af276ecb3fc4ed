"""Page's CUSUM, in both directions and for several sizes of change at once, its threshold from a budget.

Page (1954, "Continuous inspection schemes", Biometrika 41):

    S = max(0, S + z - k)      alarm when S > h

z is a score's distance from a reference mean in long-run standard deviations, and k, the allowance, half of
the change looked for. Unrolled, S is the cumulative sum of z - k minus its running minimum. The test that
stream libraries call Page-Hinkley's (Hinkley 1971) has the same recursion, but takes as its reference the
running mean of the very series it watches. Here the reference is given from outside (the bootstrap rows, last
month), so it is Page's CUSUM.

A series without change passes h once in a given number of rows on average, by Siegmund's approximation (1985,
"Sequential Analysis", equation 2.56), with b = h + 1.166:

    run length = (exp(2 k b) - 1 - 2 k b) / (2 k^2)

It holds for independent normal steps; autocorrelation enters through the long-run deviation.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["ALLOWANCES", "CusumBank", "cusum_threshold", "long_run_deviation", "page_cusum"]

Floats = npt.NDArray[np.float64]
RowIndices = npt.NDArray[np.int64]

ALLOWANCES = np.array([0.25, 0.5, 1.0])  # k: changes of half a standard deviation, one, and two
OVERSHOOT = 1.166  # 2 * 0.583: by how much a sum of normal steps passes a boundary, at both ends (Siegmund)
MAX_EXPONENT = 700  # exp overflows a float64 soon after
BLOCK_LENGTHS = (1, 4, 16, 64)  # rows: the longest memory looked for
MIN_BLOCKS = 20  # for a variance of block means worth using
DIRECTIONS = np.array([1.0, -1.0])
REFERENCE_MARGIN = 1.1  # times the highest sum that the reference itself has made: real rows are not normal


def cusum_threshold(allowance: float, run_length: float) -> float:
    """The threshold h that a series without change passes once in ``run_length`` rows.

    Parameters
    ----------
    allowance
        k, in long-run standard deviations.
    run_length
        Rows on average between two false alarms.

    Returns
    -------
    float
        h, in long-run standard deviations; found by bisection.
    """
    low, high = 0.0, 1e4
    for _ in range(80):
        h = 0.5 * (low + high)
        exponent = 2.0 * allowance * (h + OVERSHOOT)
        reached = (
            math.inf
            if exponent > MAX_EXPONENT
            else (math.exp(exponent) - 1.0 - exponent) / (2.0 * allowance**2)
        )
        low, high = (h, high) if reached < run_length else (low, h)
    return high


def long_run_deviation(scores: Floats) -> Floats:
    """Standard deviations (columns,) that sums of rows (n, columns) grow by, whatever their autocorrelation.

    The largest of the square roots of block length times variance of block means (Carlstein 1986, "The use of
    subseries values for estimating the variance of a general statistic"), over several lengths: a longer
    memory than the longest is not seen.
    """
    deviation = np.full(scores.shape[1], 1e-12)
    for length in BLOCK_LENGTHS:
        blocks = len(scores) // length
        if blocks >= MIN_BLOCKS:
            means = scores[: blocks * length].reshape(blocks, length, -1).mean(axis=1)
            deviation = np.maximum(deviation, np.sqrt(length) * means.std(axis=0))
    return deviation


def page_cusum(sums: Floats, starts: RowIndices, steps: Floats, first: int) -> tuple[Floats, RowIndices]:
    """Page's sums after each of several steps, and where each began to grow.

    Parameters
    ----------
    sums
        The sums before, of the shape of one step.
    starts
        Indices at which they began to grow, of the same shape.
    steps
        What is added, z - k, along axis 0.
    first
        Index of the first step.

    Returns
    -------
    tuple
        Sums and starts after each step, of the shape of ``steps``.
    """
    path = sums + np.cumsum(steps, axis=0)
    lowest = np.minimum(np.minimum.accumulate(path, axis=0), 0.0)
    indices = (first + 1 + np.arange(len(steps))).reshape(-1, *[1] * sums.ndim)
    # a sum that touches zero begins anew with the row after
    restarted = np.where((path <= lowest) & (path <= 0.0), indices, starts)
    return path - lowest, np.maximum.accumulate(restarted, axis=0)


class CusumBank:
    """The sums of several series, in two directions and for all ALLOWANCES.

    Parameters
    ----------
    scale
        Long-run standard deviation of each series, (series,).
    run_length
        Rows after which one sum may alarm falsely.
    rows
        Rows that the reference mean is taken over: its own error uses up a part of the allowance.
    """

    def __init__(self, scale: Floats, run_length: float, rows: int) -> None:
        self._scale = scale
        shape = (len(scale), len(ALLOWANCES), len(DIRECTIONS))
        # the mean of `rows` rows is off by about rows**-0.5 deviations, but half of an allowance always stays
        effective = [max(k - rows**-0.5, 0.5 * k) for k in ALLOWANCES]
        limits = np.array([cusum_threshold(k, run_length) for k in effective])
        self.limits = np.broadcast_to(limits[:, None], shape).copy()
        self.sums = np.zeros(shape)
        self.starts = np.zeros(shape, np.int64)

    def calibrate(self, scores: Floats) -> None:
        """Raise the thresholds over what scores without drift, (n, series), have made of the sums."""
        empty, starts = np.zeros(self.sums.shape), np.zeros(self.sums.shape, np.int64)
        sums, _ = page_cusum(empty, starts, self._steps(scores), 0)
        self.limits = np.maximum(self.limits, REFERENCE_MARGIN * sums.max(axis=0))

    def rescale(self, series: RowIndices, scores: Floats) -> None:
        """Learn anew how much some series vary.

        Parameters
        ----------
        series
            Their indices, (m,).
        scores
            Rows without drift, (n, m).
        """
        self._scale[series] = long_run_deviation(scores)

    def update(self, scores: Floats, first: int) -> tuple[Floats, RowIndices]:
        """Take in served rows.

        Parameters
        ----------
        scores
            Distances from the reference mean, (n, series).
        first
            Index of the first row.

        Returns
        -------
        tuple
            Sums over thresholds after each row, and the index at which each sum began to grow:
            (n, series, allowances, directions) each. A sum over 1 is an alarm.
        """
        sums, starts = page_cusum(self.sums, self.starts, self._steps(scores), first)
        self.sums, self.starts = sums[-1], starts[-1]
        return sums / self.limits, starts

    def reset(self, series: int | RowIndices, index: int) -> None:
        """Begin the sums of some series anew.

        Parameters
        ----------
        series
            Index of one series, or several.
        index
            Index of the row from which they begin.
        """
        self.sums[series] = 0.0
        self.starts[series] = index

    def _steps(self, scores: Floats) -> Floats:
        z = scores / self._scale
        return np.asarray(z[:, :, None, None] * DIRECTIONS - ALLOWANCES[:, None])
