"""Predictions as served, one by one and in batches, and what tells them apart."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from online.core.errors import InputError
from online.features.encoder import Encoder, clean

__all__ = [
    "Batch",
    "Candidate",
    "Prepared",
    "Served",
    "ServedColumns",
    "fingerprints",
    "identifier",
    "is_new",
    "moments",
    "new_name",
    "new_prefix",
]

ID_LIMIT = 200  # characters
NEW_NAME = re.compile(r"[a-f][0-9a-f]{9}-[0-9a-f]+")


class Served(msgspec.Struct, frozen=True):
    """One prediction as served. Times in unix seconds, prediction and bounds in target units."""

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

    def read(self) -> Served:
        """Itself: it was read already."""
        return self


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
    ``contexts`` is NaN where there is no value.
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

    def served(self, fields: frozenset[str]) -> list[Served]:
        """Each as it was served, with the known fields of its row."""
        return [
            Served(
                name, moment, clean(row, fields), self._context(context), tuple(outputs), prediction,
                lower, upper, tuple(imputed), tuple(drifted), self.model_version, self.plan_seq,
            )
            for name, moment, row, context, outputs, prediction, lower, upper, imputed, drifted in zip(
                self.ids, self.moments(), self.features, self.contexts, self.experts, self.predictions,
                self.lower, self.upper, self.imputed, self.drifted, strict=True,
            )
        ]  # fmt: skip

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
    def values(self) -> Sequence[Sequence[float]] | np.ndarray:
        """What the features of each encode to, (n, columns), NaN where one is missing."""

    def cut(self, first: int, last: int) -> Batch:
        """Those from one place up to another."""

    def columns(self) -> Sequence[ServedColumns]:
        """As they were served, in order."""

    @property
    def kin(self) -> object:
        """Shared with the batches that this one can be joined with; None where it is better left alone."""

    def joined(self, several: Sequence[Any]) -> Batch:
        """Batches that share their kin as one, in order."""


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
    def values(self) -> Sequence[Sequence[float]]:
        """What the features of each encode to, (n, columns), NaN where one is missing."""
        return [self._encoder.encode(one.features).values for one in self._served]

    @property
    def kin(self) -> Encoder:
        """What encodes them."""
        return self._encoder

    def joined(self, several: Sequence[Prepared]) -> Prepared:
        """Batches as one, in order."""
        return Prepared([one for part in several for one in part._served], self._encoder)

    def cut(self, first: int, last: int) -> Prepared:
        """Those from one place up to another."""
        return Prepared(self._served[first:last], self._encoder)

    def columns(self) -> list[ServedColumns]:
        """As they were served, in order."""
        return [
            ServedColumns(
                one.served_at, one.model_version, one.plan_seq, list(one.context), [one.id], [one.features],
                [list(one.context.values())], [one.experts], [one.prediction], [one.lower], [one.upper],
                [one.imputed], [one.drifted],
            )
            for one in self._served
        ]  # fmt: skip


def moments(at: float | Sequence[float], count: int) -> Sequence[float]:
    """The moment of each, from that of all or of each."""
    return [at] * count if isinstance(at, float) else at


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
    """A row's id as text. Raises InputError when it cannot be one."""
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
    """An id that is given to one prediction alone; a client may give one of its own several times."""
    return f"{prefix}-{number:x}"


def is_new(name: str) -> bool:
    """Whether an id was made by :func:`new_name`, or looks so."""
    return NEW_NAME.fullmatch(name) is not None
