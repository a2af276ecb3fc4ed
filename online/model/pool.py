"""The pool: several experts, the rows they read, and what combines their outputs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from river import base

from online.model.aggregation.aggregator import Aggregator
from online.model.aggregation.heads import Array, Heads
from online.model.experts.nlms import NormalizedLMS
from online.model.micro_batch import Seen, Step, Stretch, View
from online.model.scaling import StandardScaler

__all__ = ["ExpertPool"]


class ExpertPool(base.Regressor):
    """Several experts that learn every row, and the combination that did best of late.

    An expert's output is held to the range of targets seen; one that is NaN or infinite is replaced by the
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

    _queue: list[Step] | None = None  # rows yet to be taught

    def __init__(
        self,
        experts: dict[str, base.Regressor],
        views: dict[str, View] | None = None,
        scaler: base.Transformer | None = None,
    ) -> None:
        if not experts:
            raise ValueError("a pool needs at least one expert")
        strangers = sorted(set(views or {}) - set(experts))
        if strangers:
            raise ValueError(f"there is a view for {strangers[0]!r}, but no such expert")
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
        """
        params = dict(new_params or {})
        experts = params.get("experts", self.experts)
        params["experts"] = {name: expert.clone() for name, expert in experts.items()}
        pool: ExpertPool = super().clone(params, include_attributes)
        return pool

    def weights(self) -> dict[str, float]:
        """Return each expert's share of the prediction, without unit, summing to one."""
        return dict(zip(self.experts, self._aggregator.weights().tolist(), strict=True))

    def shares(self) -> Array:
        """Return the size of each expert's weight, (k,), summing to one; to be read at once, not kept."""
        return self._aggregator.sizes()

    def regrets(self) -> dict[str, float]:
        """Return by how much each expert would have been better than the pool, in target units a row.

        The mean over all rows; below zero for an expert the pool is better than.
        """
        return dict(zip(self.experts, self._aggregator.regrets().tolist(), strict=True))

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
        rows, held = zip(self.experts.items(), self._views(x), strict=True), self._seen().held
        return {name: held(expert.predict_one(row)) for (name, expert), row in rows}

    def predict_one(self, x: Mapping[str, Any]) -> float:
        """Return the prediction for one row, in target units; 0.0 before any target.

        Parameters
        ----------
        x
            Feature values by name, none missing.
        """
        return self.answer(x)[0]

    def answer(self, x: Mapping[str, Any]) -> tuple[float, Array]:
        """Return the prediction for one row and the experts' outputs (k,) behind it, in target units.

        Parameters
        ----------
        x
            Feature values by name, none missing.
        """
        outputs = np.array(list(self.expert_outputs(x).values()))
        return self.combine(outputs, self._seen()), outputs

    def combine(self, outputs: Array, seen: Seen) -> float:
        """Return the prediction from the experts' outputs (k,), in target units; 0.0 before any target.

        Parameters
        ----------
        outputs
            In the pool's order, all finite.
        seen
            The targets to hold it to.
        """
        if not seen.some:
            return 0.0
        return min(max(self._aggregator.combine(outputs), seen.low), seen.high)  # as the plan's kernel does

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
            self.weigh(served, y, age)
        step = self.admit(x, y)
        if self._queue is None:
            self.learn_predict_many([step])
        else:
            self._queue.append(step)

    def weigh(self, served: Sequence[float], y: float, age: int) -> None:
        """Learn how to combine, from a target and the outputs as `set_served_outputs` takes them."""
        self._aggregator.learn(self._complete(served), y, age)

    def ask(self, x: Mapping[str, Any]) -> Step:
        """Return a row as experts are to answer it."""
        return Step(x, None, self._seen())

    def admit(self, x: Mapping[str, Any], y: float) -> Step:
        """Take a target into the range and the mean; return its row as experts are to learn it."""
        step = Step(x, y, self._seen())
        self.n_seen += 1
        self.target_mean += y / self.n_seen - self.target_mean / self.n_seen  # no overflow at any size
        self.low = min(self.low, y)
        self.high = max(self.high, y)
        return step

    @contextlib.contextmanager
    def batched(self) -> Iterator[None]:
        """Within the block, experts learn rows many at a time, each all of them: the same to the last bit.

        An expert's arrays and code are then at hand for the next row. Whoever looks at an expert within the
        block calls `flush` before.
        """
        self._queue = []
        try:
            yield
        finally:
            self.flush()
            del self._queue

    def flush(self) -> None:
        """Have the experts learn what waits for them."""
        if self._queue:
            self.learn_predict_many(self._queue)
            self._queue.clear()

    def learn_predict_many(self, steps: Sequence[Step]) -> list[Array]:
        """Have the scaler, and then every expert by itself, learn and answer rows in their order.

        Returns
        -------
        list of array
            The experts' outputs (k,) for each row that they were asked about, in target units.
        """
        if not steps:
            return []
        stretch, views = Stretch(steps, self.scaler), self.views
        answers = [stretch.through(expert, views.get(name, ALL)) for name, expert in self.experts.items()]
        held = [step.seen.held for step in steps if step.target is None]
        return [np.array(list(map(*row))) for row in zip(held, zip(*answers, strict=True), strict=True)]

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
            view = views.get(name, ALL)
            yield view.of(scaled if view.scaled else x)

    def _seen(self) -> Seen:
        return Seen(self.low, self.high, self.target_mean)


ALL = View()
