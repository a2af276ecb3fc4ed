"""Ways to combine experts' outputs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Heads"]

Array = npt.NDArray[np.float64]


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
