"""A pool of experts: what each reads of a row, how they learn it, and how their outputs are combined."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from river import base

from online.core.clip import clip
from online.model.aggregation.aggregator import Aggregator
from online.model.aggregation.heads import Array, Heads
from online.model.experts.nlms import NormalizedLMS
from online.model.micro_batch import FeatureView, MicroBatch, QueuedRow, TargetStats
from online.model.scaling import StandardScaler

__all__ = ["ALL_FEATURES", "ExpertPool"]

ALL_FEATURES = FeatureView()


class ExpertPool(base.Regressor):
    """Several experts that learn every row, and the combination that did best of late.

    An expert's output is clipped to the range of targets seen; one that is NaN or infinite is replaced by the
    mean target. An :class:`online.model.aggregation.aggregator.Aggregator` learns how to combine such
    outputs.

    Parameters
    ----------
    experts
        The regressors by name, at least one. The pool keeps and teaches these very objects; `clone` makes
        fresh ones.
    views
        What each expert reads, by name; by default all columns, standardised.
    scaler
        Standardises the rows; `online.model.scaling.StandardScaler` by default.

    Attributes
    ----------
    low, high : float
        The lowest and highest target seen, in target units; infinity and minus infinity before any.
    target_mean : float
        The mean of all targets seen, which stands in for an output that is NaN or infinite.

    Raises
    ------
    ValueError
        If there are no experts, if a view is of no expert, or if `learn_one` is given a target that is not
        finite.

    Examples
    --------
    >>> import random
    >>> from river import dummy, stats
    >>> from online.model.pool import ExpertPool
    >>> from online.model.experts.nlms import NormalizedLMS
    >>> rng = random.Random(7)
    >>> pool = ExpertPool({"line": NormalizedLMS(step=0.2), "mean": dummy.StatisticRegressor(stats.Mean())})
    >>> for _ in range(1000):
    ...     x = {"a": rng.uniform(-1, 1)}
    ...     pool.learn_one(x, 10 * x["a"] + 20)
    >>> {name: round(output) for name, output in pool.expert_outputs({"a": 0.5}).items()}
    {'line': 25, 'mean': 20}
    >>> round(pool.predict_one({"a": 0.5}))
    25
    """

    _queue: list[QueuedRow] | None = None  # rows that the experts are yet to learn; only within `batched`

    def __init__(
        self,
        experts: dict[str, base.Regressor],
        views: dict[str, FeatureView] | None = None,
        scaler: base.Transformer | None = None,
    ) -> None:
        if not experts:
            raise ValueError("a pool needs at least one expert")
        unknown = sorted(set(views or {}) - set(experts))
        if unknown:
            raise ValueError(f"there is a view for {unknown[0]!r}, but no such expert")
        self.experts = experts
        self.views = views or {}
        self.scaler = StandardScaler() if scaler is None else scaler
        self.low = math.inf
        self.high = -math.inf
        self.target_mean = 0.0
        self.n_seen = 0
        self._aggregator = Aggregator(len(experts))
        self._expected: tuple[Sequence[float], int] | None = None

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"experts": {"slow": NormalizedLMS(), "fast": NormalizedLMS(step=0.5)}}

    def clone(self, new_params: dict[str, Any] | None = None, include_attributes: bool = False) -> ExpertPool:
        """Return an untaught pool of untaught experts.

        Parameters
        ----------
        new_params
            Parameters to replace. Given experts are cloned as well, so that the pool inside a cloned
            pipeline is as fresh as one cloned by itself.
        include_attributes
            Whether to copy attributes that are no parameters, as in River.

        Returns
        -------
        ExpertPool
            The new pool.
        """
        params = dict(new_params or {})
        experts = params.get("experts", self.experts)
        params["experts"] = {name: expert.clone() for name, expert in experts.items()}
        pool: ExpertPool = super().clone(params, include_attributes)
        return pool

    def weights(self) -> dict[str, float]:
        """Return each expert's share of the prediction, without unit, summing to one."""
        return dict(zip(self.experts, self._aggregator.weights().tolist(), strict=True))

    def absolute_weights(self) -> Array:
        """Return the size of each expert's weight, (k,), one in sum: a view, valid until the next label."""
        return self._aggregator.sizes()

    def heads(self) -> Heads:
        """Return how the experts' outputs are combined now."""
        return self._aggregator.heads()

    def expert_outputs(self, x: Mapping[str, Any]) -> dict[str, float]:
        """Return each expert's output for one row: finite, within the targets seen, in target units.

        Before any target all outputs are 0.0.

        Parameters
        ----------
        x
            Feature values by name, none missing.
        """
        if not self.n_seen:
            return dict.fromkeys(self.experts, 0.0)
        self.flush()
        clip = self._target_stats().clip
        views = zip(self.experts.items(), self._views(x), strict=True)
        return {name: clip(expert.predict_one(view)) for (name, expert), view in views}

    def predict_one(self, x: Mapping[str, Any]) -> float:
        """Return the prediction for one row, in target units; 0.0 before any target.

        Parameters
        ----------
        x
            Feature values by name, none missing.
        """
        return self.predict_with_outputs(x)[0]

    def predict_with_outputs(self, x: Mapping[str, Any]) -> tuple[float, Array]:
        """Return the prediction for one row and the experts' outputs (k,) behind it, in target units.

        Parameters
        ----------
        x
            Feature values by name, none missing.
        """
        outputs = np.array(list(self.expert_outputs(x).values()))
        return self.combine(outputs, self._target_stats()), outputs

    def combine(self, outputs: Array, stats: TargetStats) -> float:
        """Return the prediction from the experts' outputs.

        Parameters
        ----------
        outputs
            In the pool's order, (k,), all finite, in target units.
        stats
            The range of targets to clip it to.

        Returns
        -------
        float
            In target units; 0.0 before any target.
        """
        if not stats.is_known:
            return 0.0
        # not stats.clip: the plan's kernel does just this, and both must agree to the last bit
        return clip(self._aggregator.combine(outputs), stats.low, stats.high)

    def set_served_outputs(self, outputs: Sequence[float], age: int = 0) -> None:
        """Hand over the experts' outputs as they were served for the row that is learned next.

        Without them the pool asks its experts, as they are now.

        Parameters
        ----------
        outputs
            In the pool's order, in target units; NaN, or left out at the end, where an expert had none.
        age
            How many labels were learned between the serving and now.
        """
        self._expected = outputs, age

    def learn_one(self, x: Mapping[str, Any], y: float) -> None:
        """Learn from one row how to combine, then teach it to every expert.

        Parameters
        ----------
        x
            Feature values by name, none missing.
        y
            The target, finite.

        Raises
        ------
        ValueError
            If the target is NaN or infinite; nothing is learned then.
        """
        expected, self._expected = self._expected, None
        if not math.isfinite(y):
            raise ValueError(f"the target must be finite, not {y!r}")
        if self.n_seen:
            served, age = expected or (list(self.expert_outputs(x).values()), 0)
            self.update_weights(served, y, age)
        queued = self.row_to_learn(x, y)
        if self._queue is None:
            self.learn_predict_many([queued])
        else:
            self._queue.append(queued)

    def update_weights(self, served: Sequence[float], y: float, age: int) -> None:
        """Learn how to combine.

        Parameters
        ----------
        served
            The experts' outputs as `set_served_outputs` takes them.
        y
            The target, finite.
        age
            How many labels were learned between the serving and now.
        """
        self._aggregator.learn(self._complete(served), y, age)

    def row_to_predict(self, x: Mapping[str, Any]) -> QueuedRow:
        """Return a row that experts are to predict, for `learn_predict_many`."""
        return QueuedRow(x, None, self._target_stats())

    def row_to_learn(self, x: Mapping[str, Any], y: float) -> QueuedRow:
        """Learn a target's range and mean; return its row, which experts are still to learn.

        Parameters
        ----------
        x
            Feature values by name, none missing.
        y
            The target, finite.

        Returns
        -------
        QueuedRow
            For `learn_predict_many`.
        """
        queued = QueuedRow(x, y, self._target_stats())
        self.n_seen += 1
        self.target_mean += y / self.n_seen - self.target_mean / self.n_seen  # no overflow at any size
        self.low = min(self.low, y)
        self.high = max(self.high, y)
        return queued

    @contextlib.contextmanager
    def batched(self) -> Iterator[None]:
        """Within the block, experts learn rows many at a time, one expert after the other.

        What they learn is the same to the last bit, in less time: an expert's arrays and code stay in the
        processor's caches from row to row. Call `flush` before looking at an expert within the block.
        """
        self._queue = []
        try:
            yield
        finally:
            self.flush()
            del self._queue

    def flush(self) -> None:
        """Have the experts learn the rows queued for them."""
        if self._queue:
            self.learn_predict_many(self._queue)
            self._queue.clear()

    def learn_predict_many(self, queued: Sequence[QueuedRow]) -> list[Array]:
        """Have the scaler, and then every expert by itself, learn and predict rows in their order.

        Parameters
        ----------
        queued
            From `row_to_predict` and `row_to_learn`.

        Returns
        -------
        list of array
            The experts' outputs (k,) for each row to predict, clipped, in target units.
        """
        if not queued:
            return []
        batch = MicroBatch(queued, self.scaler)
        outputs = [
            batch.learn_predict(expert, self.views.get(name, ALL_FEATURES))
            for name, expert in self.experts.items()
        ]
        clips = [item.target_stats.clip for item in queued if item.target is None]
        by_row = zip(clips, zip(*outputs, strict=True), strict=True)
        return [np.array(list(map(clip, row_outputs))) for clip, row_outputs in by_row]

    def __getstate__(self) -> dict[str, Any]:
        self.flush()
        return {name: value for name, value in self.__dict__.items() if name != "_queue"}

    def _complete(self, served: Sequence[float]) -> Array:
        """Outputs as served, NaN for those that were not."""
        missing = len(self.experts) - len(served)
        return np.array([*served, *(math.nan,) * missing][: len(self.experts)])

    def _views(self, x: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """What each expert reads of a row, in the pool's order."""
        scaled, views = self.scaler.transform_one(x), self.views
        for name in self.experts:
            view = views.get(name, ALL_FEATURES)
            yield view.of(scaled if view.scaled else x)

    def _target_stats(self) -> TargetStats:
        return TargetStats(self.low, self.high, self.target_mean)
