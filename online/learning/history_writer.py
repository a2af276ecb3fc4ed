"""What learning showed, written for people: outcomes, alarms, weights and the learner's status."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from typing import Any

from online.learning.fold import Applied
from online.learning.stage_timer import StageTimer
from online.storage.metrics_store import MetricsStore

__all__ = ["HistoryWriter"]

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0
HISTORY_SECONDS = 0.2  # between writes while there is more to learn
HISTORY_RETRY_SECONDS = 1.0
OUTCOMES_KEPT = 10_000  # that wait for a history that cannot be written


class HistoryWriter:
    """Collects what records showed, and writes it a batch at a time.

    A failure is logged and tried again: learning never waits for the history. Nor is anything lost by a
    crash, as all of it follows from the journal and is written again by the learner that starts next.

    Parameters
    ----------
    history
        Where it goes; closed with this.
    read_status
        Gives the status, at a moment (unix seconds).
    read_weights
        Gives the experts' weights by name.
    clock
        Unix seconds.
    timer
        Told how long it takes.
    """

    def __init__(
        self,
        history: MetricsStore,
        read_status: Callable[[float], dict[str, Any]],
        read_weights: Callable[[], dict[str, float]],
        clock: Callable[[], float],
        timer: StageTimer,
    ) -> None:
        self._history = history
        self._read_status = read_status
        self._read_weights = read_weights
        self._clock = clock
        self._timer = timer
        self._waiting: list[Applied] = []
        self._status_at = self._history_written_at = self._retry_at = 0.0

    def add(self, applied: Applied) -> None:
        """Take what a record showed; it is written by the next :meth:`write`."""
        self._waiting.append(applied)

    def write_when_due(self, *, idle: bool) -> None:
        """Write what waits: at once when no label waits to be learned, else every so often."""
        if idle or self._clock() - self._history_written_at >= HISTORY_SECONDS:
            self.write()

    def write(self, *, last: bool = False) -> None:
        """Write what waits, and the status if it is a second old, or if this is the last word."""
        now = self._clock()
        status_due = last or now - self._status_at >= STATUS_SECONDS
        if not (self._waiting or status_due) or now < self._retry_at:
            return
        outcomes = [applied.outcome for applied in self._waiting if applied.outcome]
        alarms = [applied.alarm for applied in self._waiting if applied.alarm]
        weights = self._read_weights() if outcomes or status_due else {}
        status = self._read_status(now) | {"weights": weights} if status_due else {}
        if last:
            status["learner"]["alive"] = False
        try:
            with self._timer.measure("history"):
                self._history.write(outcomes, alarms, status, weights)
        except sqlite3.Error as exc:
            log.error("the history cannot be written, it waits: %s", exc)
            self._retry_at = now + HISTORY_RETRY_SECONDS
            del self._waiting[:-OUTCOMES_KEPT]
            return
        self._waiting.clear()
        self._history_written_at = now
        if status_due:
            self._status_at = now

    def close(self) -> None:
        """Close the history."""
        self._history.close()
