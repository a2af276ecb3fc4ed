"""Combining the outputs of several experts into one prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from river import base

from online.experts.nlms import NormalizedLMS

__all__ = ["MeanPool"]


class MeanPool(base.Regressor):
    """Predict the mean of several experts, each held to the range of targets seen.

    Every expert learns every row. An expert's output is clipped to the lowest and highest target seen so
    far, so none can pull the mean further than the targets have ever been; the mean of such forecasts is
    the usual strong baseline for combining them [1]_.

    Parameters
    ----------
    experts
        The regressors by name, at least one. The pool keeps and teaches these very objects; `clone` makes
        fresh ones.

    Attributes
    ----------
    low, high : float
        The lowest and highest target seen, in target units; infinity and minus infinity before any.
    target_mean : float
        The mean of all targets seen, which stands in for an output that is NaN or infinite.

    Raises
    ------
    ValueError
        If there are no experts, or if `learn_one` is given a target that is not finite.

    References
    ----------
    .. [1] Timmermann, A., 2006. Forecast combinations. Handbook of Economic Forecasting 1, 135-196.

    Examples
    --------
    >>> import random
    >>> from river import dummy, stats
    >>> from online.aggregation import MeanPool
    >>> from online.experts.nlms import NormalizedLMS
    >>> rng = random.Random(7)
    >>> pool = MeanPool({"line": NormalizedLMS(step=0.2), "mean": dummy.StatisticRegressor(stats.Mean())})
    >>> for _ in range(1000):
    ...     x = {"a": rng.uniform(-1, 1)}
    ...     pool.learn_one(x, 10 * x["a"] + 20)
    >>> {name: round(output, 1) for name, output in pool.expert_outputs({"a": 0.5}).items()}
    {'line': 25.0, 'mean': 19.6}
    >>> round(pool.predict_one({"a": 0.5}), 1)
    22.3
    """

    def __init__(self, experts: dict[str, base.Regressor]) -> None:
        if not experts:
            raise ValueError("a pool needs at least one expert")
        self.experts = experts
        self.low = math.inf
        self.high = -math.inf
        self.target_mean = 0.0
        self.n_seen = 0

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"experts": {"slow": NormalizedLMS(), "fast": NormalizedLMS(step=0.5)}}

    def clone(self, new_params: dict[str, Any] | None = None, include_attributes: bool = False) -> MeanPool:
        """Return an untaught pool of untaught experts.

        Parameters
        ----------
        new_params
            Parameters to replace. Given experts are cloned as well, so that the pool inside a cloned
            pipeline is as fresh as one cloned by itself.
        include_attributes
            Whether to copy attributes that are no parameters, as in River.
        """
        params = dict(new_params or {})
        experts = params.get("experts", self.experts)
        params["experts"] = {name: expert.clone() for name, expert in experts.items()}
        pool: MeanPool = super().clone(params, include_attributes)
        return pool

    def weights(self) -> dict[str, float]:
        """Return each expert's share of the prediction, without unit, summing to one."""
        return dict.fromkeys(self.experts, 1.0 / len(self.experts))

    def expert_outputs(self, x: dict[str, Any]) -> dict[str, float]:
        """Return each expert's output for one row as it enters the mean: finite, clipped, in target units.

        Before any target all outputs are 0.0.

        Parameters
        ----------
        x
            Feature values by name.
        """
        if not self.n_seen:
            return dict.fromkeys(self.experts, 0.0)
        return {name: self._held(expert.predict_one(x)) for name, expert in self.experts.items()}

    def _held(self, output: float) -> float:
        if not math.isfinite(output):
            return self.target_mean
        return min(max(output, self.low), self.high)

    def predict_one(self, x: dict[str, Any]) -> float:
        """Return the weighted mean of the experts' outputs, in target units; 0.0 before any target.

        Parameters
        ----------
        x
            Feature values by name.
        """
        weights = self.weights()
        return sum((weights[name] * output for name, output in self.expert_outputs(x).items()), 0.0)

    def learn_one(self, x: dict[str, Any], y: float) -> None:
        """Teach every expert one row and widen the range to its target.

        Parameters
        ----------
        x
            Feature values by name.
        y
            The target, finite.

        Raises
        ------
        ValueError
            If the target is NaN or infinite; nothing is learned then.
        """
        if not math.isfinite(y):
            raise ValueError(f"the target must be finite, not {y!r}")
        self.n_seen += 1
        self.target_mean += y / self.n_seen - self.target_mean / self.n_seen  # no overflow at any size
        self.low = min(self.low, y)
        self.high = max(self.high, y)
        for expert in self.experts.values():
            expert.learn_one(x, y)
