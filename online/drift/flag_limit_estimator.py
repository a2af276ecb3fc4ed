"""Works out the flag limits from the last served rows and outcomes: what is wide, apart, or wrong of late."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from online.drift.flag_limits import NO_LIMIT, FlagLimits
from online.storage.served_predictions import Served

__all__ = ["FlagLimitEstimator"]

# none of these has a paper: they are set so that few rows in a thousand of a quiet stream are flagged
WIDTH_ROWS = 2000  # served rows that a quantile is taken of
MIN_WIDTH_ROWS = 200
WIDTH_QUANTILE = 0.99
WIDTH_FACTOR = 1.5  # times that quantile is the limit
FAST_RATE, SLOW_RATE = 0.1, 0.005  # of a segment's recent and usual error: about 10 and 200 labels of memory
MIN_SEGMENT_LABELS = 20
HIGH_ERROR_RATIO = 2.0  # recent over usual error


class FlagLimitEstimator:
    """Running estimates of interval widths, expert spreads, and the error of each segment."""

    def __init__(self) -> None:
        self._widths: collections.deque[float] = collections.deque(maxlen=WIDTH_ROWS)
        self._spreads: collections.deque[float] = collections.deque(maxlen=WIDTH_ROWS)
        self._segments: dict[tuple[int, int], tuple[int, float, float]] = {}  # labels, recent and usual error

    def add_served(self, rows: Sequence[Served]) -> None:
        """Take in rows as served."""
        for row in rows:
            self._widths.append(row.upper - row.lower)
            if row.experts:
                self._spreads.append(max(row.experts) - min(row.experts))

    def add_error(self, segment: tuple[int, int], error: float) -> None:
        """Take in the error of one served prediction.

        Parameters
        ----------
        segment
            Key and slot of its row, by number.
        error
            Absolute error in target units.
        """
        count, recent, usual = self._segments.get(segment, (0, error, error))
        usual_rate = max(SLOW_RATE, 1.0 / (count + 1))  # a plain mean at first
        self._segments[segment] = (
            count + 1,
            recent + FAST_RATE * (error - recent),
            usual + usual_rate * (error - usual),
        )

    def limits(self) -> FlagLimits:
        """The limits now."""
        high_error_segments = frozenset(
            segment
            for segment, (count, recent, usual) in self._segments.items()
            # a negative number stands for a row whose key or slot is unknown
            if count >= MIN_SEGMENT_LABELS and recent > HIGH_ERROR_RATIO * usual and min(segment) >= 0
        )
        return FlagLimits(limit(self._widths), limit(self._spreads), high_error_segments)


def limit(values: collections.deque[float]) -> float:
    """WIDTH_FACTOR times what one value in a hundred exceeds; no limit while there are few values."""
    if len(values) < MIN_WIDTH_ROWS:
        return NO_LIMIT
    return min(NO_LIMIT, WIDTH_FACTOR * float(np.quantile(np.array(values), WIDTH_QUANTILE)))
