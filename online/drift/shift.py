"""How far scores lie from what they were last month."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["STEP", "LastMonth"]

Floats = npt.NDArray[np.float64]

STEP = 50  # rows between two looks at last month


class LastMonth:
    """The last rows of scores, split into last month and the rows since.

    Parameters
    ----------
    scores
        The rows so far, (n, width), more than ``rows + lag``.
    rows
        Rows in a month.
    lag
        Rows between last month and now, so that a new drift is not in it yet.
    """

    def __init__(self, scores: Floats, rows: int, lag: int) -> None:
        self.rows = rows
        self.lag = lag
        self._kept = scores[-(rows + lag) :].copy()

    def shifts(self, scores: Floats) -> Floats:
        """How far rows lie from last month, (n, width); they must not reach over a multiple of STEP, and
        are kept."""
        found = scores - self.before.mean(axis=0)
        self._kept = np.concatenate([self._kept, scores])[-(self.rows + self.lag) :]
        return np.asarray(found)

    @property
    def before(self) -> Floats:
        """Last month's scores, (rows, width)."""
        return self._kept[: self.rows]

    def last(self, rows: int) -> Floats:
        """The newest scores."""
        return self._kept[-rows:]

    @staticmethod
    def history(scores: Floats, rows: int, lag: int) -> tuple[Floats, Floats]:
        """The scores of those rows that have a month before them, and their shifts."""
        sums = np.concatenate([np.zeros((1, scores.shape[1])), np.cumsum(scores, axis=0)])
        places = np.arange(rows + lag, len(scores))
        ends = np.maximum(places // STEP * STEP - lag, rows)
        return scores[places], scores[places] - (sums[ends] - sums[ends - rows]) / rows
