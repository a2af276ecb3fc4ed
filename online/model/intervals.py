"""Prediction intervals from the errors of predictions as served, wider where the model errs more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from online.core.clip import clip, clip_in_kernel
from online.core.jit import njit_cached
from online.features.context import GroupColumn
from online.features.error_scale import ErrorScale

__all__ = ["BOUNDS_KEPT", "ConformalInterval"]

Array = npt.NDArray[Any]

RATES = (0.001, 0.005, 0.02, 0.05)  # of the adaptive levels; none is best on every stream
STRETCH_STEP = 0.03  # of the last correction, in the logarithm of the bound
HALF_LATE = 8.0  # a label so many labels late is half as late as can be
LATENESS_FADING = 0.05  # share of a new label in the mean lateness
SPARED, MOST_SPARED = 0.05, 0.0025  # of a side's misses, and of all labels: not used up while labels are late
RESIDUALS_KEPT = 8000
BOUNDS_KEPT = 1024  # a prediction older than so many labels is judged by the bounds of so many labels ago
BELOW, ABOVE, EITHER = 0, 1, 2
TINY = 1e-12
LARGEST_RESIDUAL = 1e6  # a scaled residual beyond that counts as so large


class ConformalInterval:
    """Interval around a prediction that goes on holding a share of the labels, whatever the model does.

    Residuals are divided by the scale of the row's error, as in locally weighted conformal prediction [1]_.
    Each side has bounds of its own for them. Adaptive conformal inference [2]_ runs at several rates: after
    a label a rate's level moves down if the label lay beyond the bound the rate had when the prediction was
    served, and a little up if not; its next bound is that quantile of the window. A side's bounds are
    combined by their regrets in pinball loss, as AgACI does [3]_ with BOA; the weights here are those of
    ML-Poly [4]_, which has no rate to choose. Pinball loss may favour bounds that are a little too close,
    so the combined bound is stretched by a factor that is itself moved by how often labels lay beyond it.

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
        The columns to group the rows' errors by.
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
    ...     interval.update([], disagreement=1.0, residual=rng.gauss(0, 1), delay=0)
    >>> below, above = interval.get([], disagreement=1.0)
    >>> round(below, 1), round(above, 1)
    (1.3, 1.3)
    """

    def __init__(self, coverage: float, by: Sequence[GroupColumn] = (), window: int = RESIDUALS_KEPT) -> None:
        self.error_scale = ErrorScale(by)
        self._miss = (1.0 - coverage) / 2.0
        self._recent = np.zeros(window)  # scaled residuals, a ring
        self._ordered = np.zeros((2, window))  # with sign and without
        self._levels = np.outer([1.0, 1.0, 2.0], np.full(len(RATES), self._miss))
        self._regrets = np.zeros((3, len(RATES), 2))  # in pinball loss: summed, and their squares summed
        self._stretch = np.zeros(2)  # logarithms
        self._past = np.zeros((BOUNDS_KEPT, 3, len(RATES) + 1))  # after each label, a ring: bounds, combined
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
        self, values: Sequence[float], disagreement: float, residual: float, delay: int, width: float = 0.0
    ) -> None:
        """Learn the residual (label minus prediction as served) of a row.

        Parameters
        ----------
        values
            The encoded row, which tells its group.
        disagreement
            How much the experts' outputs as served disagree, in target units.
        residual
            In target units, finite.
        delay
            How many labels were learned between the prediction and its label.
        width
            Of the interval as served, in target units; 0 where there was none. It tells the scale
            of the row's error as it was when it was served.
        """
        self._late += max(LATENESS_FADING, 1.0 / (1 + self._count)) * (lateness(delay) - self._late)
        scale = self._scale_of(width, delay) or self.error_scale.get(values, disagreement)
        if scale > 0.0:
            scaled = clip(residual / scale, -LARGEST_RESIDUAL, LARGEST_RESIDUAL)
            update_interval(
                self._levels,
                self._regrets,
                self._stretch,
                self._past,
                self._recent,
                self._ordered,
                self._count,
                scaled,
                self._miss_target(),
                delay,
                self._late,
            )
            self._count += 1
        self.error_scale.update(values, disagreement, abs(residual), self._late)

    def _miss_target(self) -> float:
        """The share of labels that may lie beyond a side's bound."""
        return self._miss - self._late * min(SPARED * self._miss, MOST_SPARED)

    def _scale_of(self, width: float, delay: int) -> float:
        """The error scale behind an interval of ``delay`` labels ago; 0 where it cannot be told."""
        factor = sum(interval_bounds(self._bounds_at(delay))) if self._count and width > 0.0 else 0.0
        return width / factor if factor > 0.0 else 0.0

    def _bounds_at(self, delay: int) -> Array:
        """The bounds after the label that came ``delay`` labels ago."""
        bounds: Array = self._past[bounds_index(self._count, delay)]
        return bounds

    def factors(self) -> tuple[float, float]:
        """How many times the scale of a row's error the interval reaches below and above the prediction."""
        if not self._count:
            return (0.0, 0.0)
        return interval_bounds(self._bounds_at(0))

    def get(self, values: Sequence[float], disagreement: float) -> tuple[float, float]:
        """How far the interval reaches below and above a row's prediction.

        Parameters
        ----------
        values
            The encoded row, which tells its group.
        disagreement
            How much the experts disagree on it, in target units.

        Returns
        -------
        tuple of float
            Below and above, in target units.
        """
        below, above = self.factors()
        scale = self.error_scale.get(values, disagreement)
        return below * scale, above * scale

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "difficulty" in state:  # snapshots of format 1 have it by this name
            state["error_scale"] = state.pop("difficulty")
        self.__dict__.update(state)
        if "_late" not in state:
            raise ValueError("this interval was pickled by another version of Millrace")


# Kernels: a label moves twelve levels and finds twelve quantiles of 8,000 ordered residuals, one after the
# other, and NumPy's calls would cost more than the arithmetic. K is the number of rates; sides are BELOW,
# ABOVE and EITHER, the last for residuals without sign. The arrays:
#   levels   (3, K): the share of labels that a rate would now leave beyond its bound (alpha_t of [2]):
#            alpha_{t+1} = alpha_t + rate * (miss - [label beyond the bound served])
#   regrets  (3, K, 2): by rate the sum of the regrets in pinball loss, r = slope * (combined - bound), and of
#            their squares; ML-Poly's weight is w = R+ / sum of r^2 [4]
#   stretch  (2,): the logarithm of a factor on a side's combined bound, of step STRETCH_STEP
#   past     (BOUNDS_KEPT, 3, K + 1): a ring of the bounds after each label, the combined one last
#   recent   (window,): a ring of scaled residuals
#   ordered  (2, window): the same, sorted, with sign and without


@njit_cached
def lateness(delay: int) -> float:
    """How late a label is that comes ``delay`` labels after its prediction: 0 if at once, below 1 always."""
    return max(delay, 0) / (max(delay, 0) + HALF_LATE)


@njit_cached
def bounds_index(count: int, delay: int) -> int:
    """Where in the ring the bounds of ``delay`` labels ago lie, when ``count`` labels have come."""
    return (count - 1 - min(max(delay, 0), count - 1, BOUNDS_KEPT - 1)) % BOUNDS_KEPT


def interval_bounds(bounds: Array) -> tuple[float, float]:
    """How many times the error scale an interval reaches below and above, by the bounds (3, K + 1).

    Where the sides have crossed, the interval is the point between them.
    """
    below, above = bounds[:EITHER, -1].tolist()
    return (below, above) if below + above >= 0.0 else ((below - above) / 2.0, (above - below) / 2.0)


@njit_cached
def combined_bound(bounds: Array, regrets: Array) -> float:
    """One side's bounds (K, ...) of each rate, weighted by their regrets (K, 2)."""
    total, weighted, mean = 0.0, 0.0, 0.0
    for k in range(len(regrets)):
        mean += bounds[k] / len(regrets)
        if regrets[k, 0] > 0.0:
            weight = regrets[k, 0] / (TINY + regrets[k, 1])
            total += weight
            weighted += weight * bounds[k]
    return weighted / total if total > 0.0 else mean


@njit_cached
def signed_residual(scaled: float, side: int) -> float:
    """A residual as it counts for a side."""
    return abs(scaled) if side == EITHER else scaled if side == ABOVE else -scaled


@njit_cached
def adapt_levels(  # noqa: PLR0913 - a kernel takes each array
    levels: Array, regrets: Array, stretch: Array, served: Array, scaled: float, miss: float, speed: float
) -> None:
    """Move levels, regrets and stretch by a residual and the bounds (3, K + 1) it was served with.

    ``miss`` is the share of labels wanted beyond a side's bound; ``speed`` a factor of all rates.
    """
    for side in range(3):
        residual, target = signed_residual(scaled, side), 2.0 * miss if side == EITHER else miss
        combined = combined_bound(served[side], regrets[side])
        slope = target - (residual > combined)  # of the pinball loss in the bound
        for k in range(len(RATES)):
            regret = slope * (combined - served[side, k])
            regrets[side, k, 0] += regret
            regrets[side, k, 1] += regret * regret
            levels[side, k] += RATES[k] * speed * (target - (residual > served[side, k]))
        if side != EITHER:
            moved = stretch[side] + STRETCH_STEP * speed * ((residual > served[side, -1]) - target)
            stretch[side] = clip_in_kernel(moved, -1.0, 1.0)


@njit_cached
def update_interval(  # noqa: PLR0913 - a kernel takes each array
    levels: Array,
    regrets: Array,
    stretch: Array,
    past: Array,
    recent: Array,
    ordered: Array,
    count: int,
    scaled: float,
    miss: float,
    delay: int,
    late: float,
) -> None:
    """Learn a scaled residual, the one after ``count``: adapt, remember it, and find the new bounds.

    It is ``delay`` labels late, labels usually by a share ``late`` in [0, 1).
    """
    window = len(recent)
    if count:
        served = past[bounds_index(count, delay)]
        adapt_levels(levels, regrets, stretch, served, scaled, miss, 1.0 - lateness(delay))
    oldest = recent[count % window]
    insert_ordered(ordered[0], count, oldest, scaled)
    insert_ordered(ordered[1], count, abs(oldest), abs(scaled))
    recent[count % window] = scaled
    filled = ordered[:, : min(count + 1, window)]
    write_bounds(filled, levels, regrets, stretch, late, past[count % BOUNDS_KEPT])


@njit_cached
def insert_ordered(ordered: Array, count: int, oldest: float, scaled: float) -> None:
    """Put a residual into the sorted window (W,), in place of the oldest once ``count`` have filled it.

    One shift of what lies between the two, instead of sorting.
    """
    window = len(ordered)
    free = min(count, window)
    index = int(np.searchsorted(ordered[:free], scaled))
    if count >= window:
        free = int(np.searchsorted(ordered, oldest))
        if oldest < scaled:
            index -= 1
    for i in range(free, index):
        ordered[i] = ordered[i + 1]
    for i in range(free, index, -1):
        ordered[i] = ordered[i - 1]
    ordered[index] = scaled


@njit_cached
def write_bounds(  # noqa: PLR0913 - a kernel takes each array
    ordered: Array, levels: Array, regrets: Array, stretch: Array, late: float, out: Array
) -> None:
    """Write the bounds (3, K + 1) by the residuals (2, n) ordered so far: each rate's, then combined.

    Those of the sides are combined with the one of residuals without sign, half of it if labels are as late
    as can be, and stretched.
    """
    for side in range(2, -1, -1):
        for k in range(levels.shape[1]):
            out[side, k] = bound_of(ordered, side, levels[side, k])
        combined = combined_bound(out[side], regrets[side])
        if side != EITHER:
            combined += 0.5 * late * (out[EITHER, -1] - combined)
            combined *= np.exp(stretch[side] if combined > 0.0 else -stretch[side])
        out[side, -1] = combined


@njit_cached
def bound_of(ordered: Array, side: int, level: float) -> float:
    """A side's bound, the ceil((n + 1)(1 - level))-th of n ordered residuals.

    Where a rank is beyond the last residual, a level under zero widens the bound further.
    """
    n = ordered.shape[1]
    rank = max(1, int(np.ceil((n + 1) * (1.0 - level))))
    index = min(rank, n) - 1
    bound = -ordered[0, n - 1 - index] if side == BELOW else ordered[1 if side == EITHER else 0, index]
    if rank > n and bound > 0.0:
        bound *= 1.0 + 10.0 * max(0.0, -level)
    return float(bound)
