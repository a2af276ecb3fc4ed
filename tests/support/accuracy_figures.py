"""A forecast of a stream's tested rows, and how good it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tests.support.accuracy_stream import Stream

__all__ = ["BLOCK_ROWS", "Forecast", "measured"]

Floats = npt.NDArray[np.float64]
INTERVAL_COVERAGE = 0.9  # of the intervals' labels, as model.coverage has it
BLOCK_ROWS = 1000  # rows of which the coverage of the worst is shown, and of a point of the rolling error


class Forecast(NamedTuple):
    """Predictions of the tested rows with the seconds they took, and intervals where a model gives them."""

    predictions: Floats
    seconds: float
    lower: Floats | None = None
    upper: Floats | None = None
    details: dict[str, float] = {}  # noqa: RUF012 - never changed


def measured(forecast: Forecast, stream: Stream) -> dict[str, Any]:
    """A forecast's figures; errors in target units, ``mae_sd`` over the bootstrap targets' deviation."""
    truth = stream.targets[stream.bootstrap :]
    residual = truth - forecast.predictions
    mae = float(np.abs(residual).mean())
    figures: dict[str, Any] = {
        "mae": mae,
        "mae_sd": mae / stream.deviation,
        "rmse": float(np.sqrt((residual**2).mean())),
        "r2": float(1.0 - (residual**2).sum() / max(((truth - truth.mean()) ** 2).sum(), 1e-300)),
        "us_per_row": forecast.seconds / len(truth) * 1e6,
        "rows": len(truth),
    }
    if forecast.lower is not None and forecast.upper is not None:
        figures |= interval_figures(truth, forecast.lower, forecast.upper, stream.deviation)
    return figures | forecast.details


def interval_figures(truth: Floats, lower: Floats, upper: Floats, deviation: float) -> dict[str, float]:
    """Coverage, that of the worst run of 1,000 rows, and the mean Winkler score (Winkler 1972).

    The score is the interval's width, plus 2 / (1 - coverage) times the distance of a label outside it.
    """
    inside = (lower <= truth) & (truth <= upper)
    block = min(BLOCK_ROWS, len(truth))
    blocks = np.convolve(inside, np.ones(block), "valid") / block
    missed = np.maximum(lower - truth, 0.0) + np.maximum(truth - upper, 0.0)
    winkler = float(((upper - lower) + 2.0 / (1.0 - INTERVAL_COVERAGE) * missed).mean())
    return {
        "coverage": float(inside.mean()),
        "worst_block": float(blocks.min()),
        "winkler": winkler,
        "winkler_sd": winkler / deviation,
    }
