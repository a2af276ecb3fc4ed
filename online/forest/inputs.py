"""A row made fit to learn from: what is no measurement goes missing, far outliers are clipped."""

from __future__ import annotations

import math

from online.core.clip import clip_in_kernel
from online.features.matrix import LARGEST_MEASUREMENT
from online.forest.forest_state import (
    BINS,
    F_KIND,
    F_MEAN,
    F_N,
    F_VAR,
    P_Y_HIGH,
    P_Y_LOW,
    P_Y_MEAN,
    P_Y_N,
    P_Y_VAR,
    Array,
    Arrays,
    kernel,
)
from online.forest.observers import observe_feature

__all__ = ["LINE_CLIP_DEVIATIONS", "PREDICTION_MARGIN", "clean_row", "clip_prediction", "observe_row"]

LINE_CLIP_DEVIATIONS = 8.0  # linear models see no value further from a feature's mean
TARGET_CLIP_DEVIATIONS = 30.0  # a target further out is clipped; the deviation grows, should it come again
TARGET_FADING = 0.001  # least share of a new target in the mean
RARE_CATEGORY = 10.0  # rows at which a category counts half
PREDICTION_MARGIN = 0.1  # of the targets' range: predictions go no further beyond it

# Kernels: the running statistics of features and target, with means and variances that fade,
#   mean += a * d;   var = (1 - a) * (var + a * d^2);   d = clip(x - mean),   a = max(fading, 1 / n)
# (Finch 2009, section 9). Plain loops over a row, which each learning and scoring kernel calls.
#   raw, row, filled: (D,) float64, a row as it came, with NaN where missing, and without gaps.


@kernel
def clean_row(forest: Arrays, raw: Array, row: Array, filled: Array) -> None:
    """Clean a row for trees, and for linear models.

    Parameters
    ----------
    forest
        The forest's arrays.
    raw
        The row as it came, (D,).
    row
        Where the row goes, NaN in place of what is no measurement, (D,).
    filled
        Where it goes without gaps and outliers, (D,).
    """
    deviation = math.sqrt(forest.par[P_Y_VAR])
    for j in range(raw.shape[0]):
        stats = forest.feature[j]
        value = raw[j] if abs(raw[j]) <= LARGEST_MEASUREMENT else math.nan
        row[j] = value
        if stats[F_KIND]:
            filled[j] = category_value(forest, j, value, deviation)
        elif math.isnan(value):
            filled[j] = stats[F_MEAN]
        else:
            limit = LINE_CLIP_DEVIATIONS * math.sqrt(stats[F_VAR])
            clipped = clip_in_kernel(value, stats[F_MEAN] - limit, stats[F_MEAN] + limit)
            filled[j] = clipped if stats[F_N] > LINE_CLIP_DEVIATIONS else value


@kernel
def category_value(forest: Arrays, feature: int, value: float, deviation: float) -> float:
    """A category as a number: the deviation of its targets' mean, pulled to zero while it is rare."""
    if math.isnan(value) or deviation == 0.0 or not 0.0 <= value < BINS:
        return 0.0
    weight, mean = forest.category[feature, int(value), 0], forest.category[feature, int(value), 1]
    return (mean - forest.par[P_Y_MEAN]) / deviation * weight / (weight + RARE_CATEGORY)


@kernel
def observe_row(forest: Arrays, row: Array, target: float) -> float:
    """Learn a row's features and target into their statistics.

    Parameters
    ----------
    forest
        The forest's arrays.
    row
        The row, (D,), NaN where missing.
    target
        The target.

    Returns
    -------
    float
        The target, clipped if it is far out.
    """
    par = forest.par
    if par[P_Y_N] == 0.0:
        par[P_Y_MEAN] = par[P_Y_LOW] = par[P_Y_HIGH] = target
    limit = TARGET_CLIP_DEVIATIONS * math.sqrt(par[P_Y_VAR])
    gap = target - par[P_Y_MEAN]
    if par[P_Y_N] > TARGET_CLIP_DEVIATIONS and limit > 0.0:
        gap = clip_in_kernel(gap, -limit, limit)
        target = par[P_Y_MEAN] + gap
    share = max(TARGET_FADING, 1.0 / (par[P_Y_N] + 1.0))
    par[P_Y_N] += 1.0
    par[P_Y_MEAN] += share * gap
    par[P_Y_VAR] = (1.0 - share) * (par[P_Y_VAR] + share * gap * gap)
    par[P_Y_LOW], par[P_Y_HIGH] = min(target, par[P_Y_LOW]), max(target, par[P_Y_HIGH])
    for j in range(row.shape[0]):
        if math.isnan(row[j]):
            continue
        if forest.feature[j, F_KIND]:
            cell = forest.category[j, int(row[j])]
            cell[0] += 1.0
            cell[1] += (target - cell[1]) * max(TARGET_FADING, 1.0 / cell[0])
            forest.feature[j, F_N] += 1.0
        else:
            observe_feature(forest.feature[j], row[j])
    return target


@kernel
def clip_prediction(forest: Arrays, output: float) -> float:
    """Clip an output to the range of targets and a margin.

    Parameters
    ----------
    forest
        The forest's arrays.
    output
        A tree's output.

    Returns
    -------
    float
        The clipped output.
    """
    margin = PREDICTION_MARGIN * (forest.par[P_Y_HIGH] - forest.par[P_Y_LOW])
    return clip_in_kernel(output, forest.par[P_Y_LOW] - margin, forest.par[P_Y_HIGH] + margin)
