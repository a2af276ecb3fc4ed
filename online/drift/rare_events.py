"""Events that hardly ever happen and suddenly do: missing values, values out of range, unseen categories.

For each kind of event Page's (1954) CUSUM of the log likelihood ratio of a rate r far over the usual rate p:

    S = max(0, S + log(r / p))              when the event happens
    S = max(0, S + log((1 - r) / (1 - p)))  when it does not

Among independent rows at the usual rate, S passes a threshold of log(n) once in n rows or more rarely
(Lorden 1971, "Procedures for reacting to a change in distribution", theorem 2).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from online.drift.cusum import REFERENCE_MARGIN, page_cusum

__all__ = ["RareEventCusum"]

Floats = npt.NDArray[np.float64]
RowIndices = npt.NDArray[np.int64]

# The rate looked for: RATE_RATIO times the usual one, and at least MIN_RATE: what people call a fault.
RATE_RATIO, MIN_RATE = 4.0, 0.05
MIN_USUAL_RATE = 0.002  # a lower usual rate counts as this: one sensor's hiccup is no drift
MIN_PROBABILITY = 1e-9  # keeps the logarithm of an event that always happens finite


class RareEventCusum:
    """One sum for each kind of event.

    Parameters
    ----------
    events
        Those of the reference rows, 0 or 1, (n, kinds).
    run_length
        Rows after which one sum may alarm falsely.
    """

    def __init__(self, events: Floats, run_length: float) -> None:
        self.usual = events.mean(axis=0)
        usual = np.maximum(self.usual, MIN_USUAL_RATE)
        rate = np.clip(np.maximum(RATE_RATIO * usual, MIN_RATE), None, 0.5 + 0.5 * usual)
        self._hit = np.log(rate / usual)
        self._miss = np.log(
            np.maximum(1.0 - rate, MIN_PROBABILITY) / np.maximum(1.0 - usual, MIN_PROBABILITY)
        )
        self.sums = np.zeros(events.shape[1])
        self.starts = np.zeros(events.shape[1], np.int64)
        # events of the reference come in runs, so its own highest sum is another lower bound
        highest = page_cusum(self.sums, self.starts, self._steps(events), 0)[0].max(axis=0, initial=0.0)
        self.limits = np.maximum(np.log(run_length), REFERENCE_MARGIN * highest)

    def update(self, events: Floats, first: int) -> tuple[Floats, RowIndices]:
        """Take in served rows.

        Parameters
        ----------
        events
            0 or 1, (n, kinds).
        first
            Index of the first row.

        Returns
        -------
        tuple
            Sums over thresholds after each row, and the index at which each sum began to grow, (n, kinds)
            each.
        """
        sums, starts = page_cusum(self.sums, self.starts, self._steps(events), first)
        self.sums, self.starts = sums[-1], starts[-1]
        return sums / self.limits, starts

    def reset(self, kind: int, index: int) -> None:
        """Begin one sum anew.

        Parameters
        ----------
        kind
            Column of the kind of event.
        index
            Index of the row from which it begins.
        """
        self.sums[kind] = 0.0
        self.starts[kind] = index

    def _steps(self, events: Floats) -> Floats:
        return np.asarray(np.where(events > 0.0, self._hit, self._miss))
