"""Ways to combine experts' outputs, as they are and as they were."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "HeadHistory", "Heads"]

Array = npt.NDArray[np.float64]

STRIDE = 8  # labels between two kept states
KEPT = 128  # states: heads are known as they were up to a thousand labels ago


class Heads(NamedTuple):
    """Ways to combine experts' outputs, and their shares in the prediction.

    With the outputs ``o`` (k,), the prediction is the sum over heads ``q`` of ``share[q]`` times
    ``bias[q] + weights[q] . o``, which is first put between the lowest output minus ``margin[q]`` and the
    highest plus ``margin[q]``.
    """

    weights: Array  # (heads, k)
    bias: Array  # (heads,), target units
    margin: Array  # (heads,), target units, not below zero
    share: Array  # (heads,), on the simplex

    def outputs(self, outputs: Array) -> Array:
        """What each head makes of the experts' outputs (k,), in target units, (heads,)."""
        lines = self.bias + self.weights @ outputs
        return np.clip(lines, outputs.min() - self.margin, outputs.max() + self.margin)

    def combine(self, outputs: Array) -> float:
        """The prediction for experts' outputs (k,), in target units."""
        return float(self.share @ self.outputs(outputs))


class HeadHistory:
    """Heads as they were so many labels ago, so that each is judged by what it would have served.

    A state is kept every 8 labels, the last 128 of them.
    """

    def __init__(self) -> None:
        self._kept: list[Heads] = []
        self._learned = 0

    def keep(self, heads: Heads) -> None:
        """Note the heads after one more label."""
        if self._learned % STRIDE == 0:
            self._kept.append(heads)
            del self._kept[:-KEPT]
        self._learned += 1

    def ago(self, labels: int, now: Heads) -> Heads:
        """The heads as they were about so many labels ago, never newer ones than that where there are any."""
        if labels <= 0 or not self._kept:
            return now
        since = (self._learned - 1) % STRIDE  # labels since the newest kept state
        back = max(0, -((since - labels) // STRIDE))
        return self._kept[max(0, len(self._kept) - 1 - back)]
