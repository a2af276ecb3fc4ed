"""Rows of a table as a client would send them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from online.core.schema import Schema
from online.features.value_encoder import number

__all__ = ["pairs"]


def pairs(frame: pd.DataFrame, schema: Schema) -> Iterator[tuple[dict[str, Any], float]]:
    """A row's used features, those there are, and its label, where there is one.

    Parameters
    ----------
    frame
        Rows as read from a CSV.
    schema
        Says which columns are used, and which is the target.

    Yields
    ------
    tuple of dict and float
        A row as a client would send it, without missing cells, and its label; rows without one are passed
        over.
    """
    names = [feature.name for feature in schema.used if feature.name in frame]
    columns = [frame[name].tolist() for name in (*names, schema.target.name)]
    for *values, target in zip(*columns, strict=True):
        read = number(target)
        if read is not None:
            yield {name: value for name, value in zip(names, values, strict=True) if value == value}, read
