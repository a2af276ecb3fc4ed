"""Rows of a table as a client would send them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from online.encoding import number
from online.schema import Schema

__all__ = ["pairs"]


def pairs(frame: pd.DataFrame, schema: Schema) -> Iterable[tuple[dict[str, Any], float]]:
    """A row's used features, those there are, and its label, where there is one."""
    features = frame[[feature.name for feature in schema.used if feature.name in frame]]
    for row, target in zip(features.to_dict("records"), frame[schema.target.name].tolist(), strict=True):
        read = number(target)
        if read is not None:
            yield {str(name): value for name, value in row.items() if value == value}, read
