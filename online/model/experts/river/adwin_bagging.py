"""Online bagging whose members are replaced when their error rises."""

from __future__ import annotations

import inspect
import math
import statistics
from collections.abc import Iterator
from typing import Any

from river import base, drift
from river.utils.random import poisson

from online.model.experts.nlms import NormalizedLMS

__all__ = ["ADWINBaggingRegressor"]

_CALIBRATION_ROWS = 100
_SEED_BITS = 32


class _ErrorWatch:
    """Two ADWIN detectors on one member's absolute error, mapped into [0, 1).

    An error `e` enters the detectors as `e / (e + scale)`, `scale` being the median of the first
    `_CALIBRATION_ROWS` errors. The map keeps any outlier below one, and the scale then stays fixed: one that
    followed the errors would bend the mapped ones although the errors themselves did not change.
    """

    def __init__(self, warning_delta: float, drift_delta: float) -> None:
        self.scale: float | None = None
        self._first: list[float] = []
        self._warning = drift.ADWIN(delta=warning_delta)
        self._drift = drift.ADWIN(delta=drift_delta)

    def update(self, error: float) -> tuple[bool, bool]:
        """Take in one absolute error; return whether it warns, and whether it shows a drift."""
        if self.scale is None:
            self._calibrate(error)
            return False, False
        level = self._level(error, self.scale)
        return self._rose(self._warning, level), self._rose(self._drift, level)

    def _calibrate(self, error: float) -> None:
        self._first.append(error)
        if len(self._first) == _CALIBRATION_ROWS:
            self.scale = statistics.median(e if e == e else math.inf for e in self._first)
            self._first = []

    @staticmethod
    def _level(error: float, scale: float) -> float:
        if error <= 0.0:
            return 0.0
        return 1.0 / (1.0 + scale / error) if math.isfinite(error) else 1.0

    @staticmethod
    def _rose(detector: drift.ADWIN, level: float) -> bool:
        before = detector.estimation
        detector.update(level)
        return bool(detector.drift_detected) and bool(detector.estimation > before)


class ADWINBaggingRegressor(base.WrapperEnsemble, base.Regressor):
    """Online bagging for regression, with a drift detector on every member.

    Every member learns every row with a weight drawn from a Poisson distribution [1]_. Two ADWIN
    detectors [2]_ watch each member's absolute error. When the nervous one finds that the error rose, a
    fresh background member starts to learn beside the member; when the calm one does, the background member
    (or a fresh one) takes its place and both detectors start anew [3]_ [4]_. A falling error changes nothing.

    Parameters
    ----------
    model
        The regressor to bag; it is cloned, never taught. If it has a `seed` parameter, every member gets its
        own. If its `learn_one` takes `w` it gets the drawn weight, otherwise it learns the row that many
        times.
    n_models
        How many members, at least two.
    rate
        Mean of the Poisson weights (no unit), positive.
    warning_delta, drift_delta
        Significance of the two detectors, in (0, 1). River's default of 0.002 replaces members on noise.
    horizon
        After how many rows without a drift a background member is dropped.
    seed
        Makes everything reproducible.

    Attributes
    ----------
    n_warnings, n_drifts : int
        How many background members were started and how many members were replaced.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Notes
    -----
    ADWIN wants values in [0, 1]: an error `e` enters as `e / (e + scale)`, `scale` being the median of the
    member's first 100 errors since its detectors started.

    A warning without a drift is a false alarm. Its background member is dropped after `horizon` rows, because
    it would otherwise double the cost of learning for good, and because a background member as old as that is
    no fresh start when the drift comes. A later warning starts another.

    Memory is bounded if the wrapped model's is: there are never more than `2 * n_models` copies.

    References
    ----------
    .. [1] Oza, N., Russell, S., 2001. Online bagging and boosting. AISTATS, 105-112.
    .. [2] Bifet, A., Gavaldà, R., 2007. Learning from time-changing data with adaptive windowing. SDM.
    .. [3] Bifet, A., Gavaldà, R., 2009. Adaptive learning from evolving data streams. IDA, 249-260.
    .. [4] Gomes, H. M., Barddal, J. P., Boiko Ferreira, L. E., Bifet, A., 2018. Adaptive random forests for
       data stream regression. ESANN.

    Examples
    --------
    >>> import random
    >>> from online.model.experts.river.adwin_bagging import ADWINBaggingRegressor
    >>> from river import tree
    >>> rng = random.Random(7)
    >>> model = ADWINBaggingRegressor(tree.HoeffdingTreeRegressor(max_depth=6), n_models=3, seed=7)
    >>> for i in range(3000):
    ...     x = {"a": rng.uniform(-1, 1)}
    ...     model.learn_one(x, 5 * x["a"] if i < 1500 else -5 * x["a"])
    >>> model.n_drifts
    3
    """

    def __init__(  # noqa: PLR0913 - settings, as River's estimators take them
        self,
        model: base.Regressor,
        n_models: int = 5,
        rate: float = 1.0,
        warning_delta: float = 1e-4,
        drift_delta: float = 1e-6,
        horizon: int = 5000,
        seed: int | None = None,
    ) -> None:
        if not 0.0 < rate < math.inf:
            raise ValueError(f"rate must be positive and finite, not {rate!r}")
        if not (0.0 < warning_delta < 1.0 and 0.0 < drift_delta < 1.0):
            raise ValueError(f"deltas must be in (0, 1), not {warning_delta!r} and {drift_delta!r}")
        if horizon < 1:
            raise ValueError(f"horizon must be at least 1, not {horizon!r}")
        super().__init__(model, n_models, seed)
        self.rate = rate
        self.warning_delta = warning_delta
        self.drift_delta = drift_delta
        self.horizon = horizon
        self.n_warnings = 0
        self.n_drifts = 0
        self._is_seeded = "seed" in inspect.signature(type(model)).parameters
        self._takes_weight = "w" in inspect.signature(model.learn_one).parameters
        self.data = [self.new_member() for _ in range(n_models)]
        self._watches = [self._fresh_watch() for _ in range(n_models)]
        self._background: list[base.Regressor | None] = [None] * n_models
        self._background_rows = [0] * n_models

    __repr__ = base.Base.__repr__  # the list's own would print the members instead of the parameters

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"model": NormalizedLMS(), "n_models": 3, "seed": 1}

    def new_member(self) -> base.Regressor:
        """Clone the model for the next member, with a seed of its own where it has one."""
        if self._is_seeded:
            return self.model.clone({"seed": self._rng.getrandbits(_SEED_BITS)})
        return self.model.clone()

    def _fresh_watch(self) -> _ErrorWatch:
        return _ErrorWatch(self.warning_delta, self.drift_delta)

    def predict_one(self, x: dict[str, Any], **kwargs: Any) -> float:
        """Return the plain mean of the members' predictions, in target units.

        Parameters
        ----------
        x
            Feature values by name.
        kwargs
            Passed on to the members.
        """
        return sum(float(member.predict_one(x, **kwargs)) for member in self.data) / len(self.data)

    def learn_one(self, x: dict[str, Any], y: float, w: float = 1.0, **kwargs: Any) -> None:
        """Teach every member one row and replace those whose error has risen.

        Parameters
        ----------
        x
            Feature values by name.
        y
            The target, finite.
        w
            Sample weight: multiplies the mean of the Poisson weights.
        kwargs
            Passed on to the members.
        """
        for index, member in enumerate(self.data):
            error = abs(y - member.predict_one(x))
            times = poisson(self.rate * w, self._rng)
            self._teach(member, x, y, times, kwargs)
            background = self._background[index]
            if background is not None:
                self._teach(background, x, y, times, kwargs)
                self._age_background(index)
            warned, drifted = self._watches[index].update(error)
            if drifted:
                self._replace(index, x, y, kwargs)
            elif warned and self._background[index] is None:
                self._warn(index)

    def _teach(
        self, member: base.Regressor, x: dict[str, Any], y: float, times: int, kwargs: dict[str, Any]
    ) -> None:
        if self._takes_weight and times:
            member.learn_one(x, y, w=float(times), **kwargs)
        elif not self._takes_weight:
            for _ in range(times):
                member.learn_one(x, y, **kwargs)

    def _age_background(self, index: int) -> None:
        self._background_rows[index] += 1
        if self._background_rows[index] >= self.horizon:
            self._background[index] = None

    def _warn(self, index: int) -> None:
        self.n_warnings += 1
        self._background[index] = self.new_member()
        self._background_rows[index] = 0

    def _replace(self, index: int, x: dict[str, Any], y: float, kwargs: dict[str, Any]) -> None:
        self.n_drifts += 1
        successor = self._background[index]
        if successor is None:
            successor = self.new_member()
            self._teach(successor, x, y, 1, kwargs)  # so that it never predicts as if nothing were known
        self.data[index] = successor
        self._background[index] = None
        self._watches[index] = self._fresh_watch()
