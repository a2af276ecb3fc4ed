"""Predictions as served, one by one and in batches, and what tells them apart."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from online.core.errors import InputError
from online.features.value_encoder import Encoder, clean

__all__ = [
    "EXPERTS_DISAGREE",
    "HIGH_RECENT_ERROR",
    "SAME_FEATURES",
    "WIDE_INTERVAL",
    "Batch",
    "Candidate",
    "EncodedRow",
    "Prepared",
    "Served",
    "ServedColumns",
    "encoded_values",
    "fingerprints",
    "identifier",
    "moments",
    "new_name",
    "new_prefix",
    "shown",
]

MACHINES = ("schema_hash", "encoded")  # fields of Served and Record that say nothing to people
ID_LIMIT = 200  # characters
# reasons in ``drifted`` beside the names of features, as replies, the drift log and label queries name them
WIDE_INTERVAL = "wide interval"
EXPERTS_DISAGREE = "experts disagree"
HIGH_RECENT_ERROR = "high recent error"
SAME_FEATURES = 16  # how many predictions of the same features a label without an id may choose from


class Served(msgspec.Struct, frozen=True):
    """One prediction as served. Times in unix seconds, prediction and bounds in target units.

    ``encoded`` holds the values that the features encode to, little-endian float64, NaN where one is missing,
    by the schema with ``schema_hash``; empty in what a release before this field wrote.
    """

    id: str
    served_at: float
    features: dict[str, Any]
    context: dict[str, float]
    experts: tuple[float, ...]
    prediction: float
    lower: float
    upper: float
    imputed: tuple[str, ...]
    drifted: tuple[str, ...]
    model_version: int
    plan_seq: int
    schema_hash: str = ""
    encoded: bytes = b""

    def read(self) -> Served:
        """Itself: it was read already."""
        return self


class HasEncoded(Protocol):
    """A row with what it encodes to, as in :class:`Served`."""

    @property
    def features(self) -> dict[str, Any]:
        """The raw row."""

    @property
    def schema_hash(self) -> str:
        """By which schema it was encoded."""

    @property
    def encoded(self) -> bytes:
        """What it encodes to; empty where that is not known."""


class EncodedRow(NamedTuple):
    """A row with what it encodes to, where there is no prediction and no record of it."""

    features: dict[str, Any]
    schema_hash: str
    encoded: bytes


class EncodesMany(Protocol):
    """Encodes raw rows of one schema."""

    @property
    def width(self) -> int:
        """How many values a row encodes to."""

    def encode_many(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """The rows' values, (n, columns)."""


def shown(kept: msgspec.Struct | None) -> dict[str, Any] | None:
    """A prediction or a journal record as people are shown it: without what is kept for machines alone."""
    if kept is None:
        return None
    return {name: value for name, value in msgspec.structs.asdict(kept).items() if name not in MACHINES}


class Candidate(Protocol):
    """A prediction that a label may belong to."""

    @property
    def id(self) -> str:
        """The prediction's id."""

    def read(self) -> Served | None:
        """All of it; None when it is gone by now."""


class ServedColumns(msgspec.Struct, frozen=True, array_like=True):
    """Predictions by one plan, as columns: what the ledger holds.

    ``served_at`` is the moment of all, or of each. ``features`` may still hold more than a row's features,
    ``contexts`` is NaN where there is no value. ``encoded`` holds the encoded values of all rows, one row
    after the other, as in :class:`Served`.
    """

    served_at: float | Sequence[float]
    model_version: int
    plan_seq: int
    context_names: Sequence[str]
    ids: Sequence[str]
    features: Sequence[Mapping[str, Any]]
    contexts: Sequence[Sequence[float]]
    experts: Sequence[Sequence[float]]
    predictions: Sequence[float]
    lower: Sequence[float]
    upper: Sequence[float]
    imputed: Sequence[Sequence[str]]
    drifted: Sequence[Sequence[str]]
    schema_hash: str = ""
    encoded: bytes = b""

    def served(self, fields: frozenset[str]) -> list[Served]:
        """Each as it was served, with the known fields of its row."""
        return [
            Served(
                name, moment, clean(row, fields), self._context(context), tuple(outputs), prediction,
                lower, upper, tuple(imputed), tuple(drifted), self.model_version, self.plan_seq,
                self.schema_hash, encoded,
            )
            for name, moment, row, context, outputs, prediction, lower, upper, imputed, drifted, encoded
            in zip(
                self.ids, self.moments(), self.features, self.contexts, self.experts, self.predictions,
                self.lower, self.upper, self.imputed, self.drifted, self._encoded_rows(), strict=True,
            )
        ]  # fmt: skip

    def _encoded_rows(self) -> list[bytes]:
        """The encoded values of each row."""
        size = len(self.encoded) // max(1, len(self.ids))
        return [self.encoded[row * size : (row + 1) * size] for row in range(len(self.ids))]

    def moments(self) -> Sequence[float]:
        """When each was served."""
        return moments(self.served_at, len(self.ids))

    def cleaned(self, fields: frozenset[str]) -> ServedColumns:
        """The same with nothing else than these fields of the rows."""
        features = [clean(row, fields) for row in self.features]
        return msgspec.structs.replace(self, features=features)

    def _context(self, values: Sequence[float]) -> dict[str, float]:
        return {name: v for name, v in zip(self.context_names, values, strict=True) if v == v}


class Batch(Protocol):
    """Predictions that were made together."""

    def __len__(self) -> int:
        """How many."""

    @property
    def ids(self) -> Sequence[str]:
        """The id of each."""

    @property
    def values(self) -> Sequence[Sequence[float]] | np.ndarray:
        """What the features of each encode to, (n, columns), NaN where one is missing."""

    def slice_rows(self, first: int, last: int) -> Batch:
        """A part of the batch.

        Parameters
        ----------
        first, last
            From which row on, and up to which, counted from 0; the last one is left out.

        Returns
        -------
        Batch
            Of those rows.
        """

    def columns(self) -> Sequence[ServedColumns]:
        """As they were served, in order."""

    @property
    def join_key(self) -> object:
        """Equal in batches that can be joined; None where this one is better left alone."""

    def joined(self, several: Sequence[Any]) -> Batch:
        """Batches with the same ``join_key`` as one, in order."""


class Prepared:
    """Predictions one by one as a batch.

    Parameters
    ----------
    served
        The predictions.
    encoder
        What encodes their features.
    """

    def __init__(self, served: Sequence[Served], encoder: Encoder) -> None:
        self._served = served
        self._encoder = encoder

    def __len__(self) -> int:
        """How many."""
        return len(self._served)

    @property
    def ids(self) -> list[str]:
        """The id of each."""
        return [one.id for one in self._served]

    @property
    def values(self) -> Sequence[Sequence[float]]:
        """What the features of each encode to, (n, columns), NaN where one is missing."""
        return [self._encoder.encode(one.features).values for one in self._served]

    @property
    def join_key(self) -> Encoder:
        """What encodes them."""
        return self._encoder

    def joined(self, several: Sequence[Prepared]) -> Prepared:
        """Batches as one, in order."""
        predictions = [served for batch in several for served in batch._served]  # noqa: SLF001 - its own class
        return Prepared(predictions, self._encoder)

    def slice_rows(self, first: int, last: int) -> Prepared:
        """A part of the batch.

        Parameters
        ----------
        first, last
            From which row on, and up to which, counted from 0; the last one is left out.

        Returns
        -------
        Prepared
            Of those rows.
        """
        return Prepared(self._served[first:last], self._encoder)

    def columns(self) -> list[ServedColumns]:
        """As they were served, in order."""
        return [
            ServedColumns(
                one.served_at, one.model_version, one.plan_seq, list(one.context), [one.id], [one.features],
                [list(one.context.values())], [one.experts], [one.prediction], [one.lower], [one.upper],
                [one.imputed], [one.drifted], one.schema_hash, one.encoded,
            )
            for one in self._served
        ]  # fmt: skip


def moments(at: float | Sequence[float], count: int) -> Sequence[float]:
    """When each of some rows was served.

    Parameters
    ----------
    at
        The moment of all of them, or of each, in unix seconds.
    count
        How many rows.

    Returns
    -------
    sequence of float
        The moment of each.
    """
    return [at] * count if isinstance(at, float) else at


def encoded_values(rows: Sequence[HasEncoded], encoder: EncodesMany, schema_hash: str) -> np.ndarray:
    """What rows' features encode to, taken from where it was stored where it was.

    Parameters
    ----------
    rows
        Predictions or journal records.
    encoder
        Encodes the features of those that come without, or with what another schema encoded.
    schema_hash
        The encoder's schema.

    Returns
    -------
    numpy.ndarray
        (n, columns) float64, NaN where a value is missing; the same to the last bit whichever way it came.
    """
    size = 8 * encoder.width
    encoded = [row.encoded if row.schema_hash == schema_hash else b"" for row in rows]
    if set(map(len, encoded)) <= {size}:
        return np.frombuffer(b"".join(encoded), "<f8").reshape(len(rows), encoder.width)
    values = encoder.encode_many([row.features for row in rows])
    for index, stored in enumerate(encoded):
        if len(stored) == size:
            values[index] = np.frombuffer(stored, "<f8")
    return values


def fingerprints(values: np.ndarray) -> np.ndarray:
    """Identifies rows that encode alike, (n,) int64: ``3``, ``3.0`` and ``"3"`` are the same.

    Every value's bits are mixed with its place by the finalizer of SplitMix64 (Steele, Lea and Flood 2014),
    the sum of a row once more.
    """
    canonical = np.where(np.isnan(values), np.nan, values) + 0.0  # one NaN, and no negative zero
    bits = np.ascontiguousarray(canonical).view(np.uint64)
    places = np.arange(1, values.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    marks = mixed(mixed(bits + places).sum(axis=1, dtype=np.uint64))
    return np.asarray(marks.view(np.int64))


def mixed(bits: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer; overflow wraps."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))


def identifier(given: object, index: int) -> str:
    """A row's id as text.

    Parameters
    ----------
    given
        What a client sent as the id.
    index
        The row's place in its request, for the error.

    Returns
    -------
    str
        The id: of a whole number its digits.

    Raises
    ------
    InputError
        It is neither a text of 1 to 200 characters nor a whole number.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str) or not 1 <= len(given) <= ID_LIMIT or "\0" in given:
        raise InputError(  # SQLite's JSON, which ids are looked up by, ends a text at a NUL
            f"an id is a text of 1 to {ID_LIMIT} characters, none of them NUL, or a whole number;"
            " leave it out to be given one",
            field="id", index=index,
        )  # fmt: skip
    return given


def new_prefix() -> str:
    """What the ids begin with that a scorer gives: with a letter, as no date or time does."""
    return secrets.choice("abcdef") + secrets.token_hex(5)[1:]


def new_name(prefix: str, number: int) -> str:
    """An id for a prediction that came without one.

    Parameters
    ----------
    prefix
        Of the scorer, by :func:`new_prefix`.
    number
        How many ids it has given so far.

    Returns
    -------
    str
        An id that no other prediction is given, though a client may send one like it.
    """
    return f"{prefix}-{number:x}"
