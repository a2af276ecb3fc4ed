"""The pipeline's first step: a River transformer from a raw row to numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from river import base

from online.core.schema import ContextFeature, Feature
from online.features.column_encoder import ColumnEncoder
from online.features.context import group_of, groups_of, places
from online.features.context_memory import History, empty_history
from online.features.encoder import MISSING, Encoder

__all__ = ["CONTEXT", "ENCODED", "Floats", "RowEncoder"]

Floats = npt.NDArray[np.float64]

PREPARED = ("_encoder", "_many", "_columns", "_served", "_ways", "_way")  # from the parameters
CONTEXT = "\0context"  # under this name a row carries its context features as they were served
ENCODED = "\0encoded"  # and under this one its encoded values, where they are known


class RowEncoder(base.Transformer):
    """River transformer: a raw row to one number a column, ``None`` where the imputer is to step in.

    The encoded features come first, then the context features: as served when the row carries them under
    ``CONTEXT``, else from the labels learned so far. A row that carries its values under ``ENCODED`` is not
    encoded again.

    Parameters
    ----------
    features
        The features used, in order.
    context
        The context features, in order.

    Examples
    --------
    >>> from online.features.row_encoder import RowEncoder
    >>> from online.core.schema import ContextFeature, Feature
    >>> site = Feature("site", "category", values=("A", "B"))
    >>> wind = Feature("wind", "numeric", low=0, high=30)
    >>> encoder = RowEncoder((wind, site), (ContextFeature("level", ("site",)),))
    >>> encoder.learn_one({"wind": 3.0, "site": "B"}, 20.0)
    >>> encoder.transform_one({"wind": "7.5", "site": "B"})
    {'wind': 7.5, 'site=A': 0.0, 'site=B': 1.0, 'context:level': 20.0}
    >>> encoder.transform_one({"wind": 1e308, "site": "C"})
    {'wind': None, 'site=A': 0.0, 'site=B': 0.0, 'context:level': None}
    """

    def __init__(self, features: tuple[Feature, ...], context: tuple[ContextFeature, ...] = ()) -> None:
        self.features = features
        self.context = context
        known = places(features)
        self.histories: list[History] = [
            empty_history(one, [known[name] for name in one.by]) for one in context
        ]
        self._prepare()

    def _prepare(self) -> None:
        self._encoder = Encoder(self.features)
        self._many = ColumnEncoder(self.features, self._encoder)
        known = places(self.features)
        ways = list(dict.fromkeys(spec.by for spec in self.context))
        self._ways = [[known[name] for name in by] for by in ways]
        self._way = [ways.index(spec.by) for spec in self.context]
        names = self._encoder.columns + [f"context:{spec.name}" for spec in self.context]
        self._columns = distinct(names)
        first = len(names) - len(self.context)
        self._served = list(zip([spec.name for spec in self.context], self._columns[first:], strict=True))

    @property
    def _supervised(self) -> bool:
        # River 0.26.1's pipeline takes a base.SupervisedTransformer for its final step: it asks a
        # base.Transformer whether it is supervised, and so this is one
        return True

    @property
    def columns(self) -> list[str]:
        """The names of the encoded columns, in order."""
        return self._columns

    def values(self, x: Mapping[str, Any]) -> list[float]:
        """A row's encoded values without its context features, NaN where one is to be imputed."""
        known: list[float] | None = x.get(ENCODED)
        return self._encoder.encode(x).values if known is None else known

    def values_of(self, rows: Sequence[Mapping[str, Any]]) -> Floats:
        """As :meth:`values`, of many raw rows, (n, columns)."""
        return self._many.values(rows)

    def as_served(self, features: Mapping[str, Any], context: Mapping[str, float]) -> list[float]:
        """A row's encoded values and then its context features as served, NaN where there is none."""
        return self.values(features) + [context.get(name, MISSING) for name, _ in self._served]

    def context_of(self, row: Mapping[str, float | None]) -> dict[str, float]:
        """The context features of a transformed row by name, those there are."""
        return {name: v for name, column in self._served if (v := row[column]) is not None}

    def transform_one(self, x: Mapping[str, Any]) -> dict[str, float | None]:
        """Encode one row."""
        values, served = self.values(x), x.get(CONTEXT)
        if served is None:
            context = self.look_up(self._groups(values))
        else:
            context = [served.get(name, MISSING) for name, _ in self._served]
        return self.named(values + context)

    def named(self, line: Sequence[float]) -> dict[str, float | None]:
        """A row's encoded values and then its context features by column, None for NaN."""
        row: dict[str, float | None] = dict(zip(self._columns, line, strict=True))
        if math.isnan(sum(line)):  # as it is when any of them is
            return {column: None if v != v else v for column, v in row.items()}
        return row

    def learn_one(self, x: Mapping[str, Any], y: float) -> None:
        """Take the label of a row into the context."""
        self.take(self._groups(self.values(x)), y)

    def take(self, groups: Sequence[int | None], y: float) -> None:
        """Take the label of a row in these groups, one a context feature, into the context."""
        for table, group in zip(self.histories, groups, strict=True):
            table.update(group, y)

    def look_up(self, groups: Sequence[int | None]) -> list[float]:
        """The context features of a row in these groups, one a context feature, NaN where there is none."""
        return [
            MISSING if group is None else table.get(group)
            for table, group in zip(self.histories, groups, strict=True)
        ]

    def groups_of(self, values: Floats) -> list[list[int | None]]:
        """For each of these encoded rows (n, columns) its group for each context feature."""
        if not self._way:
            return [[] for _ in values]
        found = (groups_of(by, values).tolist() for by in self._ways)
        ways = [[None if group < 0 else group for group in groups] for groups in found]
        return [list(row) for row in zip(*(ways[way] for way in self._way), strict=True)]

    def context_cells(self) -> list[float]:
        """What scoring looks up: the values of all context features' groups, one feature after the other."""
        return [cell for table in self.histories for cell in table.cells]

    def _groups(self, values: Sequence[float]) -> list[int | None]:
        """The row's group for each context feature."""
        groups = [group_of(by, values) for by in self._ways]
        return [groups[way] for way in self._way]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in PREPARED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    @classmethod
    def _unit_test_params(cls) -> Any:
        names = ("ordinal_date", "gallup", "ipsos", "morning_consult", "rasmussen", "you_gov")
        features = tuple(Feature(name, "numeric") for name in names)
        yield {"features": features, "context": (ContextFeature("level"),)}


def distinct(names: Sequence[str]) -> list[str]:
    """The names, one that stands earlier already told apart: a column may be called just ``hour:sin``."""
    found: dict[str, None] = {}
    for name in names:
        while name in found:
            name += "'"
        found[name] = None
    return list(found)
