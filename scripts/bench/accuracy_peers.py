"""What the pool is measured against: naive forecasts, LightGBM in batches, River's and CapyMOA's models.

Every model gets the rows of a :class:`tests.support.accuracy_stream.Stream` and gives a prediction for each
row after the bootstrap part, made from the labels that had arrived. Rows are as served: LightGBM takes
missing values as they are, the online models take imputed and standardised rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from river import ensemble, forest, rules, tree

from tests.support.accuracy_figures import Forecast
from tests.support.accuracy_stream import Stream, arrivals, naive_forecasts

__all__ = ["CAPYMOA", "PEERS", "Model", "Tick"]

Floats = npt.NDArray[np.float64]
Tick = Callable[[], None]
RETRAINED_EVERY = 2000
LIGHTGBM = {
    "objective": "regression",
    "num_leaves": 31,
    "learning_rate": 0.05,
    "min_data_in_leaf": 20,
    "num_threads": 1,
    "deterministic": True,
    "seed": 1,
    "verbosity": -1,
}
PEER_BOOSTING_ROUNDS = 200


Model = Callable[[Stream, Tick], Forecast]


def naive(name: str) -> Model:
    """One of the naive forecasts."""

    def forecast(stream: Stream, tick: Tick) -> Forecast:  # noqa: ARG001 - it takes no time to tick for
        begun = time.process_time()
        predictions = naive_forecasts(stream)[name][stream.bootstrap :]
        return Forecast(predictions, time.process_time() - begun)

    return forecast


def boosted(every: int | None) -> Model:
    """LightGBM trained on the bootstrap part, and again after so many rows on all labels by then."""

    def forecast(stream: Stream, tick: Tick) -> Forecast:
        import lightgbm

        first, last = stream.bootstrap, len(stream.targets)
        predictions, begun = np.empty(last - first), time.process_time()
        step = every or last
        for start in range(first, last, step):
            known = max(first, start - stream.delay)
            data = lightgbm.Dataset(stream.served[:known], stream.targets[:known])
            model = lightgbm.train(LIGHTGBM, data, PEER_BOOSTING_ROUNDS)
            rows = stream.served[start : start + step]
            predictions[start - first : start - first + len(rows)] = model.predict(rows)
            for _ in rows:
                tick()
        return Forecast(predictions, time.process_time() - begun)

    return forecast


def river(make: Callable[[], Any]) -> Model:
    """A River regressor; an output that is not finite counts as the mean of the bootstrap targets."""

    def forecast(stream: Stream, tick: Tick) -> Forecast:
        model, rows = make(), stream.dicts()
        return online(
            stream,
            tick,
            lambda row_index: model.predict_one(rows[row_index]),
            lambda row_index: model.learn_one(rows[row_index], float(stream.targets[row_index])),
        )

    return forecast


def capymoa(name: str) -> Model:
    """A CapyMOA regressor, where CapyMOA and Java are installed."""

    def forecast(stream: Stream, tick: Tick) -> Forecast:
        from capymoa import regressor
        from capymoa.core import RegressionInstance
        from capymoa.stream import Schema

        schema = Schema.from_custom(
            features=[*(f"f{i}" for i in range(len(stream.columns))), "target"],
            target="target",
            name=stream.name,
        )
        model = getattr(regressor, name)(schema=schema, random_seed=1)
        instances = [
            RegressionInstance.from_array(schema, row, float(target))
            for row, target in zip(stream.scaled, stream.targets, strict=True)
        ]
        return online(
            stream,
            tick,
            lambda row_index: model.predict(instances[row_index]),
            lambda row_index: model.train(instances[row_index]),
        )

    return forecast


def online(
    stream: Stream, tick: Tick, predict: Callable[[int], Any], learn: Callable[[int], Any]
) -> Forecast:
    """Learn the labels as they arrive and predict the tested rows; the time is that of these rows."""
    fallback, first = float(stream.targets[: stream.bootstrap].mean()), stream.bootstrap
    predictions, begun = [], time.process_time()
    for row_index, arrived in enumerate(arrivals(len(stream.targets), first, stream.delay)):
        for label in arrived:
            learn(label)
        if row_index == first:
            begun = time.process_time()
        if row_index >= first:
            output = predict(row_index)
            predictions.append(fallback if output is None or not np.isfinite(output) else float(output))
            tick()
    return Forecast(np.array(predictions), time.process_time() - begun)


PEERS: dict[str, Model] = {
    "persistence": naive("persistence"),
    "day before": naive("day before"),
    "week before": naive("week before"),
    "LightGBM frozen": boosted(None),
    "LightGBM retrained": boosted(RETRAINED_EVERY),
    "HATR": river(lambda: tree.HoeffdingAdaptiveTreeRegressor(seed=1)),
    "AMRules": river(rules.AMRules),
    "ARF": river(lambda: forest.ARFRegressor(seed=1)),
    "SRP": river(lambda: ensemble.SRPRegressor(n_models=10, seed=1)),
}
CAPYMOA: dict[str, Model] = {
    "CapyMOA SGBR": capymoa("StreamingGradientBoostedRegression"),
    "CapyMOA SOKNL": capymoa("SOKNL"),
    "CapyMOA ARF-Reg": capymoa("AdaptiveRandomForestRegressor"),
}
