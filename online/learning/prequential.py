"""Prequential error: of predictions as they were served, against the labels that came (Dawid 1984)."""

from __future__ import annotations

import collections
import math
from typing import Any

import numpy as np

from online.storage.metrics_store import Outcome

__all__ = ["Prequential", "errors"]


class Prequential:
    """Errors over the last ``window`` labels that had a served prediction.

    Parameters
    ----------
    window
        Labels remembered.
    """

    def __init__(self, window: int = 1000) -> None:
        self.window = window
        self.count = 0
        self._outcomes: collections.deque[Outcome] = collections.deque(maxlen=window)
        self._experts: collections.deque[tuple[float, ...]] = collections.deque(maxlen=window)

    def update(self, outcome: Outcome, experts: tuple[float, ...]) -> None:
        """Add one outcome.

        Parameters
        ----------
        outcome
            A label's.
        experts
            The experts' outputs as they were served with the prediction, in the pool's order.
        """
        self.count += 1
        self._outcomes.append(outcome)
        self._experts.append(experts)

    def report(self) -> dict[str, Any]:
        """Errors in target units, coverage as a share, delay in seconds; None where there is nothing yet."""
        outcomes = list(self._outcomes)
        empty = dict.fromkeys(("mae", "rmse", "r2", "baseline_mae", "coverage", "delay_seconds"))
        head: dict[str, Any] = {"window": self.window, "n": len(outcomes), "total": self.count}
        return head | (measures(outcomes) if outcomes else empty)

    def expert_maes(self) -> list[float]:
        """Mean absolute error of each expert, in the pool's order; empty before any."""
        if not self._experts:
            return []
        count = len(self._experts[-1])
        pairs = [
            (outputs, outcome.truth)
            for outputs, outcome in zip(self._experts, self._outcomes, strict=True)
            if len(outputs) == count  # after a change of the pool, older labels have other experts' outputs
        ]
        outputs = np.array([outputs for outputs, _ in pairs]).reshape(len(pairs), count)
        truths = np.array([truth for _, truth in pairs])
        return [float(mae) for mae in np.abs(outputs - truths[:, None]).mean(axis=0)]


def measures(outcomes: list[Outcome]) -> dict[str, float | None]:
    """The figures of a report. The median of the delays, as one label that comes a month late says little."""
    rows = np.array([(o.truth, o.prediction, o.lower, o.upper, o.delay_seconds) for o in outcomes])
    truth, prediction, lower, upper, delay = rows.T
    baseline = [abs(o.truth - o.baseline) for o in outcomes if o.baseline is not None]
    return errors(truth, prediction) | {
        "baseline_mae": float(np.mean(baseline)) if baseline else None,
        "coverage": float(np.mean((lower <= truth) & (truth <= upper))),
        "delay_seconds": float(np.median(delay)),
    }


def errors(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float | None]:
    """Errors of predictions.

    Parameters
    ----------
    truth, prediction
        (n,) each, n at least 1, in target units.

    Returns
    -------
    dict
        ``mae`` and ``rmse`` in target units, and ``r2``, which is None where the truth hardly varies.
    """
    residual = truth - prediction
    spread = float(np.sum((truth - truth.mean()) ** 2))
    r2 = 1.0 - float(np.sum(residual**2)) / spread if spread > 0 else -math.inf
    return {
        "mae": float(np.mean(np.abs(residual))),
        "rmse": float(np.sqrt(np.mean(residual**2))),
        "r2": r2 if math.isfinite(r2) else None,
    }
