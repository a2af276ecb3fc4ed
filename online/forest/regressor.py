"""The forest as a River estimator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from river import base

from online.forest import forest_state as state
from online.forest import inspection
from online.forest.add_features import add_delayed_lines, add_features, reserve_for_a_row
from online.forest.array_table import array_table_of
from online.forest.budget import keep_budget
from online.forest.export import ExportedTrees, InputBounds, export_input_bounds, export_trees
from online.forest.forest_kernels import learn_at, predict_at
from online.forest.forest_rows import RowReader
from online.forest.forest_state import Array, Arrays
from online.forest.pickling import pack_arrays, unpack_arrays
from online.forest.random_state import seeded_generators

__all__ = ["AdaptiveForestRegressor"]


class AdaptiveForestRegressor(base.MiniBatchRegressor):
    """An adaptive forest of Hoeffding trees in flat arrays, learned and scored by compiled kernels.

    Every member is a Hoeffding tree [1]_ for regression [2]_ on a random subspace of the features [3]_ that
    learns each row with a Poisson weight [4]_. Leaves predict by their mean or one of two linear models,
    whichever did best of late. Two ADWIN detectors [5]_ watch each member's error: the nervous one starts a
    background tree, and once the calm one has found that the error rose, the background tree takes the
    member's place as soon as it is the better one [6]_. The members' outputs are weighted by the inverse of
    their faded errors.

    Parameters
    ----------
    n_models
        How many members.
    subspace
        Share of the features a tree may split on, in (0, 1]. Linear models use all.
    rate
        Mean of the Poisson weights, positive.
    grace
        Weight a leaf observes between two attempts to split it.
    delta
        One minus the confidence of the Hoeffding bound, in (0, 1).
    tau
        The bound below which two features count as equally good, and the leaf is split.
    max_depth
        Depth of a tree at most, up to 60.
    slow_step, fast_step
        Share of its own error that a row takes away from the two linear models of a leaf, at weight one, in
        (0, 1].
    decay
        Fading of the squared errors by which a leaf chooses what it predicts by, in (0, 1).
    warning_delta, drift_delta
        Significance of the two detectors, in (0, 1).
    horizon
        Rows after which a background tree that came to nothing is dropped.
    max_bytes
        Budget of all trees. It holds for nodes and observers; what is needed beside them does not grow.
    delay
        About how many rows labels come late, at least 0. Linear models are then judged as they were so many
        rows before. It may be set at any time, and the first value above 0 makes room for those older models.
    seed
        Makes everything reproducible.

    Attributes
    ----------
    n_warnings, n_drifts : int
        How many background trees were started by a warning, and how often a member's error was found to have
        risen.
    n_skipped : int
        Rows not learned because their target was no finite number, or their weight not above zero.
    n_bytes : int
        Bytes of all arrays now.

    Notes
    -----
    Numbers are features as they are; text is a category, and the 31 categories that came first are told
    apart. None, NaN, infinite and absurd values (beyond 1e30) count as missing: they go the way down a tree
    that has proved best for missing values, and enter linear models as the feature's mean. A target beyond
    thirty deviations is clipped.

    The first call in a fresh installation compiles the kernels, which takes about a minute, and caches them
    on disk.

    An instance may be used by one thread at a time, also for predictions.

    References
    ----------
    .. [1] Domingos, P., Hulten, G., 2000. Mining high-speed data streams. KDD, 71-80.
    .. [2] Ikonomovska, E., Gama, J., Džeroski, S., 2011. Learning model trees from evolving data streams.
       Data Mining and Knowledge Discovery 23, 128-168.
    .. [3] Gomes, H. M., Read, J., Bifet, A., 2019. Streaming random patches for evolving data stream
       classification. ICDM, 240-249; for regression: Gomes, H. M. et al., 2021. On ensemble techniques for
       data stream regression.
    .. [4] Bifet, A., Holmes, G., Pfahringer, B., 2010. Leveraging bagging for evolving data streams. ECML
       PKDD.
    .. [5] Bifet, A., Gavaldà, R., 2007. Learning from time-changing data with adaptive windowing. SDM.
    .. [6] Gomes, H. M., Barddal, J. P., Boiko Ferreira, L. E., Bifet, A., 2018. Adaptive random forests for
       data stream regression. ESANN.

    Examples
    --------
    >>> import random
    >>> from online.forest.regressor import AdaptiveForestRegressor
    >>> rng = random.Random(7)
    >>> model = AdaptiveForestRegressor(n_models=5, seed=7)
    >>> for _ in range(3000):
    ...     x = {"a": rng.uniform(-1, 1), "site": rng.choice(["north", "south"])}
    ...     model.learn_one(x, 2 * x["a"] + (3 if x["site"] == "north" else -3))
    >>> round(model.predict_one({"a": 0.5, "site": "north"}), 1)
    4.0
    """

    def __init__(  # noqa: PLR0913 - settings, as River's estimators take them
        self,
        n_models: int = 30,
        subspace: float = 0.7,
        rate: float = 6.0,
        grace: float = 200.0,
        delta: float = 1e-6,
        tau: float = 0.05,
        max_depth: int = 20,
        slow_step: float = 0.02,
        fast_step: float = 0.4,
        decay: float = 0.99,
        warning_delta: float = 1e-4,
        drift_delta: float = 1e-6,
        horizon: int = 5000,
        max_bytes: int = 24_000_000,
        delay: int = 0,
        seed: int = 1,
    ) -> None:
        for name, share in (("subspace", subspace), ("slow_step", slow_step), ("fast_step", fast_step)):
            if not 0.0 < share <= 1.0:
                raise ValueError(f"{name} must be in (0, 1], not {share!r}")
        deltas = {"delta": delta, "decay": decay, "warning_delta": warning_delta, "drift_delta": drift_delta}
        for name, share in deltas.items():
            if not 0.0 < share < 1.0:
                raise ValueError(f"{name} must be in (0, 1), not {share!r}")
        if not 0.0 < rate <= 50.0:
            raise ValueError(f"rate must be above 0 and at most 50, not {rate!r}")
        for name, count in (("n_models", n_models), ("max_depth", max_depth), ("horizon", horizon)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, not {count!r}")
        if max_depth > 60:
            raise ValueError(f"max_depth must be at most 60, not {max_depth!r}")
        self.n_models = n_models
        self.subspace = subspace
        self.rate = rate
        self.grace = grace
        self.delta = delta
        self.tau = tau
        self.max_depth = max_depth
        self.slow_step = slow_step
        self.fast_step = fast_step
        self.decay = decay
        self.warning_delta = warning_delta
        self.drift_delta = drift_delta
        self.horizon = horizon
        self.max_bytes = max_bytes
        self.seed = seed
        self._reader = RowReader()
        self._use(self._fresh_arrays())
        self.delay = delay

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"n_models": 3, "seed": 1}
        yield {"n_models": 2, "subspace": 1.0, "grace": 20.0, "delay": 24, "seed": 2}

    def _fresh_arrays(self) -> Arrays:
        arrays = state.fresh_arrays(self.n_models, 1, 1, 0)
        arrays.rng[:] = seeded_generators(self.seed, self.n_models + 1)
        arrays.member_i[:, state.M_TREE] = 2 * np.arange(self.n_models)
        arrays.member_i[:, state.M_BACKGROUND] = state.ABSENT
        parameters = {
            state.P_RATE: self.rate,
            state.P_GRACE: self.grace,
            state.P_DELTA: self.delta,
            state.P_TAU: self.tau,
            state.P_SLOW_STEP: self.slow_step,
            state.P_FAST_STEP: self.fast_step,
            state.P_DECAY: self.decay,
            state.P_WARN_DELTA: self.warning_delta,
            state.P_DRIFT_DELTA: self.drift_delta,
            state.P_HORIZON: self.horizon,
            state.P_MAX_DEPTH: self.max_depth,
            state.P_SUBSPACE: self.subspace,
            # what is no parameter of the class: nobody would know how to choose it
            state.P_POWER: 3.0,
            state.P_ERROR_DECAY: 0.99,
            state.P_MIN_BRANCH: 30.0,
            state.P_MIN_GAIN: 0.0,
        }
        for column, value in parameters.items():
            arrays.par[column] = value
        return arrays

    def _use(self, arrays: Arrays) -> None:
        """Go on with these arrays: make room for a row and a new array table."""
        self._arrays = arrays
        features = len(arrays.feature)
        # one row for the kernels to read: its features, target, weight, and that it is to learn
        self._input = np.full(features + 3, np.nan)
        self._input[-1] = 0.0
        self._row = self._input[:features]
        self._output = np.zeros(1)
        self._table = array_table_of(arrays)
        self._forest = self._table.ctypes.data
        # the kernels' arguments: addresses are taken once, not for every row
        start = self._input.ctypes.data
        end = start + 8 * features
        self._learn_at = (self._forest, start, end, end + 8, end + 16, 1)
        self._predict_at = (self._forest, start, self._output.ctypes.data, 1)

    def learn_one(self, x: Mapping[str, Any], y: float, w: float = 1.0) -> None:
        """Learn one row.

        Parameters
        ----------
        x
            Feature values by name: numbers, text for categories, None or NaN where missing.
        y
            The target; a row whose target is not finite is skipped and counted.
        w
            Sample weight: multiplies the mean of the Poisson weights. Zero or less learns nothing.
        """
        if not self._reader.fill_fast(self._row, x):
            self._add_features(x)
            self._reader.fill(self._row, x)
        self._input[-3] = y
        self._input[-2] = w
        while not learn_at(*self._learn_at):
            self._make_room()

    def predict_one(self, x: Mapping[str, Any]) -> float:
        """Return the prediction for one row, in target units, always finite; 0.0 before any target.

        Parameters
        ----------
        x
            Feature values by name; unknown ones are ignored.
        """
        self._reader.fill(self._row, x)
        predict_at(*self._predict_at)
        return float(self._output[0])

    def learn_many(self, X: Any, y: Any, w: Any = None) -> None:
        """Learn the rows of a table, exactly as one by one.

        Parameters
        ----------
        X
            A pandas frame.
        y
            Its targets.
        w
            Their weights; 1 each by default.
        """
        targets, weights = y.tolist(), [1.0] * len(X) if w is None else list(w)
        rows = X.to_dict("records")
        if self._reader.codes or any(kind.kind not in "fiub" for kind in X.dtypes) or not rows:
            for row, target, weight in zip(rows, targets, weights, strict=True):
                self.learn_one(row, target, weight)
            return
        self._add_features(rows[0])
        predict_only = np.zeros(len(rows))
        self._learn_rows(self._matrix(X), np.array(targets, float), np.array(weights, float), predict_only)

    def learn_predict_many(
        self, names: tuple[str, ...], rows: Array, targets: Sequence[float]
    ) -> list[float] | None:
        """Learn and predict rows in order, to the last bit as one by one.

        Parameters
        ----------
        names
            The features, in the order of their names.
        rows
            Their values, (n, features).
        targets
            The targets, (n,), NaN for rows to predict.

        Returns
        -------
        list or None
            The predictions for those; None, and nothing was done, when these are not just the features known,
            or one is a category.
        """
        if self._reader.codes or names != tuple(self._reader.places):
            return None
        rows, outputs = np.ascontiguousarray(rows, float), np.array(targets, float)
        predict_only = np.isnan(outputs)
        self._learn_rows(rows, outputs, np.ones(len(rows)), predict_only.astype(float))
        predictions: list[float] = outputs[predict_only].tolist()
        return predictions

    def _learn_rows(self, rows: Array, targets: Array, weights: Array, predict_only: Array) -> None:
        """Learn or predict rows (n, D); all arrays are C-contiguous doubles."""
        done = 0
        while done < len(rows):
            arrays = (rows, targets, weights, predict_only)
            at_row, at_target, at_weight, at_flag = (array[done:].ctypes.data for array in arrays)
            count = len(rows) - done
            done += int(learn_at(self._forest, at_row, at_target, at_weight, at_flag, count))
            if done < len(rows):
                self._make_room()

    def _predict_rows(self, rows: Array, out: Array) -> None:
        predict_at(self._forest, rows.ctypes.data, out.ctypes.data, len(rows))

    def predict_many(self, X: Any) -> Any:
        """Return the predictions for the rows of a pandas frame as a series.

        Parameters
        ----------
        X
            A pandas frame.

        Returns
        -------
        Series
            In target units, with the frame's index.
        """
        import pandas as pd

        rows, out = self._matrix(X), np.zeros(len(X))
        self._predict_rows(rows, out)
        return pd.Series(out, index=X.index, name="prediction")

    def _matrix(self, X: Any) -> Array:
        """A pandas frame as rows (n, D) of this forest's features."""
        rows = np.full((len(X), len(self._row)), np.nan)
        for row, x in zip(rows, X.to_dict("records"), strict=True):
            self._reader.fill(row, x)
        return rows

    def _add_features(self, x: Mapping[str, Any]) -> None:
        """Make room for new features, and number new categories."""
        names = self._reader.new_names(x)
        if names:
            self._reader.add_features(names)
            self._use(add_features(self._arrays, len(self._reader.places), self.max_bytes))
        feature = self._arrays.feature
        unseen = {name for name, place in self._reader.places.items() if feature[place, state.F_N] == 0.0}
        for name in self._reader.add_categories(x, unseen):
            feature[self._reader.places[name], state.F_KIND] = 1.0

    def _make_room(self) -> None:
        """Give up what is beyond the budget, then let the pools grow towards it."""
        arrays, reserve = self._arrays, reserve_for_a_row(self.n_models)
        counts = arrays.counts
        keep_budget(arrays, reserve)
        nodes, slots = len(arrays.free_node), len(arrays.free_slot)
        if counts[state.N_NODES_FREE] + nodes - counts[state.N_NODES_HIGH] < reserve:
            size = max(nodes + nodes // 4, int(counts[state.N_NODES_HIGH]) + reserve)
            size = min(size, int(counts[state.N_NODES_MAX]))
            arrays = state.with_pool_of(arrays, state.NODE_POOL, size)
        if counts[state.N_SLOTS_FREE] + slots - counts[state.N_SLOTS_HIGH] < reserve:
            size = max(slots + slots // 4, int(counts[state.N_SLOTS_HIGH]) + reserve)
            size = min(size, int(counts[state.N_SLOTS_MAX]))
            arrays = state.with_pool_of(arrays, state.SLOT_POOL, size)
        if arrays is not self._arrays:
            row_to_learn = self._input
            self._use(arrays)
            self._input[:] = row_to_learn

    @property
    def delay(self) -> int:
        """About how many rows labels come late."""
        return int(self._arrays.par[state.P_DELAY])

    @delay.setter
    def delay(self, rows: int) -> None:
        if rows < 0:
            raise ValueError(f"delay must be at least 0, not {rows!r}")
        if rows and not self.delay:  # earlier lines, if there are any, are of long ago
            self._use(add_delayed_lines(self._arrays, self.max_bytes))
        self._arrays.par[state.P_DELAY] = rows

    @property
    def n_warnings(self) -> int:
        """How many background trees were started by a warning."""
        return int(self._arrays.member_i[:, state.M_WARNINGS].sum())

    @property
    def n_drifts(self) -> int:
        """How often a member's error was found to have risen."""
        return int(self._arrays.member_i[:, state.M_DRIFTS].sum())

    @property
    def n_skipped(self) -> int:
        """Rows that were not learned because of their target or weight."""
        return int(self._arrays.counts[state.N_SKIPPED])

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._arrays)

    def to_frame(self) -> Any:
        """Return the nodes of the members' trees as a pandas frame, one row a node, parents first."""
        import pandas as pd

        return pd.DataFrame(inspection.node_columns(self._arrays, self._names))

    def draw(self, member: int = 0) -> str:
        """Return one member's tree as a drawing in text.

        Parameters
        ----------
        member
            Which member, from 0.
        """
        return inspection.draw_tree(self._arrays, self._names, member)

    def feature_importances(self) -> dict[str, float]:
        """Return each feature's share of the variance taken away by splits, one in sum.

        Before any split all are zero.
        """
        return inspection.importances(self._arrays, self._names)

    def contributions_one(self, x: Mapping[str, Any]) -> dict[str, float]:
        """Return what each feature adds to the prediction of a row, in target units.

        With the entry under the empty name, which is no feature's doing, they add up to what `predict_one`
        gives.

        Parameters
        ----------
        x
            Feature values by name.
        """
        prediction = self.predict_one(x)
        if self._arrays.votes.sum() == 0.0:
            return {"": prediction}
        return inspection.contributions(self._arrays, self._names, prediction)

    def members(self) -> ExportedTrees:
        """Return the members as they are now, as arrays; none before any target.

        A row is scored from them, and from `row_bounds`, to what `predict_one` gives, but for the rounding of
        sums: values that are not finite, or beyond 1e30, count as missing. Each member descends by the row as
        it came, to a leaf; its line reads the row clipped to the bounds, missing values filled; the result is
        clipped to the leaf's own bounds. The members' outputs are summed by their weights.

        Raises
        ------
        ValueError
            If a feature is a category.
        """
        self.row_bounds()
        predict_at(*self._predict_at)  # brings the members' weights up to date
        return export_trees(self._arrays, len(self._reader.places))

    def row_bounds(self) -> InputBounds:
        """Return the features in the members' order, and between which values lines read them now.

        Raises
        ------
        ValueError
            If a feature is a category.
        """
        return export_input_bounds(self._arrays, self._names.features)

    @property
    def _names(self) -> inspection.FeatureNames:
        return inspection.FeatureNames(self._reader.places, self._reader.codes)

    def __getstate__(self) -> dict[str, Any]:
        runtime = {"_arrays", "_input", "_output", "_row", "_table", "_forest", "_learn_at", "_predict_at"}
        attributes = {name: value for name, value in self.__dict__.items() if name not in runtime}
        return attributes | {"arrays": pack_arrays(self._arrays)}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        arrays = unpack_arrays(attributes.pop("arrays"))
        self.__dict__.update(attributes)
        self._use(arrays)
