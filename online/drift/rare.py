"""Things that hardly ever happen, and suddenly do: missing values, values out of range, unseen categories.

Page's test on the log likelihood ratio of a rate far over the usual one. Independent rows at the usual rate
pass a threshold of log(n) once in n rows or later (Lorden 1971, theorem 2).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from online.drift.cusum import MARGIN, page

__all__ = ["RareEvents"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

TIMES, LEAST = 4.0, 0.05  # the rate looked for: so many times the usual one, at least this
RAREST = 0.002  # a usual rate below it counts as this: one sensor's hiccup is no drift


class RareEvents:
    """One sum for each kind of event.

    Parameters
    ----------
    events
        The reference's, 0 or 1, (n, kinds).
    run_length
        Rows after which one sum may alarm falsely.
    """

    def __init__(self, events: Floats, run_length: float) -> None:
        self.usual = events.mean(axis=0)
        usual = np.maximum(self.usual, RAREST)
        rate = np.clip(np.maximum(TIMES * usual, LEAST), None, 0.5 + 0.5 * usual)
        self._hit = np.log(rate / usual)
        self._miss = np.log(np.maximum(1.0 - rate, 1e-9) / np.maximum(1.0 - usual, 1e-9))
        self.sums = np.zeros(events.shape[1])
        self.begun = np.zeros(events.shape[1], np.int64)
        reached = page(self.sums, self.begun, self._steps(events), 0)[0].max(axis=0, initial=0.0)
        self.limits = np.maximum(np.log(run_length), MARGIN * reached)

    def update(self, events: Floats, first: int) -> tuple[Floats, Places]:
        """Take in rows; sums over thresholds and where each sum began, (n, kinds)."""
        sums, begun = page(self.sums, self.begun, self._steps(events), first)
        self.sums, self.begun = sums[-1], begun[-1]
        return sums / self.limits, begun

    def reset(self, kind: int | Places, place: int) -> None:
        """Begin one sum anew."""
        self.sums[kind] = 0.0
        self.begun[kind] = place

    def _steps(self, events: Floats) -> Floats:
        return np.asarray(np.where(events > 0.0, self._hit, self._miss))
