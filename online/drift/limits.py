"""Works out what is a wide interval, a large disagreement and a place of high error, from the last rows."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from online.drift.flag_limits import NO_LIMIT, Marks
from online.storage.served_predictions import Served

__all__ = ["Limits"]

REMEMBERED = 2000  # rows
FEWEST = 200
FACTOR = 1.5  # over what one row in a hundred passes
FAST, SLOW = 0.1, 0.005
LABELS, TIMES = 20, 2.0  # a place is hot after so many labels, when its error is so many times its usual one


class Limits:
    """What the rows served and the labels that came say is usual."""

    def __init__(self) -> None:
        self._widths: collections.deque[float] = collections.deque(maxlen=REMEMBERED)
        self._spreads: collections.deque[float] = collections.deque(maxlen=REMEMBERED)
        self._places: dict[tuple[int, int], tuple[int, float, float]] = {}

    def served(self, rows: Sequence[Served]) -> None:
        """Take in rows as served."""
        for one in rows:
            self._widths.append(one.upper - one.lower)
            if one.experts:
                self._spreads.append(max(one.experts) - min(one.experts))

    def labelled(self, place: tuple[int, int], error: float) -> None:
        """Take in an absolute error and where it was made."""
        count, fast, slow = self._places.get(place, (0, error, error))
        alpha = max(SLOW, 1.0 / (count + 1))
        self._places[place] = (count + 1, fast + FAST * (error - fast), slow + alpha * (error - slow))

    def marks(self) -> Marks:
        """The limits now."""
        hot = frozenset(
            place
            for place, (count, fast, slow) in self._places.items()
            if count >= LABELS and fast > TIMES * slow and min(place) >= 0
        )
        return Marks(limit(self._widths), limit(self._spreads), hot)


def limit(values: collections.deque[float]) -> float:
    """Over what one value in a hundred passes, by FACTOR; none while there are few."""
    if len(values) < FEWEST:
        return NO_LIMIT
    return min(NO_LIMIT, FACTOR * float(np.quantile(np.array(values), 0.99)))
