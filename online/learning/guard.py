"""The guard: the last good snapshot is scored on every label beside what was served.

The test is a Shiryaev-Roberts e-detector (Shin, Ramdas and Rinaldo 2023, section 3) on bets against "the
live model is no worse" (Waudby-Smith and Ramdas 2024): one label's difference is
(live - reference) / (live + reference) of the absolute errors, in [-1, 1] whatever the target's unit;
the mean d of a block of labels multiplies what was bet at stake s by 1 + s * d. As long as no block is
expected to be worse, alarms are at least ``labels_per_false_alarm`` labels apart on average, whenever one
looks; a block is long enough for a day's good and bad hours to even out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from online.core.config import GuardConfig
from online.core.errors import SnapshotError
from online.learning.reference_model import Bystander, Floats
from online.scoring.plan import ScoringPlan
from online.storage.metrics_store import Alarm, in_words
from online.storage.records import Record

__all__ = ["Guard", "Shadow"]

BLOCK = 24  # labels
STAKES = (0.1, 0.3, 0.6, 0.9)
FADING = 0.01  # of the errors an alarm tells


class Guard:
    """What the test has seen; pickled with the fold's state.

    Attributes
    ----------
    version
        The snapshot compared with, None before there is one.
    candidate
        The next one, once it has proven itself.
    labels
        Outcomes since the candidate was taken.
    """

    def __init__(self) -> None:
        self.version: int | None = None
        self.candidate: int | None = None
        self.follow(None)

    def follow(self, version: int | None) -> None:
        """Compare with a snapshot from now on."""
        self.version, self.candidate, self.labels = version, None, 0
        self.live = self.reference = math.nan
        self._wealth = [0.0] * len(STAKES)
        self._block: list[float] = []

    @property
    def evidence(self) -> float:
        """What the bets have come to: labels per false alarm over BLOCK is where it alarms."""
        return sum(self._wealth) / len(self._wealth)

    def update(self, live: float, reference: float) -> None:
        """Take in one label's absolute errors."""
        self.labels += 1
        self.live = faded(self.live, live)
        self.reference = faded(self.reference, reference)
        self._block.append((live - reference) / (live + reference) if live + reference > 0.0 else 0.0)
        if len(self._block) == BLOCK:
            mean = sum(self._block) / BLOCK
            self._wealth = [
                (wealth + 1.0) * (1.0 + stake * mean)
                for wealth, stake in zip(self._wealth, STAKES, strict=True)
            ]
            self._block.clear()


class Shadow:
    """Scores the guard's snapshot beside the live model, and moves it on.

    Parameters
    ----------
    guard
        The test's state, changed in place.
    settings
        How rare a false alarm is, and when a snapshot counts as good.
    plan
        Gives a version's plan. Raises SnapshotError when it cannot be had.
    """

    def __init__(self, guard: Guard, settings: GuardConfig, plan: Callable[[int], ScoringPlan]) -> None:
        self.guard = guard
        self._settings = settings
        self._plan_of = plan
        self._reference: Bystander | None = None

    def offer(self, version: int) -> None:
        """A snapshot was taken: compared with once it has proven itself, at once when there is none."""
        if self.guard.version is None:
            self.follow(version)
        elif self.guard.candidate is None:
            self.guard.candidate, self.guard.labels = version, 0

    def follow(self, version: int) -> None:
        """Compare with a version from now on."""
        self.guard.follow(version)
        self._reference = None

    def meet(self, records: Sequence[Record], values: Floats) -> None:
        """Look at labels together that are about to be learned one by one, with their encoded rows."""
        if (reference := self._at_hand()) is not None:
            reference.meet(records, values)

    def look(self, record: Record) -> Alarm | None:
        """Score a label that had a served prediction; an alarm when live has become worse."""
        guard, reference = self.guard, self._at_hand()
        if reference is None or record.target is None or record.prediction is None:
            return None
        scored = abs(record.target - reference.says(record))
        guard.update(abs(record.target - record.prediction), scored)
        bound = self._settings.labels_per_false_alarm / BLOCK
        if guard.evidence >= bound:
            return self._alarm(record, reference.plan.info.version)
        proven = guard.labels >= self._settings.proven_labels and guard.evidence < math.sqrt(bound)
        if guard.candidate is not None and proven:
            self.follow(guard.candidate)
        return None

    def _at_hand(self) -> Bystander | None:
        if self._reference is None and self.guard.version is not None:
            try:
                self._reference = Bystander(self._plan_of(self.guard.version), as_served=True)
            except SnapshotError:
                self.guard.follow(None)  # the next snapshot will do
        return self._reference

    def _alarm(self, record: Record, version: int) -> Alarm:
        live, reference = self.guard.live, self.guard.reference
        self.follow(version)
        return Alarm(
            record.seq, record.received_at, "guard", "model", reference, live,
            f"the live model has become worse than model_v{version}: an error of {in_words(live)},"
            f" not {in_words(reference)}", kind="operation",
        )  # fmt: skip


def faded(mean: float, value: float) -> float:
    """A faded mean, from its first value on."""
    return value if math.isnan(mean) else mean + FADING * (value - mean)
