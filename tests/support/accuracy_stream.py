"""A stream to measure accuracy on: its rows as a client would send them, and as every model was served them.

All labels of the bootstrap part are known when the first row after it comes. Each later label arrives once
``delay`` more rows have been predicted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from river import preprocessing, stats

from bootstrap.choose_context import choose_context
from bootstrap.generate import generate_stream
from bootstrap.reading.bootstrap_rows import pairs
from bootstrap.reading.infer import infer_schema, order_rows
from bootstrap.reading.split import read_frame
from online.core.schema import ContextFeature, Schema
from online.features.row_encoder import RowEncoder

__all__ = ["Stream", "arrivals", "described", "inferred", "naive_forecasts", "prepare", "read_stream"]

Floats = npt.NDArray[np.float64]
FADING = 0.01
GENERATED: dict[str, Any] = {"target": "Production", "drop": [], "key": ["Source"], "delays": [0, 24, 168]}
GENERATED_DAYS, GENERATED_BOOTSTRAP = 700, 12_000


class Stream(NamedTuple):
    """A stream's rows in order, the first ``bootstrap`` of them to start from, labels ``delay`` rows late.

    ``served`` holds the encoded rows as served, NaN where a value is missing; ``scaled`` the same imputed and
    standardised by what had been seen before.
    """

    name: str
    delay: int
    schema: Schema
    first: pd.DataFrame
    rows: Sequence[dict[str, Any]]
    targets: Floats
    bootstrap: int
    key: tuple[str, ...]
    columns: list[str]
    served: Floats
    scaled: Floats

    @property
    def deviation(self) -> float:
        """Standard deviation of the bootstrap targets: the unit of the errors."""
        return float(self.targets[: self.bootstrap].std())

    def dicts(self) -> list[dict[str, float]]:
        """The standardised rows as River takes them."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.scaled.tolist()]


def described(folder: Path | None) -> dict[str, Any]:
    """What there is to measure: the real streams' entries, or that of the generated one."""
    if folder is None:
        return {"generated": GENERATED}
    entries: dict[str, Any] = json.loads((folder / "streams.json").read_text())
    return entries


def read_stream(folder: Path | None, name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A stream's rows and its entry."""
    entry = described(folder)[name]
    if folder is None:
        return generate_stream(seed=7, days=GENERATED_DAYS), entry | {"bootstrap_rows": GENERATED_BOOTSTRAP}
    return read_frame(folder / entry["file"]), entry


def inferred(frame: pd.DataFrame, entry: dict[str, Any], name: str) -> Schema:
    """The schema ``millrace bootstrap`` gives the bootstrap part."""
    first = frame.iloc[: entry["bootstrap_rows"]]
    schema = infer_schema(first, stream=name, target=entry["target"], drop=entry["drop"])
    return choose_context(schema, *zip(*pairs(order_rows(first, schema), schema), strict=True))


def prepare(frame: pd.DataFrame, entry: dict[str, Any], schema: Schema, delay: int, tested: int) -> Stream:
    """Serve all rows, labels so many rows late."""
    first = order_rows(frame.iloc[: entry["bootstrap_rows"]], schema)
    cut = order_rows(frame, schema).iloc[: len(first) + tested]
    rows, targets = zip(*pairs(cut, schema), strict=True)
    encoder = RowEncoder(schema.used, schema.context)
    served, scaled = serve(encoder, rows, targets, len(first), delay)
    known = {feature.name for feature in schema.used if feature.kind == "category"}
    key = tuple(name for name in entry["key"] if name in known)
    return Stream(
        schema.stream,
        delay,
        schema,
        first,
        rows,
        np.array(targets, dtype=float),
        len(first),
        key,
        encoder.columns,
        served,
        scaled,
    )


def arrivals(rows: int, bootstrap: int, delay: int) -> Iterator[range]:
    """For every row in turn, the rows whose labels arrive just before it is predicted."""
    learned = 0
    for row_index in range(rows):
        arrived = max(row_index - delay, bootstrap if row_index >= bootstrap else 0, learned)
        yield range(learned, arrived)
        learned = arrived


def serve(
    encoder: RowEncoder, rows: Sequence[dict[str, Any]], targets: Sequence[float], bootstrap: int, delay: int
) -> tuple[Floats, Floats]:
    """The rows as served, and imputed and standardised by what was known when each came."""
    imputer = preprocessing.StatImputer(*((c, stats.EWMean(FADING)) for c in encoder.columns))
    scaler = preprocessing.StandardScaler()
    served, scaled = np.empty((2, len(rows), len(encoder.columns)))
    for row_index, arrived in enumerate(arrivals(len(rows), bootstrap, delay)):
        for label in arrived:
            encoder.learn_one(rows[label], targets[label])
        encoded = encoder.transform_one(rows[row_index])
        imputer.learn_one(encoded)
        filled = {c: 0.0 if v is None else v for c, v in imputer.transform_one(encoded).items()}
        scaler.learn_one(filled)
        served[row_index] = [np.nan if v is None else v for v in encoded.values()]
        scaled[row_index] = list(scaler.transform_one(filled).values())
    return served, scaled


def naive_forecasts(stream: Stream) -> dict[str, Floats]:
    """The last label, that of the same hour and that of the same hour of the week, (rows,) each.

    All by the stream's key. Where there is none yet, the one before in this list, at last the mean.
    """
    features = stream.schema.used
    cycles = {name: size for feature in features for name, size in feature.groups.items()}
    cycles = {name: size for name, size in cycles.items() if name not in stream.key and size <= 100}
    hour = sorted((name for name in cycles), key=lambda name: -cycles[name])[:1]
    week = [name for name, size in cycles.items() if size in (7, 8) and name not in hour][:1]
    group_keys = {"persistence": stream.key, "day before": (*stream.key, *hour)}
    group_keys["week before"] = (*stream.key, *week, *hour)
    context = tuple(ContextFeature(name, by, kind="lag") for name, by in group_keys.items())
    encoder = RowEncoder(features, context)
    served, _ = serve(encoder, stream.rows, stream.targets.tolist(), stream.bootstrap, stream.delay)
    forecast = np.full(len(served), float(stream.targets[: stream.bootstrap].mean()))
    forecasts = {}
    for name, column in zip(group_keys, served[:, -len(group_keys) :].T, strict=True):
        forecast = np.where(np.isnan(column), forecast, column)
        forecasts[name] = forecast
    return forecasts
