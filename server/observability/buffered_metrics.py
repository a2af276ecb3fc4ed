"""Counting that costs a request next to nothing: added up here, and brought to Prometheus' metrics, which
may lie in files that workers share, a little later."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prometheus_client import Counter, Histogram

from online.core.background import start_background_thread

__all__ = ["ByLabels", "Settler", "Tally", "Timings"]


class Tally:
    """Counts for a counter: one thread adds to them, another brings them to it.

    Parameters
    ----------
    counter
        What is counted.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._noted = self._settled = 0

    def add(self, amount: int = 1) -> None:
        """Count."""
        self._noted += amount

    def settle(self) -> None:
        """Bring what was added to the counter."""
        noted = self._noted
        if noted > self._settled:
            self._counter.inc(noted - self._settled)
            self._settled = noted


class Timings:
    """Amounts for a histogram, as :class:`Tally` for a counter.

    Parameters
    ----------
    histogram
        What is observed.
    """

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._bounds: Sequence[float] = histogram._upper_bounds
        self._noted, self._settled = [0] * len(self._bounds), [0] * len(self._bounds)
        self._sum = self._settled_sum = 0.0

    def add(self, amount: float) -> None:
        """Observe an amount."""
        self._noted[bisect.bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def settle(self) -> None:
        """Bring what was added to the histogram."""
        noted, total = list(self._noted), self._sum
        if noted != self._settled:
            for place, count in enumerate(noted):
                if count > self._settled[place]:
                    self._histogram._buckets[place].inc(count - self._settled[place])
            self._histogram._sum.inc(total - self._settled_sum)
            self._settled, self._settled_sum = noted, total


T = TypeVar("T", Tally, Timings)


class ByLabels(dict[tuple[str, ...], T]):
    """What is noted of a metric by its labels' values; made when first asked for.

    Parameters
    ----------
    metric
        A metric with labels.
    kind
        What notes for one of its children.
    """

    def __init__(self, metric: Any, kind: Callable[[Any], T]) -> None:
        super().__init__()
        self._metric = metric
        self._kind: Callable[[Any], T] = kind

    def __missing__(self, labels: tuple[str, ...]) -> T:
        """Begin to note for some labels."""
        made: T = self._kind(self._metric.labels(*labels))
        self[labels] = made
        return made

    def settle(self) -> None:
        """Bring what was noted to the metric."""
        for one in list(self.values()):
            one.settle()


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
        self._thread = start_background_thread(self._run, "metrics")

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._settle()
        self._settle()
