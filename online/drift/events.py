"""From detections to alarms: one for each event, within a budget, with what it cost.

Detections that follow each other within a cooldown are one event. No more than the budget of a week are rung:
what goes beyond is listed as muted. So the false alarms of a week cannot be more than the budget either,
whatever a detector does; how many of it they use up is what the detectors' thresholds see to.
"""

from __future__ import annotations

import collections

import msgspec
import numpy as np

from online.drift.detection import Detection
from online.storage.metrics_store import Alarm

__all__ = ["Events", "Sight"]

WEEK = 7 * 86400.0
KEPT = 10_000  # labels at hand
RECENT = 300  # labels an event's end is judged by
MOST_LABELS = 50_000  # after which the cost is no longer added up
OVER = 1.1  # an event has ended when the error is back to so many times the one before


class Sight(msgspec.Struct, frozen=True):
    """When and where a detection was made: unix seconds, rows served and the last label known so far."""

    at: float
    rows: int
    seq: int
    since: float
    since_row: int


class Events:
    """The events of one stream.

    Parameters
    ----------
    cooldown
        Served rows within which another detection belongs to the same event.
    budget
        Alarms rung in a week at most.
    rung
        When the alarms of the last week were rung, in unix seconds.
    """

    def __init__(self, cooldown: int, budget: int, rung: list[float]) -> None:
        self._cooldown = cooldown
        self._budget = budget
        self._rung = rung
        self._last_row = 0
        self._base = 0.0
        self._labels: collections.deque[tuple[float, float]] = collections.deque(maxlen=KEPT)
        self.last: Alarm | None = None

    def add(self, found: Detection, sight: Sight) -> Alarm:
        """Take in a detection; the alarm it makes, or the one it belongs to."""
        last = self.last
        if last is not None and sight.rows - self._last_row <= self._cooldown:
            also = tuple(dict.fromkeys((*last.also, found.subject)))
            also = tuple(name for name in also if name != last.subject)
            self.last = msgspec.structs.replace(last, also=also, times=last.times + 1)
        else:
            self._base = found.before if found.kind == "error" else self._before(sight.since)
            self.last = msgspec.structs.replace(
                self._alarm(found, sight), cost=0.0, cost_labels=0, muted=self._over_budget(sight.at)
            )
            for served_at, error in self._labels:
                self._charge(served_at, error)
        self._last_row = sight.rows
        return self.last

    def labelled(self, served_at: float, error: float) -> bool:
        """Take in the absolute error of a prediction and when it was served; whether that changed the
        alarm."""
        self._labels.append((served_at, error))
        before = self.last
        self._charge(served_at, error)
        last = self.last
        if last is None or last.ended_at is not None:
            return self.last is not before
        if last.cost_labels >= RECENT and last.cost_labels % 50 == 0:
            recent = np.array(self._labels)[-RECENT:, 1]
            if recent.mean() <= OVER * self._base:
                self.last = msgspec.structs.replace(last, ended_at=served_at)
        return self.last is not before

    def _charge(self, served_at: float, error: float) -> None:
        last = self.last
        if last is None or last.cost is None or last.ended_at is not None or served_at < (last.since or 0.0):
            return
        if last.cost_labels < MOST_LABELS:
            self.last = msgspec.structs.replace(
                last, cost=last.cost + error - self._base, cost_labels=last.cost_labels + 1
            )

    def _before(self, since: float) -> float:
        errors = [error for served_at, error in self._labels if served_at < since][-1000:]
        errors = errors or [error for _, error in self._labels]
        return float(np.mean(errors)) if errors else 0.0

    def _over_budget(self, at: float) -> bool:
        self._rung = [one for one in self._rung if one > at - WEEK]
        if len(self._rung) >= self._budget:
            return True
        self._rung.append(at)
        return False

    def _alarm(self, found: Detection, sight: Sight) -> Alarm:
        return Alarm(
            sight.seq, sight.at, found.detector, found.subject, found.before, found.after, found.message,
            kind=found.kind, since=sight.since, since_row=sight.since_row,
        )  # fmt: skip
