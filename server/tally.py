"""Counting that costs a request next to nothing: it is noted at once, and added up a little later."""

from __future__ import annotations

import bisect
import collections
import threading
from collections.abc import Callable, Iterable

from prometheus_client import Histogram

__all__ = ["Settler", "TalliedHistogram"]


class TalliedHistogram(Histogram):
    """A histogram that takes many observations in one go: an increment a bucket, not one an observation."""

    def observe_all(self, amounts: Iterable[float]) -> None:
        """Observe every amount."""
        amounts = list(amounts)
        places = collections.Counter(bisect.bisect_left(self._upper_bounds, amount) for amount in amounts)
        for place, count in places.items():
            self._buckets[place].inc(count)
        self._sum.inc(sum(amounts))


class Settler:
    """A thread that calls something every so often, and once more when stopped.

    Parameters
    ----------
    settle
        What is called.
    seconds
        How often.
    """

    def __init__(self, settle: Callable[[], None], seconds: float) -> None:
        self._settle = settle
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._settle()
        self._settle()
