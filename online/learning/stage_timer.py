"""What a learner spends its time on, for ``GET /model`` and the metrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Literal

__all__ = ["StageTimer"]

Stage = Literal["learn", "publish", "snapshot", "history"]
LEARNER_STAGES: tuple[Stage, ...] = ("learn", "publish", "snapshot", "history")


class StageTimer:
    """Adds up the time spent in each stage.

    Attributes
    ----------
    busy_seconds
        By stage, since this was made; every stage is there from the beginning.
    """

    def __init__(self) -> None:
        self.busy_seconds: dict[str, float] = dict.fromkeys(LEARNER_STAGES, 0.0)

    @contextlib.contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Add the time the block takes to a stage's; a stage inside another one counts for both."""
        started_at = time.perf_counter()
        try:
            yield
        finally:
            self.busy_seconds[stage] += time.perf_counter() - started_at
