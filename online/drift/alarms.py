"""Decides which detections become alarms: one for each event, within a budget, with what the event cost.

Detections that follow each other within a cooldown are one event. Alarms beyond the week's budget are listed
but muted: nobody is told of them. So false alarms cannot exceed the budget either, whatever a detector does;
how much of the budget they use up is decided by the detectors' thresholds.
"""

from __future__ import annotations

import collections

import msgspec
import numpy as np

from online.drift.detection import Detection
from online.storage.metrics_store import Alarm

__all__ = ["WEEK_SECONDS", "AlarmPolicy", "DetectionContext"]

WEEK_SECONDS = 7 * 86400.0
MAX_ERRORS = 10_000  # kept, so that the errors before and since a change can be told apart
BASE_ERRORS = 1000  # before the change, that the usual error is the mean of
END_LABELS = 300  # labels that the end of an event is judged by
END_CHECK_LABELS = 50  # labels between two such judgements
END_RATIO = 1.1  # an event has ended when the error is back to so many times the one before
MAX_COST_LABELS = 50_000  # an event that never ends stops being charged after so many


class DetectionContext(msgspec.Struct, frozen=True):
    """When and where a detection was made.

    Parameters
    ----------
    at
        That moment in unix seconds.
    row
        The served row reached, by its number in the prediction log.
    seq
        The last label known, by its journal sequence number.
    since, since_row
        When the change began: unix seconds, and the served row's number.
    """

    at: float
    row: int
    seq: int
    since: float
    since_row: int


class AlarmPolicy:
    """The events of one stream, of which the last one may still go on.

    Parameters
    ----------
    cooldown_rows
        Served rows within which another detection belongs to the same event.
    alarms_per_week
        Alarms at most that are not muted.
    raised_at
        When the alarms of the last week that were not muted were raised, in unix seconds.
    """

    def __init__(self, cooldown_rows: int, alarms_per_week: int, raised_at: list[float]) -> None:
        self._cooldown_rows = cooldown_rows
        self._alarms_per_week = alarms_per_week
        self._raised_at = raised_at
        self._last_row = 0
        self._base_error = 0.0
        self._errors: collections.deque[tuple[float, float]] = collections.deque(maxlen=MAX_ERRORS)
        self.last: Alarm | None = None

    def add(self, detection: Detection, context: DetectionContext) -> Alarm:
        """Take in a detection.

        Parameters
        ----------
        detection
            What a detector found.
        context
            When and where.

        Returns
        -------
        Alarm
            A new one, or the last one when the detection belongs to it.
        """
        last = self.last
        if last is not None and context.row - self._last_row <= self._cooldown_rows:
            subjects = dict.fromkeys((*last.also, detection.subject))
            also = tuple(name for name in subjects if name != last.subject)
            self.last = msgspec.structs.replace(last, also=also, times=last.times + 1)
        else:
            is_error = detection.kind == "error"
            self._base_error = detection.before if is_error else self._usual_error(context.since)
            muted = self._over_budget(context.at)
            self.last = new_alarm(detection, context, muted)
            for served_at, error in self._errors:  # labels of rows served since the change, already here
                self._charge(served_at, error)
        self._last_row = context.row
        return self.last

    def add_error(self, served_at: float, error: float) -> bool:
        """Take in the error of one served prediction.

        Parameters
        ----------
        served_at
            When it was served, in unix seconds.
        error
            Absolute error in target units.

        Returns
        -------
        bool
            Whether the last alarm changed: it cost more, or its event ended.
        """
        self._errors.append((served_at, error))
        before = self.last
        self._charge(served_at, error)
        last = self.last
        if last is None or last.ended_at is not None:
            return self.last is not before
        if last.cost_labels >= END_LABELS and last.cost_labels % END_CHECK_LABELS == 0:
            recent = np.array(self._errors)[-END_LABELS:, 1]
            if recent.mean() <= END_RATIO * self._base_error:
                self.last = msgspec.structs.replace(last, ended_at=served_at)
        return self.last is not before

    def _charge(self, served_at: float, error: float) -> None:
        """Add an error beyond the usual to the cost of the event under way."""
        last = self.last
        if last is None or last.cost is None or last.ended_at is not None or served_at < (last.since or 0.0):
            return
        if last.cost_labels < MAX_COST_LABELS:
            cost = last.cost + error - self._base_error
            self.last = msgspec.structs.replace(last, cost=cost, cost_labels=last.cost_labels + 1)

    def _usual_error(self, since: float) -> float:
        """The mean error of the rows served before a change; of all while none of these has a label."""
        errors = [error for served_at, error in self._errors if served_at < since][-BASE_ERRORS:]
        errors = errors or [error for _, error in self._errors]
        return float(np.mean(errors)) if errors else 0.0

    def _over_budget(self, now: float) -> bool:
        self._raised_at = [at for at in self._raised_at if at > now - WEEK_SECONDS]
        if len(self._raised_at) >= self._alarms_per_week:
            return True
        self._raised_at.append(now)
        return False


def new_alarm(detection: Detection, context: DetectionContext, muted: bool) -> Alarm:
    """The alarm of a new event, which has cost nothing yet."""
    return Alarm(
        seq=context.seq,
        at=context.at,
        detector=detection.detector,
        subject=detection.subject,
        before=detection.before,
        after=detection.after,
        message=detection.message,
        kind=detection.kind,
        since=context.since,
        since_row=context.since_row,
        cost=0.0,
        muted=muted,
    )
