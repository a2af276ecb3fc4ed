"""A row made fit to learn from: what is no measurement goes missing, far outliers are pulled in."""

from __future__ import annotations

import math

from online.forest.forest_state import (
    BINS,
    F_KIND,
    F_MEAN,
    F_N,
    F_VAR,
    Y_HIGH,
    Y_LOW,
    Y_MEAN,
    Y_N,
    Y_VAR,
    Array,
    Arrays,
    kernel,
)
from online.forest.observers import observe_feature

__all__ = ["CLIP", "LARGEST", "MARGIN", "clean_row", "held", "observe_row"]

LARGEST = 1e30  # beyond this a number is no measurement, and squares of squares would overflow
CLIP = 8.0  # deviations: linear models see no value further out
TARGET_CLIP = 30.0  # deviations beyond which a target is pulled in; they then grow, so it may come again
TARGET_MEMORY = 0.001
MARGIN = 0.1  # of the targets' range: predictions go no further beyond it


@kernel
def clean_row(s: Arrays, row: Array, x: Array, filled: Array) -> None:
    """A row with NaN where nothing usable stands, and one without gaps or far outliers for linear models."""
    spread = math.sqrt(s.par[Y_VAR])
    for j in range(row.shape[0]):
        f = s.feature[j]
        value = row[j] if abs(row[j]) <= LARGEST else math.nan
        x[j] = value
        if f[F_KIND]:
            filled[j] = category_value(s, j, value, spread)
        elif math.isnan(value):
            filled[j] = f[F_MEAN]
        else:
            reach = CLIP * math.sqrt(f[F_VAR])
            filled[j] = min(max(value, f[F_MEAN] - reach), f[F_MEAN] + reach) if f[F_N] > CLIP else value


@kernel
def category_value(s: Arrays, j: int, value: float, spread: float) -> float:
    """A category as a number: the deviation of its targets' mean, pulled to zero while it is rare."""
    if math.isnan(value) or spread == 0.0 or not 0.0 <= value < BINS:
        return 0.0
    weight, mean = s.category[j, int(value), 0], s.category[j, int(value), 1]
    return (mean - s.par[Y_MEAN]) / spread * weight / (weight + 10.0)


@kernel
def observe_row(s: Arrays, x: Array, y: float) -> float:
    """Take a row into the statistics of features and target; the target, pulled in if it is far out."""
    p = s.par
    if p[Y_N] == 0.0:
        p[Y_MEAN] = p[Y_LOW] = p[Y_HIGH] = y
    limit = TARGET_CLIP * math.sqrt(p[Y_VAR])
    gap = y - p[Y_MEAN]
    if p[Y_N] > TARGET_CLIP and limit > 0.0:
        gap = min(max(gap, -limit), limit)
        y = p[Y_MEAN] + gap
    share = max(TARGET_MEMORY, 1.0 / (p[Y_N] + 1.0))
    p[Y_N] += 1.0
    p[Y_MEAN] += share * gap
    p[Y_VAR] = (1.0 - share) * (p[Y_VAR] + share * gap * gap)
    p[Y_LOW], p[Y_HIGH] = min(y, p[Y_LOW]), max(y, p[Y_HIGH])
    for j in range(x.shape[0]):
        if math.isnan(x[j]):
            continue
        if s.feature[j, F_KIND]:
            cell = s.category[j, int(x[j])]
            cell[0] += 1.0
            cell[1] += (y - cell[1]) * max(TARGET_MEMORY, 1.0 / cell[0])
            s.feature[j, F_N] += 1.0
        else:
            observe_feature(s.feature[j], x[j])
    return y


@kernel
def held(s: Arrays, output: float) -> float:
    """An output within the range of targets, and a margin."""
    margin = MARGIN * (s.par[Y_HIGH] - s.par[Y_LOW])
    return min(max(output, s.par[Y_LOW] - margin), s.par[Y_HIGH] + margin)
