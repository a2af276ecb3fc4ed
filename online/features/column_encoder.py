"""Many rows encoded at once: column by column where a value is as usual, row by row where one is not."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from online.core.schema import Feature, Schema
from online.features.encoder import KEPT, Encoded, Encoder, Reader, reader, shortcut

__all__ = ["ColumnEncoder", "Told"]

Floats = npt.NDArray[np.float64]

PLAIN = {float, int}


class NumberColumn:
    """A feature of numbers: those in the range seen are taken as they are."""

    width = 1

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high

    def write(self, column: list[Any], to: Floats) -> npt.NDArray[np.bool_]:
        """Write the values of a column (n,) to (n, 1); which of them were as usual."""
        if not set(map(type, column)) <= PLAIN:
            column = [value if type(value) in PLAIN else np.nan for value in column]
        try:
            to[:, 0] = column
        except OverflowError:  # a whole number that is none of a float's
            to[:, 0] = [value if type(value) is float else np.nan for value in column]
        return np.asarray((to[:, 0] >= self._low) & (to[:, 0] <= self._high))


class KnownColumn:
    """A feature of a few known values."""

    def __init__(self, kind: type, known: Mapping[Any, tuple[float, ...]], width: int) -> None:
        self.width = width
        self._kind = kind
        self._places = {value: place for place, value in enumerate(known)}
        self._values = np.array([*known.values(), (np.nan,) * width])  # the last for what is not known

    def write(self, column: list[Any], to: Floats) -> npt.NDArray[np.bool_]:
        """Write the values of a column (n,) to (n, width); which of them were as usual."""
        find, kind, unknown = self._places.get, self._kind, len(self._places)
        places = np.fromiter(
            (find(value, unknown) if type(value) is kind else unknown for value in column),
            np.intp, len(column),
        )  # fmt: skip
        to[:] = self._values[places]
        return np.asarray(places < unknown)


class ReadColumn:
    """A feature that is read value by value, as one of times."""

    def __init__(self, read: Reader, width: int) -> None:
        self.width = width
        self._read = read

    def write(self, column: list[Any], to: Floats) -> npt.NDArray[np.bool_]:
        """Write the values of a column (n,) to (n, width); which of them were as usual."""
        cells = [self._read(value) for value in column]
        gap = (np.nan,) * self.width
        to[:] = np.array([gap if cell is None else cell.values for cell in cells]).reshape(to.shape)
        return np.array([cell is not None and not cell.drifted for cell in cells], bool)


class Told(NamedTuple):
    """What is to be told of some rows: ``imputed`` and ``drifted`` of each, as in Encoded."""

    imputed: list[list[str]]
    drifted: list[list[str]]


class ColumnEncoder:
    """Encodes many rows as an :class:`~online.features.encoder.Encoder` does one by one.

    Parameters
    ----------
    features
        The features used, in order.
    encoder
        Encodes a row of them.
    """

    def __init__(self, features: tuple[Feature, ...], encoder: Encoder) -> None:
        self._encoder = encoder
        self._columns = [(feature.name, column_of(feature)) for feature in features]
        self.width = len(encoder.columns)

    @classmethod
    @functools.lru_cache(maxsize=KEPT)
    def of(cls, schema: Schema) -> ColumnEncoder:
        """The encoder of a schema's used features; one for all that ask."""
        return cls(schema.used, Encoder.of(schema))

    def values(self, rows: Sequence[Mapping[str, Any]]) -> Floats:
        """The rows' values, (n, columns)."""
        found = np.empty((len(rows), self.width))
        self.write(rows, found)
        return found

    def write(self, rows: Sequence[Mapping[str, Any]], to: Floats) -> dict[int, Encoded]:
        """Write rows' values to (n, columns); those that are not as usual, by place, as they were encoded."""
        usual, at = np.ones(len(rows), bool), 0
        for name, column in self._columns:
            usual &= column.write([row.get(name) for row in rows], to[:, at : at + column.width])
            at += column.width
        unusual = {place: self._encoder.encode(rows[place]) for place in np.flatnonzero(~usual).tolist()}
        for place, one in unusual.items():
            to[place] = one.values
        return unusual

    def encode(self, rows: Sequence[Mapping[str, Any]], to: Floats) -> Told:
        """As :meth:`write`; what is to be told of every row."""
        unusual = self.write(rows, to)
        told = Told([[] for _ in rows], [[] for _ in rows])
        for place, one in unusual.items():
            told.imputed[place], told.drifted[place] = one.imputed, one.drifted
        return told


def column_of(feature: Feature) -> NumberColumn | KnownColumn | ReadColumn:
    """What encodes a feature of many rows."""
    read, columns = reader(feature)
    kind, known, low, high = shortcut(feature)
    if known:
        return KnownColumn(kind, known, len(columns))
    if kind is float and low <= high:
        return NumberColumn(low, high)
    return ReadColumn(read, len(columns))
