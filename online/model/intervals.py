"""Prediction intervals from the errors of predictions as served, wider where the model errs more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from online.core.jit import kept
from online.features.context import Place
from online.features.error_scale import Difficulty

__all__ = ["REMEMBERED", "ConformalInterval"]

Array = npt.NDArray[Any]

RATES = (0.001, 0.005, 0.02, 0.05)  # of the adaptive levels; none is best on every stream
OUTER = 0.03  # step of the last correction, in the logarithm of the bound
LATE, LATE_FADING = 8.0, 0.05  # a label that many labels late is half as late as can be
SPARED, MOST_SPARED = 0.05, 0.0025  # of a side's misses, and of all labels: not used up while labels are late
WINDOW = 8000
REMEMBERED = 1024  # labels: a prediction older than that is judged by the bounds of so many labels ago
BELOW, ABOVE, EITHER = 0, 1, 2
TINY = 1e-12
LARGEST = 1e6  # a scaled residual beyond that counts as so large


class ConformalInterval:
    """Interval around a prediction that goes on holding a share of the labels, whatever the model does.

    Residuals are divided by the row's difficulty, as in locally weighted conformal prediction [1]_. Each side
    has bounds of its own for them. Adaptive conformal inference [2]_ runs at several rates: after a label a
    rate's level moves down if the label lay beyond the bound the rate had when the prediction was served,
    and a little up if not; its next bound is that quantile of the window. A side's bounds are combined by
    their regrets in pinball loss, as AgACI does [3]_ with BOA; the weights here are those of ML-Poly [4]_,
    which has no rate to choose. Pinball loss may favour bounds that are a little too close, so the combined
    bound is stretched by a factor that is itself moved by how often labels lay beyond it.

    While labels are late, predictions go wrong for as long before it shows, many at once and often in one
    direction. The later labels are, the slower levels move, since feedback that is late makes quick ones
    swing; the more a side's bound is that of residuals without sign, since the last errors seen do not tell
    the direction of the next; and the more coverage is aimed at, since what is held varies from stretch to
    stretch.

    Parameters
    ----------
    coverage
        Share of labels the interval aims to hold, in (0, 1).
    by
        Places of the columns that make a slot.
    window
        How many scaled residuals are kept.

    References
    ----------
    .. [1] Lei, J. et al., 2018. Distribution-free predictive inference for regression. JASA 113, section 5.2.
    .. [2] Gibbs, I., Candès, E., 2021. Adaptive conformal inference under distribution shift. NeurIPS,
       equation 2.
    .. [3] Zaffran, M., Féron, O., Goude, Y., Josse, J., Dieuleveut, A., 2022. Adaptive conformal predictions
       for time series. ICML, algorithm 1.
    .. [4] Gaillard, P., Stoltz, G., van Erven, T., 2014. A second-order bound with excess losses. COLT,
       theorem 1.

    Examples
    --------
    >>> import random
    >>> from online.model.intervals import ConformalInterval
    >>> rng = random.Random(7)
    >>> interval = ConformalInterval(coverage=0.8)
    >>> for _ in range(2000):
    ...     interval.update([], spread=1.0, residual=rng.gauss(0, 1), delay=0)
    >>> below, above = interval.get([], spread=1.0)
    >>> round(below, 1), round(above, 1)
    (1.3, 1.3)
    """

    def __init__(self, coverage: float, by: Sequence[Place] = (), window: int = WINDOW) -> None:
        self.difficulty = Difficulty(by)
        self._miss = (1.0 - coverage) / 2.0
        self._recent = np.zeros(window)  # scaled residuals, a ring
        self._ordered = np.zeros((2, window))  # with sign and without
        self._levels = np.outer([1.0, 1.0, 2.0], np.full(len(RATES), self._miss))
        self._regrets = np.zeros((3, len(RATES), 2))  # in pinball loss: summed, and their squares summed
        self._stretch = np.zeros(2)  # logarithms
        self._past = np.zeros((REMEMBERED, 3, len(RATES) + 1))  # after each label, a ring: bounds, combined
        self._count = 0
        self._late = 0.0  # faded mean lateness of labels

    @property
    def coverage(self) -> float:
        """Share of labels the interval aims to hold; a new value is approached label by label."""
        return 1.0 - 2.0 * self._miss

    @coverage.setter
    def coverage(self, share: float) -> None:
        miss = (1.0 - share) / 2.0
        self._levels += np.array([[1.0], [1.0], [2.0]]) * (miss - self._miss)
        self._miss = miss

    def update(
        self, values: Sequence[float], spread: float, residual: float, delay: int, width: float = 0.0
    ) -> None:
        """Take in the residual (label minus prediction as served) of an encoded row.

        Parameters
        ----------
        values
            The encoded row, which tells its slot.
        spread
            How far the experts' outputs stood apart as served, in target units.
        residual
            In target units, finite.
        delay
            How many labels were learned between the prediction and its label.
        width
            Of the interval as served, in target units; 0 where there was none. It tells the row's difficulty
            as it was when it was served.
        """
        self._late += max(LATE_FADING, 1.0 / (1 + self._count)) * (lateness(delay) - self._late)
        scale = self._scale_of(width, delay) or self.difficulty.get(values, spread)
        if scale > 0.0:
            scaled = min(max(residual / scale, -LARGEST), LARGEST)
            learn(
                self._levels, self._regrets, self._stretch, self._past, self._recent, self._ordered,
                self._count, scaled, self._wanted(), delay, self._late,
            )  # fmt: skip
            self._count += 1
        self.difficulty.update(values, spread, abs(residual), self._late)

    def _wanted(self) -> float:
        """The share of labels that may lie beyond a side's bound."""
        return self._miss - self._late * min(SPARED * self._miss, MOST_SPARED)

    def _scale_of(self, width: float, delay: int) -> float:
        """The difficulty behind an interval of ``delay`` labels ago; 0 where it cannot be told."""
        reached = sum(reach(self._met(delay))) if self._count and width > 0.0 else 0.0
        return width / reached if reached > 0.0 else 0.0

    def _met(self, delay: int) -> Array:
        """The bounds after the label that came ``delay`` labels ago."""
        met: Array = self._past[place_of(self._count, delay)]
        return met

    def factors(self) -> tuple[float, float]:
        """How many times a row's difficulty the interval reaches below and above the prediction."""
        if not self._count:
            return (0.0, 0.0)
        return reach(self._met(0))

    def get(self, values: Sequence[float], spread: float) -> tuple[float, float]:
        """How far the interval reaches below and above a row's prediction, in target units."""
        below, above = self.factors()
        scale = self.difficulty.get(values, spread)
        return below * scale, above * scale

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_late" not in state:
            raise ValueError("this interval was pickled by another version of Millrace")


@kept
def lateness(delay: int) -> float:
    """How late a label is that comes ``delay`` labels after its prediction: 0 if at once, 1 at most."""
    return max(delay, 0) / (max(delay, 0) + LATE)


@kept
def place_of(count: int, delay: int) -> int:
    """Where the bounds lie after the label that came ``delay`` labels ago, when so many have come."""
    return (count - 1 - min(max(delay, 0), count - 1, REMEMBERED - 1)) % REMEMBERED


def reach(met: Array) -> tuple[float, float]:
    """How many times the difficulty an interval reaches below and above, by its bounds (3, K + 1)."""
    below, above = met[:EITHER, -1].tolist()
    return (below, above) if below + above >= 0.0 else ((below - above) / 2.0, (above - below) / 2.0)


@kept
def combined(bounds: Array, regrets: Array) -> float:
    """One side's bounds (K, ...) of each rate, weighted by their regrets (K, 2)."""
    total, mean, plain = 0.0, 0.0, 0.0
    for k in range(len(regrets)):
        plain += bounds[k] / len(regrets)
        if regrets[k, 0] > 0.0:
            weight = regrets[k, 0] / (TINY + regrets[k, 1])
            total += weight
            mean += weight * bounds[k]
    return mean / total if total > 0.0 else plain


@kept
def signed(scaled: float, side: int) -> float:
    """A residual as it counts for a side."""
    return abs(scaled) if side == EITHER else scaled if side == ABOVE else -scaled


@kept
def adapt(
    levels: Array, regrets: Array, stretch: Array, met: Array, scaled: float, miss: float, slowed: float
) -> None:
    """Move levels (3, K), regrets (3, K, 2), stretch (2,) by a residual and the bounds (3, K + 1) it met.

    ``miss`` is the share of labels wanted beyond a side's bound; ``slowed`` a factor of all rates.
    """
    for side in range(3):
        beyond, wanted = signed(scaled, side), 2.0 * miss if side == EITHER else miss
        together = combined(met[side], regrets[side])
        slope = wanted - (beyond > together)  # of the pinball loss in the bound
        for k in range(len(RATES)):
            regret = slope * (together - met[side, k])
            regrets[side, k, 0] += regret
            regrets[side, k, 1] += regret * regret
            levels[side, k] += RATES[k] * slowed * (wanted - (beyond > met[side, k]))
        if side != EITHER:
            moved = stretch[side] + OUTER * slowed * ((beyond > met[side, -1]) - wanted)
            stretch[side] = min(max(moved, -1.0), 1.0)


@kept
def learn(
    levels: Array, regrets: Array, stretch: Array, past: Array, recent: Array, ordered: Array, count: int,
    scaled: float, miss: float, delay: int, late: float,
) -> None:  # fmt: skip
    """Take in a scaled residual, the one after ``count``: adapt, remember it, and find the new bounds.

    It is ``delay`` labels late, labels usually by a share ``late`` in [0, 1).
    """
    window = len(recent)
    if count:
        met = past[place_of(count, delay)]
        adapt(levels, regrets, stretch, met, scaled, miss, 1.0 - lateness(delay))
    oldest = recent[count % window]
    enter(ordered[0], count, oldest, scaled)
    enter(ordered[1], count, abs(oldest), abs(scaled))
    recent[count % window] = scaled
    bounds(ordered[:, : min(count + 1, window)], levels, regrets, stretch, late, past[count % REMEMBERED])


@kept
def enter(ordered: Array, count: int, oldest: float, scaled: float) -> None:
    """Put a residual into the ordered window (W,), for the oldest when ``count`` have filled it."""
    window = len(ordered)
    free = min(count, window)
    place = int(np.searchsorted(ordered[:free], scaled))
    if count >= window:
        free = int(np.searchsorted(ordered, oldest))
        if oldest < scaled:
            place -= 1
    for i in range(free, place):
        ordered[i] = ordered[i + 1]
    for i in range(free, place, -1):
        ordered[i] = ordered[i - 1]
    ordered[place] = scaled


@kept
def bounds(ordered: Array, levels: Array, regrets: Array, stretch: Array, late: float, out: Array) -> None:
    """The bounds (3, K + 1) by ordered residuals with sign and without (2, n): each rate's, then combined.

    Those of the sides are combined with the one of residuals without sign, half of it if labels are as late
    as can be, and stretched.
    """
    for side in range(2, -1, -1):
        for k in range(levels.shape[1]):
            out[side, k] = bound_of(ordered, side, levels[side, k])
        together = combined(out[side], regrets[side])
        if side != EITHER:
            together += 0.5 * late * (out[EITHER, -1] - together)
            together *= np.exp(stretch[side] if together > 0.0 else -stretch[side])
        out[side, -1] = together


@kept
def bound_of(ordered: Array, side: int, level: float) -> float:
    """A side's bound, the ceil((n + 1)(1 - level))-th of n ordered residuals.

    Where a rank is beyond the last residual, a level under zero widens the bound further.
    """
    n = ordered.shape[1]
    rank = max(1, int(np.ceil((n + 1) * (1.0 - level))))
    place = min(rank, n) - 1
    bound = -ordered[0, n - 1 - place] if side == BELOW else ordered[1 if side == EITHER else 0, place]
    if rank > n and bound > 0.0:
        bound *= 1.0 + 10.0 * max(0.0, -level)
    return float(bound)
