"""How far scores lie from what they were last month: drift is told from season by its speed.

A month is ``drift.month_rows`` served rows. A season moves little within it, a drift lies between it and now.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["BASELINE_STEP", "LastMonth"]

Floats = npt.NDArray[np.float64]

# Rows between two updates of last month's mean. Results must not depend on how rows are cut into calls, so
# every caller stops at multiples of this number.
BASELINE_STEP = 50


class LastMonth:
    """The last scores of a stream, split into last month and the rows since.

    Parameters
    ----------
    scores
        The rows so far, (n, width), more than ``rows + lag``.
    rows
        Rows in a month.
    lag
        Rows between last month and now, so that a new drift is not part of it yet.
    """

    def __init__(self, scores: Floats, rows: int, lag: int) -> None:
        self.rows = rows
        self.lag = lag
        self._scores = scores[-(rows + lag) :].copy()

    def shifts(self, scores: Floats) -> Floats:
        """How far new rows lie from last month's mean, (n, width); the rows are kept.

        They must not reach over a multiple of BASELINE_STEP.
        """
        shifts = scores - self.before.mean(axis=0)
        self._scores = np.concatenate([self._scores, scores])[-(self.rows + self.lag) :]
        return np.asarray(shifts)

    @property
    def before(self) -> Floats:
        """Last month's scores, (rows, width)."""
        return self._scores[: self.rows]

    def last(self, rows: int) -> Floats:
        """The newest scores, (rows, width)."""
        return self._scores[-rows:]

    @staticmethod
    def history(scores: Floats, rows: int, lag: int) -> tuple[Floats, Floats]:
        """What :meth:`shifts` would have given for past rows.

        Parameters
        ----------
        scores
            Past rows in the order of time, (n, width).
        rows
            Rows in a month.
        lag
            Rows between last month and now.

        Returns
        -------
        tuple
            The scores of the rows that have a month before them, and their shifts, (n - rows - lag, width)
            each.
        """
        sums = np.concatenate([np.zeros((1, scores.shape[1])), np.cumsum(scores, axis=0)])
        indices = np.arange(rows + lag, len(scores))
        ends = np.maximum(indices // BASELINE_STEP * BASELINE_STEP - lag, rows)
        return scores[indices], scores[indices] - (sums[ends] - sums[ends - rows]) / rows
