"""Publishing: the model becomes a plan in a file, which the scorers swap to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from online.core.errors import PlanError
from online.learning.stage_timer import StageTimer
from online.scoring.plan import ScoringPlan

__all__ = ["PlanPublisher"]

log = logging.getLogger(__name__)

# When no label waits, the next plan comes after so many times what the last one took: every scorer has to
# read each, and a learner that did nothing but publish would leave them little time to answer.
PUBLISH_REST = 2.0
PUBLISH_RETRY_SECONDS = 1.0


class PlanPublisher:
    """Writes the plan that is served, when the model has changed and it is time.

    Parameters
    ----------
    path
        The plan that is served.
    compile_model
        Compiles the model as it is now.
    publish_seconds
        The time between two plans while labels wait to be learned.
    clock
        Unix seconds.
    timer
        Told how long it takes.

    Attributes
    ----------
    error : str or None
        Why the plan cannot be written, until it can.
    served_seq : int
        The seq of the plan that is served, 0 when there is none.
    """

    def __init__(
        self,
        path: Path,
        compile_model: Callable[[], ScoringPlan],
        publish_seconds: float,
        clock: Callable[[], float],
        timer: StageTimer,
    ) -> None:
        self._path = path
        self._compile = compile_model
        self._publish_seconds = publish_seconds
        self._clock = clock
        self._timer = timer
        self._changed = True
        self._published_at = clock()
        self._took_seconds: float | None = None
        self.error: str | None = None
        self.served_seq = served_seq(path)

    def mark_changed(self) -> None:
        """Note that the plan that is served is no longer the model."""
        self._changed = True

    def publish_when_due(self, seq: int, *, idle: bool) -> None:
        """Publish a changed model if it is time.

        Parameters
        ----------
        seq
            The last journal record that the model has learned.
        idle
            Whether no label waits: then it is time soon after the last plan.
        """
        pause = self._publish_seconds
        if idle:
            pause = min(pause, PUBLISH_REST * (self._took_seconds or 0.0))
        if self._clock() - self._published_at >= pause:
            self.publish(seq)

    def publish(self, seq: int) -> None:
        """Publish a changed model now, unless scorers serve one that has learned more.

        After a crash the learner begins at a snapshot that is older than the plan. Predictions must not get
        worse while it catches up.
        """
        if not self._changed or seq < self.served_seq:
            return
        began = self._clock()
        try:
            with self._timer.measure("publish"):
                self._compile().save(self._path)
        except OSError as exc:
            self.error = f"the plan cannot be written, scoring goes on from the last one: {exc}"
            log.error("%s", self.error)
            self._published_at = self._clock() + PUBLISH_RETRY_SECONDS
            return
        self.served_seq = seq
        self._changed = False
        self.error = None
        self._published_at = self._clock()
        # the first one may have waited for kernels to be compiled, and says nothing of the next
        self._took_seconds = 0.0 if self._took_seconds is None else self._published_at - began


def served_seq(path: Path) -> int:
    """The seq of a published plan, 0 when there is none that can be read."""
    try:
        return ScoringPlan.load(path).info.seq
    except PlanError as exc:
        log.warning("the plan has to be written anew: %s", exc)
        return 0
