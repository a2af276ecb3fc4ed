"""Counting that costs a request next to nothing.

Prometheus' metrics take a lock for each observation and may lie in files that workers share. So counts are
added up here, in plain Python numbers, and brought to the metrics a little later by :class:`PeriodicFlush`.

One thread adds (the event loop's), one at a time flushes; what is added during a flush is flushed by the
next.

This is the one module that uses what prometheus-client does not document: a histogram's buckets and sum,
which have no public call for many observations at once. pyproject.toml bounds its version, and
tests/test_buffered_metrics.py holds the contract.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prometheus_client import Counter, Histogram

from online.core.background import start_background_thread

__all__ = ["BufferedByLabels", "BufferedCounter", "BufferedHistogram", "PeriodicFlush"]


class BufferedCounter:
    """Adds up what a counter will count.

    Parameters
    ----------
    counter
        What counts.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._added = self._flushed = 0

    def add(self, amount: int = 1) -> None:
        """Count so many."""
        self._added += amount

    def flush(self) -> None:
        """Bring what was added to the counter."""
        added = self._added  # read once: the other thread goes on adding
        if added > self._flushed:
            self._counter.inc(added - self._flushed)
            self._flushed = added


class BufferedHistogram:
    """Adds up what a histogram will observe.

    Parameters
    ----------
    histogram
        What observes.
    """

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._bounds: Sequence[float] = histogram._upper_bounds  # noqa: SLF001 - see the module's docstring
        self._added, self._flushed = [0] * len(self._bounds), [0] * len(self._bounds)
        self._sum = self._flushed_sum = 0.0

    def add(self, amount: float) -> None:
        """Observe an amount."""
        self._added[bisect.bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def flush(self) -> None:
        """Bring what was added to the histogram."""
        added, total = list(self._added), self._sum
        if added == self._flushed:
            return
        for bucket, count in enumerate(added):
            if count > self._flushed[bucket]:
                self._histogram._buckets[bucket].inc(count - self._flushed[bucket])  # noqa: SLF001 - as above
        self._histogram._sum.inc(total - self._flushed_sum)  # noqa: SLF001 - as above
        self._flushed, self._flushed_sum = added, total


Buffered = TypeVar("Buffered", BufferedCounter, BufferedHistogram)


class BufferedByLabels(dict[tuple[str, ...], Buffered]):
    """The buffers of a metric by its labels' values; each is made when first asked for.

    Parameters
    ----------
    metric
        A metric with labels.
    buffer
        Makes the buffer of one of its children.
    """

    def __init__(self, metric: Any, buffer: Callable[[Any], Buffered]) -> None:
        super().__init__()
        self._metric = metric
        self._buffer: Callable[[Any], Buffered] = buffer

    def __missing__(self, labels: tuple[str, ...]) -> Buffered:
        """Make the buffer for some labels."""
        made: Buffered = self._buffer(self._metric.labels(*labels))
        self[labels] = made
        return made

    def flush(self) -> None:
        """Bring what was added to the metric."""
        for buffered in list(self.values()):  # a copy: the other thread may add labels
            buffered.flush()


class PeriodicFlush:
    """A thread that calls something every so often, and once more when closed.

    Parameters
    ----------
    flush
        What is called.
    seconds
        How often.
    """

    def __init__(self, flush: Callable[[], None], seconds: float) -> None:
        self._flush = flush
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = start_background_thread(self._run, "metrics")

    def close(self) -> None:
        """Call once more and stop."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._flush()
        self._flush()
