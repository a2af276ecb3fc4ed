"""Weights that follow the expert that was best of late.

They go by a high power of the inverse of each expert's faded absolute error: experts hardly worse than the
best share its weight, all others have next to none. Fading makes them follow when another becomes the best,
as a fixed share does for exponential weights (Herbster and Warmuth 1998, Tracking the best expert).
"""

from __future__ import annotations

from online.core.jit import kernel
from online.model.aggregation.heads import Array

__all__ = ["learn_best"]

ERROR_RETENTION = 0.999  # what is left of the errors when a label comes
ERROR_POWER = 20.0

# Kernel, as it is one step of the label's kernel in update.py; O(k).
#   weights, errors: (k,) float64, a row each of WeightsState.recent_best; outputs: (k,) float64


@kernel
def learn_best(weights: Array, errors: Array, outputs: Array, y: float) -> None:
    """Move weights on by a target.

    Parameters
    ----------
    weights, errors
        Convex weights and faded errors, (k,), written.
    outputs
        The experts' outputs, (k,), finite, in target units.
    y
        The target.
    """
    least = 0.0
    for j in range(weights.shape[0]):
        errors[j] = ERROR_RETENTION * errors[j] + abs(outputs[j] - y)
        least = errors[j] if j == 0 else min(least, errors[j])
    total = 0.0
    for j in range(weights.shape[0]):
        if least > 0.0:
            weights[j] = (least / errors[j]) ** ERROR_POWER
        else:  # those without any error share all
            weights[j] = 1.0 if errors[j] == 0.0 else 0.0
        total += weights[j]
    for j in range(weights.shape[0]):
        weights[j] /= total
