"""Drift of the error of predictions as served."""

from __future__ import annotations

import collections
import statistics

import numpy as np
from river import drift

from online.history import Alarm

__all__ = ["ErrorDrift"]

KEPT = 10_000  # errors at hand to describe an alarm by


class ErrorDrift:
    """ADWIN on the absolute error of served predictions, alarming only when the error rose.

    The error e enters as e / (e + m), m the mean absolute error of the first ``warmup`` labels: bounded in
    [0, 1) as ADWIN's bound needs (Bifet and Gavaldà 2007, theorem 3.1), whatever the target's unit, and
    blind to how far beyond usual a single error lies.

    Parameters
    ----------
    delta
        ADWIN's confidence: smaller is calmer.
    warmup
        Labels that set the scale m.
    """

    def __init__(self, delta: float, warmup: int = 200) -> None:
        self.delta = delta
        self.warmup = warmup
        self._first: list[float] = []
        self._scale = 0.0
        self._adwin = drift.ADWIN(delta=delta)
        self._recent: collections.deque[float] = collections.deque(maxlen=KEPT)

    def update(self, error: float, seq: int, at: float) -> Alarm | None:
        """Take in one absolute error; an alarm when the error has risen."""
        self._recent.append(error)
        if len(self._first) < self.warmup:
            self._first.append(error)
            self._scale = statistics.fmean(self._first) or 1.0
            return None
        level, width = self._adwin.estimation, int(self._adwin.width)
        self._adwin.update(error / (error + self._scale))
        if not (self._adwin.drift_detected and self._adwin.estimation > level):
            return None
        return self._alarm(np.array(list(self._recent)[-width - 1 :]), seq, at)

    def _alarm(self, window: np.ndarray, seq: int, at: float) -> Alarm | None:
        """Describe the rise in the window ADWIN cut, of which it keeps more than came after the rise."""
        cut = rise(window / (window + self._scale))
        before, after = float(window[:cut].mean()), float(window[cut:].mean())
        if after <= before:
            return None
        message = f"the error of served predictions rose from {before:.4g} to {after:.4g}"
        return Alarm(seq, at, "adwin", "error", before, after, message)


def rise(levels: np.ndarray) -> int:
    """How many of at least two levels come before the rise: the cut of least squares (Hinkley 1970)."""
    before = np.arange(1, len(levels))
    after = len(levels) - before
    sums = np.cumsum(levels)
    gap = (sums[-1] - sums[:-1]) / after - sums[:-1] / before
    return int(np.argmax(gap * np.sqrt(before * after))) + 1
