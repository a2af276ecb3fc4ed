"""Two-sample tests of the last rows against the reference and against last month.

Numbers by the distance of Kolmogorov and Smirnov between mid-ranks:

    D = max |F(x) - G(x)|,  P(D > d) ~ 2 exp(-2 n d^2)

categories by chi-square over rows and degrees of freedom, its quantile by Wilson and Hilferty (1931). Rows
are no independent sample, so both are scaled by a design effect (Rao and Scott 1981, "The analysis of
categorical data from complex sample surveys"): how much larger the statistic is among windows of the
reference itself than it would be among independent rows. The number n above is then an effective one.
"""

from __future__ import annotations

import math
import statistics

import numpy as np
import numpy.typing as npt

from online.drift.reference import PREDICTION, Reference, Signal

__all__ = ["HOP_ROWS", "WINDOW_ROWS", "WindowTests"]

Floats = npt.NDArray[np.float64]

WINDOW_ROWS = 250  # compared
HOP_ROWS = 100  # between two comparisons
MAX_REFERENCE_RANKS = 2000  # of a number, evenly thinned out
MIN_REFERENCE_WINDOWS = 8  # to tell a design effect by; with fewer, no test alarms
WINDOW_MARGIN = 1.2  # times the largest distance among the reference's own windows
KOLMOGOROV_MEAN_SQUARE = math.pi**2 / 12.0  # of Kolmogorov's variable, sqrt(n) D
KOLMOGOROV_95 = 1.358  # its 95 % quantile
MIN_VARIANCE = 1e-9  # of a score that never changed


class WindowTests:
    """The distance of the last rows for each signal, beside the distance that counts as drift.

    Parameters
    ----------
    reference
        What is normal.
    scores
        The reference rows' own scores, (n, width).
    run_length
        Rows after which one signal's test may alarm falsely.
    """

    def __init__(self, reference: Reference, scores: Floats, run_length: float) -> None:
        self._signals = reference.signals
        thinned = scores[:: max(1, len(scores) // MAX_REFERENCE_RANKS)]
        self._ranks = {s.name: np.sort(thinned[:, s.series.start]) for s in self._signals if s.numeric}
        self._usual = scores.mean(axis=0)
        self._variance = np.maximum(scores.var(axis=0), MIN_VARIANCE)
        # a window of the reference is a part of what it is compared with, so it lies nearer than a served one
        part = min(0.5, WINDOW_ROWS * reference.season.slots / len(scores))
        starts = range(WINDOW_ROWS, len(scores) - WINDOW_ROWS + 1, HOP_ROWS)
        windows = [self.distances(scores[i : i + WINDOW_ROWS], None) for i in starts]
        distances = np.array(windows).reshape(len(windows), len(self._signals))
        self.limits = self._limits(distances * math.sqrt((1.0 + part) / (1.0 - part)), HOP_ROWS / run_length)

    def distances(self, window: Floats, month: Floats | None) -> Floats:
        """How far the last rows lie from what is usual.

        Parameters
        ----------
        window
            Their scores, (WINDOW_ROWS, width).
        month
            Last month's scores, (rows, width); None compares with the reference alone.

        Returns
        -------
        ndarray
            For each signal the smaller of the distances to the reference and to last month, (signals,); the
            predictions, which have no reference of their own, are compared with last month where there is
            one.
        """
        distances = []
        for signal in self._signals:
            current = window[:, signal.series]
            if signal.numeric:
                ranks = np.sort(current[:, 0])
                distance = ks_distance(ranks, self._ranks[signal.name])
                if month is not None:
                    to_month = ks_distance(ranks, np.sort(month[:, signal.series.start]))
                    distance = to_month if signal.name == PREDICTION else min(distance, to_month)
            else:
                distance = self._chi(current, self._usual[signal.series], signal)
                if month is not None:
                    month_mean = month[:, signal.series].mean(axis=0)
                    distance = min(distance, self._chi(current, month_mean, signal))
            distances.append(distance)
        return np.array(distances)

    def _chi(self, window: Floats, usual: Floats, signal: Signal) -> float:
        """Square root of chi-square over rows and degrees of freedom."""
        gap = window.mean(axis=0) - usual
        return float(np.sqrt(np.mean(gap**2 / self._variance[signal.series])))

    def _limits(self, windows: Floats, probability: float) -> Floats:
        """The distance, (signals,), that a window without drift exceeds with a probability.

        ``windows`` are the distances of the reference's own windows, (windows, signals).
        """
        if len(windows) < MIN_REFERENCE_WINDOWS:
            return np.full(len(self._signals), math.inf)
        mean_square = np.maximum((windows**2).mean(axis=0), MIN_VARIANCE)
        high = np.maximum(np.quantile(windows, 0.95, axis=0), 1e-6)
        limits = []
        for i, signal in enumerate(self._signals):
            if signal.numeric:
                # effective rows by the mean square and by the tail, whichever is fewer
                rows = min(KOLMOGOROV_MEAN_SQUARE / mean_square[i], (KOLMOGOROV_95 / high[i]) ** 2)
                limits.append(math.sqrt(math.log(2.0 / probability) / (2.0 * rows)))
            else:
                degrees = max(1, len(signal.values) - 1)
                limits.append(math.sqrt(mean_square[i] * chi_square(degrees, probability) / degrees))
        return np.asarray(np.maximum(np.array(limits), WINDOW_MARGIN * windows.max(axis=0)))


def ks_distance(sample: Floats, other: Floats) -> float:
    """The largest gap between two sorted samples' distribution functions."""
    both = np.concatenate([sample, other])
    below = np.searchsorted(sample, both, "right") / len(sample)
    gap = below - np.searchsorted(other, both, "right") / len(other)
    return float(np.abs(gap).max())


def chi_square(degrees: int, probability: float) -> float:
    """Upper quantile by Wilson and Hilferty's cube root (1931); one quantile is no reason to load SciPy."""
    z = -statistics.NormalDist().inv_cdf(probability)
    part = 2.0 / (9.0 * degrees)
    return float(degrees * (1.0 - part + z * math.sqrt(part)) ** 3)
