"""Drift of the error of predictions as served."""

from __future__ import annotations

import collections
import statistics

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
        return self._alarm(width + 1, int(self._adwin.width), seq, at)

    def _alarm(self, width: int, kept: int, seq: int, at: float) -> Alarm | None:
        """Describe the cut ADWIN made in its window of ``width`` errors: the last ``kept`` came after it."""
        window = list(self._recent)[-width:]
        cut = max(1, len(window) - kept)
        before, after = statistics.fmean(window[:cut]), statistics.fmean(window[cut:] or window[-1:])
        if after <= before:
            return None
        message = f"the error of served predictions rose from {before:.4g} to {after:.4g}"
        return Alarm(seq, at, "adwin", "error", before, after, message)
