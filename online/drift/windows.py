"""Two-sample tests of the last rows against the reference and against last month.

Numbers by Kolmogorov and Smirnov's distance of their mid-ranks, categories by chi-square. Rows are no
independent sample, so both are scaled by a design effect (Rao and Scott 1981): how much larger the
statistic is among windows of the reference itself than it would be among independent rows.
"""

from __future__ import annotations

import math
import statistics

import numpy as np
import numpy.typing as npt

from online.drift.reference import PREDICTION, Reference, Subject

__all__ = ["HOP", "WINDOW", "WindowTest"]

Floats = npt.NDArray[np.float64]

WINDOW = 250  # rows compared
HOP = 100  # rows between two comparisons
SAMPLE = 2000  # of the reference's ranks
FEWEST_WINDOWS = 8
MARGIN = 1.2  # over the largest distance among the reference's own windows
KOLMOGOROV_SQUARE = math.pi**2 / 12.0  # mean of the square of Kolmogorov's variable
KOLMOGOROV_95 = 1.358


class WindowTest:
    """Distances of a window by subject, each over the distance that counts as drift.

    Parameters
    ----------
    reference
        What is normal.
    scores
        The reference's own scores, (n, width).
    run_length
        Rows after which one subject's test may alarm falsely.
    """

    def __init__(self, reference: Reference, scores: Floats, run_length: float) -> None:
        self._subjects = reference.subjects
        thinned = scores[:: max(1, len(scores) // SAMPLE)]
        self._ranks = {s.name: np.sort(thinned[:, s.series.start]) for s in self._subjects if s.numeric}
        self._usual = scores.mean(axis=0)
        self._variance = np.maximum(scores.var(axis=0), 1e-9)
        # a window of the reference is a part of what it is compared with, so it lies nearer than a served one
        part = min(0.5, WINDOW * reference.season.slots / len(scores))
        starts = range(WINDOW, len(scores) - WINDOW + 1, HOP)
        windows = [self.distances(scores[i : i + WINDOW], None) for i in starts]
        found = np.array(windows).reshape(len(windows), len(self._subjects))
        self.limits = self._limits(found * math.sqrt((1.0 + part) / (1.0 - part)), HOP / run_length)

    def distances(self, window: Floats, month: Floats | None) -> Floats:
        """The distances (subjects,), the smaller of those to the reference and to last month."""
        found = []
        for subject in self._subjects:
            now = window[:, subject.series]
            if subject.numeric:
                ranks = np.sort(now[:, 0])
                distance = smirnov(ranks, self._ranks[subject.name])
                if month is not None:
                    old = smirnov(ranks, np.sort(month[:, subject.series.start]))
                    distance = old if subject.name == PREDICTION else min(distance, old)
            else:
                distance = self._chi(now, self._usual[subject.series], subject)
                if month is not None:
                    distance = min(distance, self._chi(now, month[:, subject.series].mean(axis=0), subject))
            found.append(distance)
        return np.array(found)

    def _chi(self, window: Floats, usual: Floats, subject: Subject) -> float:
        """Square root of chi-square over rows and degrees of freedom."""
        gap = window.mean(axis=0) - usual
        return float(np.sqrt(np.mean(gap**2 / self._variance[subject.series])))

    def _limits(self, windows: Floats, probability: float) -> Floats:
        """The distance that windows without drift pass with a probability, (subjects,)."""
        if len(windows) < FEWEST_WINDOWS:
            return np.full(len(self._subjects), math.inf)
        square = np.maximum((windows**2).mean(axis=0), 1e-9)
        high = np.maximum(np.quantile(windows, 0.95, axis=0), 1e-6)
        found = []
        for i, subject in enumerate(self._subjects):
            if subject.numeric:
                rows = min(KOLMOGOROV_SQUARE / square[i], (KOLMOGOROV_95 / high[i]) ** 2)
                found.append(math.sqrt(math.log(2.0 / probability) / (2.0 * rows)))
            else:
                degrees = max(1, len(subject.values) - 1)
                found.append(math.sqrt(square[i] * chi_square(degrees, probability) / degrees))
        return np.asarray(np.maximum(np.array(found), MARGIN * windows.max(axis=0)))


def smirnov(one: Floats, other: Floats) -> float:
    """The largest gap between two sorted samples' distribution functions."""
    both = np.concatenate([one, other])
    gap = np.searchsorted(one, both, "right") / len(one) - np.searchsorted(other, both, "right") / len(other)
    return float(np.abs(gap).max())


def chi_square(degrees: int, probability: float) -> float:
    """Upper quantile by Wilson and Hilferty's cube (1931)."""
    z = -statistics.NormalDist().inv_cdf(probability)
    part = 2.0 / (9.0 * degrees)
    return float(degrees * (1.0 - part + z * math.sqrt(part)) ** 3)
