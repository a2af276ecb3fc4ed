"""A sequential test of whether the live model has become worse than a reference model.

It is a Shiryaev-Roberts e-detector (Shin, Ramdas and Rinaldo 2023, section 3) on bets against "the live
model is no worse" (Waudby-Smith and Ramdas 2024). For one label the difference is

    (live - reference) / (live + reference)

of the absolute errors, in [-1, 1] whatever the target's unit. The mean d of a block of labels multiplies
what was bet at stake s by 1 + s * d. As long as no block is expected to be worse, alarms are at least
``labels_per_false_alarm`` labels apart on average, however often one looks.
"""

from __future__ import annotations

import math

__all__ = ["LABELS_PER_BET", "EDetector"]

LABELS_PER_BET = 24  # a block is a day of hourly labels, so that good and bad hours of a day even out
# A small stake finds a small difference after a long time, a large one a large difference at once: a
# mixture of several needs no guess of how much worse the live model will be. 1 would lose all at d = -1.
STAKES = (0.1, 0.3, 0.6, 0.9)
ERROR_FADING = 0.01  # of the mean errors that an alarm reports: about the last hundred labels


class EDetector:
    """The evidence so far; pickled with the fold's state, so its attributes keep their names.

    Attributes
    ----------
    version
        The snapshot that is compared with, None before there is one.
    candidate
        The snapshot to compare with next, once it has proven itself.
    labels
        Labels compared since the candidate was taken.
    live, reference
        Faded mean absolute errors of the live model and of the reference, NaN before any label.
    """

    def __init__(self) -> None:
        self.version: int | None = None
        self.candidate: int | None = None
        self.restart(None)

    def restart(self, version: int | None) -> None:
        """Forget the evidence; compare with a snapshot from now on, with None for no one."""
        self.version, self.candidate, self.labels = version, None, 0
        self.live = self.reference = math.nan
        self._wealth = [0.0] * len(STAKES)
        self._block: list[float] = []

    @property
    def evidence(self) -> float:
        """The mean wealth of the bets.

        The test alarms where it reaches ``labels_per_false_alarm / LABELS_PER_BET``.
        """
        return sum(self._wealth) / len(self._wealth)

    def update(self, live: float, reference: float) -> None:
        """Add one label.

        Parameters
        ----------
        live, reference
            Absolute errors of the prediction as served and of the reference model's, in target units.
        """
        self.labels += 1
        self.live = faded_mean(self.live, live)
        self.reference = faded_mean(self.reference, reference)
        self._block.append((live - reference) / (live + reference) if live + reference > 0.0 else 0.0)
        if len(self._block) == LABELS_PER_BET:
            self._bet(sum(self._block) / LABELS_PER_BET)
            self._block.clear()

    def _bet(self, difference: float) -> None:
        # A detector starts a new test with every block (the + 1.0): a change is found however late it comes.
        self._wealth = [
            (wealth + 1.0) * (1.0 + stake * difference)
            for wealth, stake in zip(self._wealth, STAKES, strict=True)
        ]


def faded_mean(mean: float, value: float) -> float:
    """The exponentially faded mean with one more value; that value where there was no mean yet."""
    return value if math.isnan(mean) else mean + ERROR_FADING * (value - mean)
