"""Drift of the error of predictions as served.

An absolute error e enters as

    score = e / (e + w)

with w the half-width of the interval it was served with. The score is in [0, 1) whatever the target's unit,
and hardly sees how far beyond the usual a single error lies. As the interval knows where and when errors are
large, it is about the same in every season.

Two tests watch the score rise: Page's CUSUM, fast where the rise is abrupt (:mod:`online.drift.cusum`), and,
for slow rises, a cut in the manner of ADWIN (Bifet and Gavaldà 2007, "Learning from time-changing data with
adaptive windowing") over the labels since the last rise: the two sides of some cut differ by more than

    sqrt(2 log(looks)) * deviation * sqrt(1 / n0 + 1 / n1)

a normal bound over all the looks of a run length. ADWIN's own bound is one for independent values; the errors
are not, and their long-run deviation is what enters here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from online.drift.cusum import ALLOWANCES, CusumBank, long_run_deviation
from online.drift.detection import Detection
from online.drift.last_month import BASELINE_STEP
from online.storage.metrics_store import format_quantity

__all__ = ["ErrorDriftDetector"]

Floats = npt.NDArray[np.float64]

MAX_RECENT_ERRORS = 10_000  # kept, to compare with and to describe a rise by
WARMUP_LABELS = 500  # that say what is usual
ERROR_LAG_LABELS = (
    150  # between last month and now: a rise found within so many labels is not part of last month
)
CUT_STEP = 50  # labels between two looks for a cut, and between two positions of it
MAX_CUT_LABELS = 3000  # looked at for a cut
MIN_CUT_SIDE = 100  # labels on each side
MIN_RISE = 3.0  # standard errors by which the error itself must have risen, beside the score


class ErrorDriftDetector:
    """The detectors of the error.

    Parameters
    ----------
    month
        Labels in a month.
    labels_per_alarm
        Labels after which the detectors together may have alarmed falsely once.
    """

    def __init__(self, month: int, labels_per_alarm: float) -> None:
        # one direction only: a falling error is no alarm; the cut is the one test more
        self._run_length = labels_per_alarm * (len(ALLOWANCES) + 1)
        self._quiet_labels = month
        self._scores: list[float] = []
        self._errors: list[float] = []
        self._bank: CusumBank | None = None  # none during the warm-up
        self._cut_start = 0
        self._quiet_until = 0
        self._deviation = 1.0
        self.labels = 0

    def update(self, errors: Floats, half_widths: Floats) -> Iterator[Detection]:
        """Take in labels. What is found does not depend on how they are cut into calls.

        Parameters
        ----------
        errors
            Absolute errors in target units, (n,).
        half_widths
            Of the intervals as served, in target units, (n,).

        Yields
        ------
        Detection
            A rise, its indices counted from the first label ever taken in.
        """
        total = errors + half_widths
        scores = np.divide(errors, total, out=np.zeros(len(errors)), where=total > 0.0)
        while len(scores):
            size = BASELINE_STEP - self.labels % BASELINE_STEP
            yield from self._step(scores[:size], errors[:size])
            scores, errors = scores[size:], errors[size:]

    def _step(self, scores: Floats, errors: Floats) -> Iterator[Detection]:
        """Take in labels that do not reach over a multiple of BASELINE_STEP."""
        first = self.labels
        self.labels += len(scores)
        self._scores = [*self._scores, *scores.tolist()][-MAX_RECENT_ERRORS:]
        self._errors = [*self._errors, *errors.tolist()][-MAX_RECENT_ERRORS:]
        if self._bank is None:
            if self.labels >= WARMUP_LABELS and self.labels % BASELINE_STEP == 0:
                self._end_warmup()
            return
        levels, starts = self._bank.update((scores - self._usual_score(len(scores)))[:, None], first)
        if self._quiet_until > first:
            self._bank.reset(0, self.labels)
            return
        rising = levels[:, 0, :, 0]
        if rising.max() > 1.0:
            row = int(np.argmax(rising.max(axis=1) > 1.0))
            change_index = int(starts[row, 0, int(rising[row].argmax()), 0])
            yield from self._risen("cusum", first + row, change_index)
        elif self.labels % CUT_STEP == 0 and (cut := self._cut()) is not None:
            yield from self._risen("adwin", self.labels - 1, cut)

    def _usual_score(self, new: int) -> float:
        """Last month's mean score, before the lag and the ``new`` labels just taken in."""
        end = -ERROR_LAG_LABELS - new
        before = self._scores[end - self._quiet_labels : end]
        # while last month is short, its mean is less certain than the thresholds assume
        uncertainty = self._deviation * (len(before) ** -0.5 - self._quiet_labels**-0.5)
        return float(np.mean(before) + max(0.0, uncertainty))

    def _end_warmup(self) -> None:
        """Learn from the labels so far how much the scores vary."""
        self._deviation = float(long_run_deviation(np.array(self._scores)[:, None])[0])
        self._bank = CusumBank(np.array([self._deviation]), self._run_length, self._quiet_labels)

    def _cut(self) -> int | None:
        """The label from which on the score is higher by more than chance, if there is one."""
        scores = np.array(self._scores[-min(MAX_CUT_LABELS, self.labels - self._cut_start) :])
        cuts = np.arange(len(scores) - MIN_CUT_SIDE, MIN_CUT_SIDE - 1, -CUT_STEP)
        if len(cuts) == 0:
            return None
        sums = np.cumsum(scores)
        before = sums[cuts - 1] / cuts
        after = (sums[-1] - sums[cuts - 1]) / (len(scores) - cuts)
        standard_error = self._deviation * np.sqrt(1.0 / cuts + 1.0 / (len(scores) - cuts))
        looks = self._run_length / CUT_STEP * len(cuts)
        rise = (after - before) / standard_error
        best = int(rise.argmax())
        if rise[best] <= math.sqrt(2.0 * math.log(looks)):
            return None
        return self.labels - len(scores) + int(cuts[best])

    def _risen(self, detector: str, index: int, change_index: int) -> Iterator[Detection]:
        """Describe a rise, quiet until last month has it too. None where only the intervals got narrower."""
        errors = np.array(self._errors)
        cut = min(max(1, len(errors) - (self.labels - change_index)), len(errors) - 1)
        before, after = errors[:cut][-self._quiet_labels :], errors[cut:]
        self._cut_start = self.labels
        if self._bank is not None:
            self._bank.reset(0, self.labels)
        if after.mean() - before.mean() <= MIN_RISE * before.std() / math.sqrt(len(after)):
            return
        self._quiet_until = self.labels + self._quiet_labels
        usual, now = float(before.mean()), float(after.mean())
        message = (
            f"the error of served predictions rose from {format_quantity(usual)} to {format_quantity(now)}"
        )
        yield Detection("error", "error", detector, index, change_index, usual, now, message)
