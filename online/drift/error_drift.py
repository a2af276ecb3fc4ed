"""Drift of the error of predictions as served.

An absolute error enters as e / (e + w), w the half-width of the interval it was served with: in [0, 1)
whatever the target's unit, blind to how far beyond usual a single error lies, and, as the interval knows
where and when errors are large, the same in every season. Two tests watch it rise: Page-Hinkley's, fast
where the rise is abrupt, and the cut of ADWIN (Bifet and Gavaldà 2007) over the labels since the last
rise, for slow ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from online.drift.cusum import ALLOWANCES, CusumBank, long_run_deviation
from online.drift.detection import Detection
from online.drift.shift import STEP
from online.storage.metrics_store import in_words

__all__ = ["ErrorDrift"]

Floats = npt.NDArray[np.float64]

KEPT = 10_000  # errors at hand to describe a rise by
WARMUP = 500  # labels that say what is usual
LAG = 150  # labels between last month and now
CUT_EVERY = 50  # labels between two looks for a cut, and between two places for it
CUT_WITHIN = 3000  # labels looked at for a cut
SMALLEST_SIDE = 100
CHANCE = 3.0  # standard errors by which the error itself has risen


class ErrorDrift:
    """The detectors of the error.

    Parameters
    ----------
    month
        Labels in a month.
    labels_per_alarm
        Labels after which the detectors together may have alarmed falsely once.
    """

    def __init__(self, month: int, labels_per_alarm: float) -> None:
        self._run_length = labels_per_alarm * (len(ALLOWANCES) + 1)
        self._quiet = month
        self._scores: list[float] = []
        self._errors: list[float] = []
        self._bank: CusumBank | None = None
        self._since = 0
        self._muted = 0
        self._deviation = 1.0
        self.place = 0

    def update(self, errors: Floats, half_widths: Floats) -> Iterator[Detection]:
        """Take in absolute errors and half-widths of intervals, in target units, (n,) each."""
        total = errors + half_widths
        scores = np.divide(errors, total, out=np.zeros(len(errors)), where=total > 0.0)
        while len(scores):
            size = STEP - self.place % STEP
            yield from self._step(scores[:size], errors[:size])
            scores, errors = scores[size:], errors[size:]

    def _step(self, scores: Floats, errors: Floats) -> Iterator[Detection]:
        first = self.place
        self.place += len(scores)
        self._scores = [*self._scores, *scores.tolist()][-KEPT:]
        self._errors = [*self._errors, *errors.tolist()][-KEPT:]
        if self._bank is None:
            if self.place >= WARMUP and self.place % STEP == 0:
                self._settle()
            return
        before = self._scores[-LAG - len(scores) - self._quiet : -LAG - len(scores)]
        # while last month is short, its mean is less sure than the thresholds reckon with
        unsure = self._deviation * (len(before) ** -0.5 - self._quiet**-0.5)
        usual = np.mean(before) + max(0.0, unsure)
        levels, begun = self._bank.update((scores - usual)[:, None], first)
        if self._muted > first:
            self._bank.reset(0, self.place)
            return
        rising = levels[:, 0, :, 0]
        if rising.max() > 1.0:
            row = int(np.argmax(rising.max(axis=1) > 1.0))
            since = int(begun[row, 0, int(rising[row].argmax()), 0])
            yield from self._risen("page-hinkley", first + row, since)
        elif self.place % CUT_EVERY == 0 and (cut := self._cut()) is not None:
            yield from self._risen("adwin", self.place - 1, cut)

    def _settle(self) -> None:
        """Learn how much the scores vary from the labels so far."""
        self._deviation = float(long_run_deviation(np.array(self._scores)[:, None])[0])
        self._bank = CusumBank(np.array([self._deviation]), self._run_length, self._quiet)

    def _cut(self) -> int | None:
        """The place from which the error is higher by more than chance, if there is one."""
        kept = np.array(self._scores[-min(CUT_WITHIN, self.place - self._since) :])
        after = np.arange(len(kept) - SMALLEST_SIDE, SMALLEST_SIDE - 1, -CUT_EVERY)
        if len(after) == 0:
            return None
        sums = np.cumsum(kept)
        low = sums[after - 1] / after
        high = (sums[-1] - sums[after - 1]) / (len(kept) - after)
        spread = self._deviation * np.sqrt(1.0 / after + 1.0 / (len(kept) - after))
        looks = self._run_length / CUT_EVERY * len(after)
        over = (high - low) / spread
        best = int(over.argmax())
        return (
            self.place - len(kept) + int(after[best])
            if over[best] > math.sqrt(2.0 * math.log(looks))
            else None
        )

    def _risen(self, detector: str, place: int, since: int) -> Iterator[Detection]:
        """Describe the rise, silent until last month has it. None where only the intervals became
        narrower."""
        kept = np.array(self._errors)
        cut = min(max(1, len(kept) - (self.place - since)), len(kept) - 1)
        before, after = kept[:cut][-self._quiet :], kept[cut:]
        self._since = self.place
        if self._bank is not None:
            self._bank.reset(0, self.place)
        if after.mean() - before.mean() <= CHANCE * before.std() / math.sqrt(len(after)):
            return
        self._muted = self.place + self._quiet
        was, now = float(before.mean()), float(after.mean())
        text = f"the error of served predictions rose from {in_words(was)} to {in_words(now)}"
        yield Detection("error", "error", detector, place, since, was, now, text)
