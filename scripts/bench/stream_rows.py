"""The real streams as matrices, so that every model of a benchmark sees the very same rows.

Each row is encoded as it would have been served: context features from the labels that had arrived, missing
values imputed and numbers standardised by what had been seen before it. Models then learn what was served.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from river import preprocessing, stats

from bootstrap.choose_context import choose_context
from bootstrap.reading.bootstrap_rows import pairs
from bootstrap.reading.infer import infer_schema, order_rows
from bootstrap.reading.split import read_frame
from online.features.row_encoder import RowEncoder
from tests.support.benchmark_document import REPOSITORY

__all__ = ["StreamRows", "load", "stream_rows"]

Floats = npt.NDArray[np.float64]
IMPUTED_FADING = 0.01
MADE_BY = (
    "bootstrap/choose_context.py",
    "bootstrap/reading/infer.py",
    "bootstrap/reading/kinds.py",
    "bootstrap/selection.py",
    "online/features/value_encoder.py",
    "online/features/context_memory.py",
    "online/features/row_encoder.py",
    "scripts/bench/stream_rows.py",
)


class StreamRows(NamedTuple):
    """A stream's rows in order, the first ``bootstrap`` of them to start from, labels ``delay`` rows late."""

    columns: list[str]
    x: Floats
    y: Floats
    bootstrap: int
    delay: int

    @property
    def deviation(self) -> float:
        """Standard deviation of the bootstrap targets: the unit of the errors."""
        return float(self.y[: self.bootstrap].std())

    def dicts(self, first: int, last: int) -> list[dict[str, float]]:
        """Rows as River takes them.

        Parameters
        ----------
        first, last
            The first row, and the one after the last.

        Returns
        -------
        list of dict
            The rows, encoded and standardised.
        """
        return [dict(zip(self.columns, row, strict=True)) for row in self.x[first:last].tolist()]


def load(folder: Path, name: str, delay: int, cache: Path) -> StreamRows:
    """The rows, computed once and then read from ``cache``, as long as what makes them stays the same.

    Parameters
    ----------
    folder
        Where ``streams.json`` and the streams are.
    name
        The stream.
    delay
        How many rows late its labels come.
    cache
        Where the computed rows are kept.

    Returns
    -------
    StreamRows
        The rows.
    """
    made_by = zlib.crc32(b"".join((REPOSITORY / source).read_bytes() for source in MADE_BY))
    path = cache / f"{name}_{delay}_{made_by:08x}.npz"
    if not path.exists():
        rows = stream_rows(folder, name, delay)
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(path, columns=np.array(rows.columns), x=rows.x, y=rows.y, bootstrap=rows.bootstrap)
    with np.load(path) as cached:
        return StreamRows(
            cached["columns"].tolist(), cached["x"], cached["y"], int(cached["bootstrap"]), delay
        )


def stream_rows(folder: Path, name: str, delay: int) -> StreamRows:
    """Infer the schema from the bootstrap part, as ``millrace bootstrap`` does, and encode all rows.

    Parameters
    ----------
    folder
        Where ``streams.json`` and the streams are.
    name
        The stream.
    delay
        How many rows late its labels come.

    Returns
    -------
    StreamRows
        The rows.
    """
    entry: dict[str, Any] = json.loads((folder / "streams.json").read_text())[name]
    frame = read_frame(folder / entry["file"])
    first = frame.iloc[: entry["bootstrap_rows"]]
    schema = infer_schema(first, stream=name, target=entry["target"], drop=entry["drop"])
    first = order_rows(first, schema)
    frame = order_rows(frame, schema)
    schema = choose_context(schema, *zip(*pairs(first, schema), strict=True))
    rows, targets = zip(*pairs(frame, schema), strict=True)
    encoder = RowEncoder(schema.used, schema.context)
    x = as_served(encoder, rows, targets, delay)
    return StreamRows(encoder.columns, x, np.array(targets, dtype=float), len(first), delay)


def as_served(encoder: RowEncoder, rows: Any, targets: Any, delay: int) -> Floats:
    """Encoded, imputed and standardised rows, each from what was known when it came."""
    imputer = preprocessing.StatImputer(*((c, stats.EWMean(IMPUTED_FADING)) for c in encoder.columns))
    scaler = preprocessing.StandardScaler()
    served = np.zeros((len(rows), len(encoder.columns)))
    for row_index, row in enumerate(rows):
        if row_index > delay:
            encoder.learn_one(rows[row_index - delay - 1], targets[row_index - delay - 1])
        encoded = encoder.transform_one(row)
        imputer.learn_one(encoded)
        filled = {c: 0.0 if v is None else v for c, v in imputer.transform_one(encoded).items()}
        scaler.learn_one(filled)
        served[row_index] = list(scaler.transform_one(filled).values())
    return served
