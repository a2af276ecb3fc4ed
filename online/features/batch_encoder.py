"""Many rows encoded at once: column by column where a value is as usual, row by row where one is not."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from online.core.schema import Feature, Schema
from online.features.matrix import MISSING
from online.features.value_encoder import CACHED_ENCODERS, CellReader, Encoded, Encoder, reader, shortcut

__all__ = ["BatchEncoder", "EncodingReport"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NUMBER_TYPES = {float, int}  # these very types: a bool is an int, but no measurement


class NumberColumn:
    """A feature of numbers: those in the range seen are taken as they are."""

    width = 1

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def write(self, column: Sequence[Any], out: Floats) -> Bools:
        """Write the values of a column (n,) to (n, 1); which of them were as usual."""
        if not set(map(type, column)) <= NUMBER_TYPES:
            column = [value if type(value) in NUMBER_TYPES else MISSING for value in column]
        try:
            out[:, 0] = column
        except OverflowError:  # an integer too large for a float
            out[:, 0] = [value if type(value) is float else MISSING for value in column]
        return np.asarray((out[:, 0] >= self.low) & (out[:, 0] <= self.high))


class KnownColumn:
    """A feature of a few known values."""

    def __init__(self, kind: type, known: Mapping[Any, tuple[float, ...]], width: int) -> None:
        self.width = width
        self._kind = kind
        self._index = {value: index for index, value in enumerate(known)}
        self._values = np.array([*known.values(), (MISSING,) * width])  # the last for a value not known

    def write(self, column: Sequence[Any], out: Floats) -> Bools:
        """Write the values of a column (n,) to (n, width); which of them were as usual."""
        find, kind, unknown = self._index.get, self._kind, len(self._index)
        if set(map(type, column)) == {kind}:  # as a rule, and then no Python code runs for each value
            known: Iterable[int] = map(find, column, itertools.repeat(unknown))
        else:
            known = (find(value, unknown) if type(value) is kind else unknown for value in column)
        indices = np.fromiter(known, np.intp, len(column))
        out[:] = self._values[indices]
        return np.asarray(indices < unknown)


class ReadColumn:
    """A feature that is read value by value, such as a timestamp."""

    def __init__(self, read: CellReader, width: int) -> None:
        self.width = width
        self._read = read

    def write(self, column: Sequence[Any], out: Floats) -> Bools:
        """Write the values of a column (n,) to (n, width); which of them were as usual."""
        cells = [self._read(value) for value in column]
        gap = (MISSING,) * self.width
        out[:] = np.array([gap if cell is None else cell.values for cell in cells]).reshape(out.shape)
        return np.array([cell is not None and not cell.drifted for cell in cells], bool)


class EncodingReport(NamedTuple):
    """What clients are told about the encoding of some rows: two lists a row, as in Encoded."""

    imputed: list[list[str]]
    drifted: list[list[str]]


class BatchEncoder:
    """Encodes many rows as an :class:`~online.features.value_encoder.Encoder` does one by one.

    Parameters
    ----------
    features
        The features used, in order.
    encoder
        Encodes a row of them.
    """

    def __init__(self, features: tuple[Feature, ...], encoder: Encoder) -> None:
        self._encoder = encoder
        self._names = [feature.name for feature in features]
        self._columns = [column_of(feature) for feature in features]
        ends = np.cumsum([column.width for column in self._columns], dtype=int).tolist()
        self._places = [
            slice(end - column.width, end) for end, column in zip(ends, self._columns, strict=True)
        ]
        numbers = [(n, column) for n, column in enumerate(self._columns) if isinstance(column, NumberColumn)]
        self._numbers = [n for n, _ in numbers]
        self._others = [n for n in range(len(features)) if n not in self._numbers]
        self._number_places = [self._places[n].start for n in self._numbers]
        self._lows = np.array([[column.low] for _, column in numbers])
        self._highs = np.array([[column.high] for _, column in numbers])
        self.width = len(encoder.columns)

    @classmethod
    @functools.lru_cache(maxsize=CACHED_ENCODERS)
    def of(cls, schema: Schema) -> BatchEncoder:
        """The encoder of a schema's used features; all callers share one."""
        return cls(schema.used, Encoder.of(schema))

    def encode_many(self, rows: Sequence[Mapping[str, Any]]) -> Floats:
        """The rows' values, (n, columns), NaN where one is to be imputed."""
        out = np.empty((len(rows), self.width))
        self.write(rows, out)
        return out

    def write(self, rows: Sequence[Mapping[str, Any]], out: Floats) -> dict[int, Encoded]:
        """Write rows' values into a matrix.

        Parameters
        ----------
        rows
            Raw rows, any mappings at all.
        out
            Where the values go, (n, columns), NaN where one is to be imputed.

        Returns
        -------
        dict
            By index, the rows that were not as usual, encoded one by one.
        """
        columns = [[row.get(name) for row in rows] for name in self._names]
        usual, left = self._write_numbers(columns, out)
        for n in left:
            usual &= self._columns[n].write(columns[n], out[:, self._places[n]])
        unusual = {index: self._encoder.encode(rows[index]) for index in np.flatnonzero(~usual).tolist()}
        for index, encoded in unusual.items():
            out[index] = encoded.values
        return unusual

    def _write_numbers(self, columns: Sequence[list[Any]], out: Floats) -> tuple[Bools, list[int]]:
        """Write all features of numbers at once where they hold nothing else.

        Which rows were as usual, and which columns are still to be written.
        """
        numbers = [columns[n] for n in self._numbers]
        if not numbers or not set(map(type, itertools.chain.from_iterable(numbers))) <= NUMBER_TYPES:
            return np.ones(len(out), bool), list(range(len(columns)))
        try:
            values = np.array(numbers, float)
        except OverflowError:  # an integer too large for a float
            return np.ones(len(out), bool), list(range(len(columns)))
        out[:, self._number_places] = values.T
        usual: Bools = np.all((values >= self._lows) & (values <= self._highs), axis=0)
        return usual, self._others

    def encode(self, rows: Sequence[Mapping[str, Any]], out: Floats) -> EncodingReport:
        """Write rows' values into a matrix, and report what was imputed or drifted.

        Parameters
        ----------
        rows
            Raw rows, any mappings at all.
        out
            Where the values go, (n, columns), NaN where one is to be imputed.

        Returns
        -------
        EncodingReport
            The features imputed and drifted, a list a row.
        """
        unusual = self.write(rows, out)
        report = EncodingReport([[] for _ in rows], [[] for _ in rows])
        for index, encoded in unusual.items():
            report.imputed[index], report.drifted[index] = encoded.imputed, encoded.drifted
        return report


def column_of(feature: Feature) -> NumberColumn | KnownColumn | ReadColumn:
    """What encodes a feature of many rows."""
    read, columns = reader(feature)
    kind, known, low, high = shortcut(feature)
    if known:
        return KnownColumn(kind, known, len(columns))
    if kind is float and low <= high:
        return NumberColumn(low, high)
    return ReadColumn(read, len(columns))
