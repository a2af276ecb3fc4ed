"""The pipeline's first step: a River transformer from a raw row to numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from river import base

from online.core.schema import ContextFeature, Feature
from online.features.batch_encoder import BatchEncoder
from online.features.context import group_columns, group_of, groups_of
from online.features.context_memory import ContextMemory, new_context_memory
from online.features.matrix import MISSING
from online.features.value_encoder import Encoder

__all__ = ["CONTEXT", "ENCODED", "Floats", "RowEncoder"]

Floats = npt.NDArray[np.float64]

# attributes that follow from the parameters, and so are not pickled
DERIVED = ("_encoder", "_column_encoder", "_columns", "_context_columns", "_groupings", "_grouping_index")
# Keys of a row for what comes with it. No column of a file starts with the zero character.
CONTEXT = "\0context"  # the context features as they were served, by name
ENCODED = "\0encoded"  # the encoded values, where they are known already


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
        columns = group_columns(features)
        self.memories: list[ContextMemory] = [
            new_context_memory(spec, [columns[name] for name in spec.by]) for spec in context
        ]
        self._derive()

    def _derive(self) -> None:
        self._encoder = Encoder(self.features)
        self._column_encoder = BatchEncoder(self.features, self._encoder)
        columns = group_columns(self.features)
        # several context features often share a grouping: a row's group is found once for all of them
        groupings = list(dict.fromkeys(spec.by for spec in self.context))
        self._groupings = [[columns[name] for name in by] for by in groupings]
        self._grouping_index = [groupings.index(spec.by) for spec in self.context]
        names = self._encoder.columns + [f"context:{spec.name}" for spec in self.context]
        self._columns = unique_names(names)
        context_columns = self._columns[len(names) - len(self.context) :]
        self._context_columns = list(zip([spec.name for spec in self.context], context_columns, strict=True))

    @property
    def _supervised(self) -> bool:
        # River 0.26.1's pipeline takes a base.SupervisedTransformer for its final step: it asks a
        # base.Transformer whether it is supervised, and so this is one
        return True

    @property
    def columns(self) -> list[str]:
        """The names of the encoded columns, in order."""
        return self._columns

    def encode_one(self, x: Mapping[str, Any]) -> list[float]:
        """A row's encoded values without its context features, NaN where one is to be imputed."""
        encoded: list[float] | None = x.get(ENCODED)
        return self._encoder.encode(x).values if encoded is None else encoded

    @property
    def width(self) -> int:
        """How many values a row encodes to, without its context features."""
        return self._column_encoder.width

    def encode_many(self, rows: Sequence[Mapping[str, Any]]) -> Floats:
        """As :meth:`encode_one`, of many raw rows; (n, columns)."""
        return self._column_encoder.encode_many(rows)

    def as_served(self, features: Mapping[str, Any], context: Mapping[str, float]) -> list[float]:
        """What a prediction was made from.

        Parameters
        ----------
        features
            The raw row.
        context
            Its context features as served, by name, those there were.

        Returns
        -------
        list of float
            The row's encoded values, then its context features; NaN where there is none.
        """
        return self.encode_one(features) + [context.get(name, MISSING) for name, _ in self._context_columns]

    def context_of(self, row: Mapping[str, float | None]) -> dict[str, float]:
        """The context features of a transformed row by name, those there are."""
        return {name: v for name, column in self._context_columns if (v := row[column]) is not None}

    def transform_one(self, x: Mapping[str, Any]) -> dict[str, float | None]:
        """Encode one row."""
        values, served = self.encode_one(x), x.get(CONTEXT)
        if served is None:
            context = self.look_up(self._groups(values))
        else:
            context = [served.get(name, MISSING) for name, _ in self._context_columns]
        return self.to_dict(values + context)

    def to_dict(self, values: Sequence[float]) -> dict[str, float | None]:
        """A row's encoded values, then its context features, by column; None for NaN."""
        row: dict[str, float | None] = dict(zip(self._columns, values, strict=True))
        if math.isnan(sum(values)):  # so one look tells whether any is NaN
            return {column: None if v != v else v for column, v in row.items()}
        return row

    def learn_one(self, x: Mapping[str, Any], y: float) -> None:
        """Learn the label of a row, for the context features of later rows.

        Parameters
        ----------
        x
            The raw row.
        y
            The label, in target units.
        """
        self.learn_groups(self._groups(self.encode_one(x)), y)

    def learn_groups(self, group_ids: Sequence[int | None], y: float) -> None:
        """As :meth:`learn_one`, where the row's groups are known.

        Parameters
        ----------
        group_ids
            The row's group for each context feature, as :meth:`groups_of` gives them.
        y
            The label, in target units.
        """
        for memory, group_id in zip(self.memories, group_ids, strict=True):
            memory.update(group_id, y)

    def look_up(self, group_ids: Sequence[int | None]) -> list[float]:
        """The context features of a row whose groups, one a context feature, are these; NaN for none."""
        return [
            MISSING if group_id is None else memory.get(group_id)
            for memory, group_id in zip(self.memories, group_ids, strict=True)
        ]

    def groups_of(self, values: Floats) -> list[list[int | None]]:
        """For each of these encoded rows (n, columns) its group for each context feature."""
        if not self.context:
            return [[] for _ in values]
        ids_by_grouping = (groups_of(by, values).tolist() for by in self._groupings)
        by_grouping = [[None if group_id < 0 else group_id for group_id in ids] for ids in ids_by_grouping]
        by_feature = (by_grouping[index] for index in self._grouping_index)
        return [list(row) for row in zip(*by_feature, strict=True)]

    def context_cells(self) -> list[float]:
        """What scoring looks up: the values of all context features' groups, one feature after the other."""
        return [cell for memory in self.memories for cell in memory.cells]

    def _groups(self, values: Sequence[float]) -> list[int | None]:
        """The row's group for each context feature."""
        group_ids = [group_of(by, values) for by in self._groupings]
        return [group_ids[index] for index in self._grouping_index]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in DERIVED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "histories" in state:  # snapshots of format 1 have them by this name
            state["memories"] = state.pop("histories")
        self.__dict__.update(state)
        self._derive()

    @classmethod
    def _unit_test_params(cls) -> Any:
        names = ("ordinal_date", "gallup", "ipsos", "morning_consult", "rasmussen", "you_gov")
        features = tuple(Feature(name, "numeric") for name in names)
        yield {"features": features, "context": (ContextFeature("level"),)}


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, a repeated one with a mark behind it: a raw column may itself be called ``hour:sin``."""
    unique: dict[str, None] = {}
    for name in names:
        while name in unique:
            name += "'"
        unique[name] = None
    return list(unique)
