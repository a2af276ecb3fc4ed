"""Clipping a number to bounds: the one definition, for Python and for kernels."""

from __future__ import annotations

from online.core.jit import kernel

__all__ = ["clip", "clip_in_kernel"]


def clip(value: float, low: float, high: float) -> float:
    """A value, or the bound that it lies beyond; the lower one where the bounds cross.

    Parameters
    ----------
    value
        Not NaN.
    low, high
        In its unit.

    Returns
    -------
    float
        In [low, high].
    """
    return min(max(value, low), high)


clip_in_kernel = kernel(clip)  # the same, compiled: kernels cannot call Python
