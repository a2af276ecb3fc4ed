"""Journal records, and how they stand in a row of the journal's table."""

from __future__ import annotations

import zlib
from typing import Any, Literal

import msgspec
import numpy as np

from online.storage.served_predictions import Candidate, Served

__all__ = ["COLUMNS", "LABELS", "Kind", "Quarantined", "Receipt", "Record", "Submission"]

Kind = Literal["label", "correction", "release", "rollback", "replay", "refresh", "snapshot"]
LABELS = ("label", "correction", "release")
COLUMNS = (
    "seq, stream, id, received_at, kind, features, context, experts, prediction, lower, upper, served_at,"
    " plan_seq, target, payload, checksum"
)

text = msgspec.json.Encoder().encode
packed = msgspec.msgpack.Encoder().encode


class Record(msgspec.Struct, frozen=True):
    """One journal record. A label without a served prediction has ``prediction=None``."""

    seq: int
    stream: str
    id: str
    received_at: float
    kind: Kind
    features: dict[str, Any] = {}
    context: dict[str, float] = {}
    experts: tuple[float, ...] = ()
    prediction: float | None = None
    lower: float | None = None
    upper: float | None = None
    served_at: float | None = None
    plan_seq: int | None = None
    target: float | None = None
    payload: dict[str, Any] = {}

    @property
    def cut(self) -> bool:
        """Whether retention left only its id and label."""
        return self.kind in LABELS and self.prediction is None and not self.features


class Submission(msgspec.Struct, frozen=True):
    """A valid label on its way in.

    ``candidates`` are the served predictions it may belong to, oldest first: the one with its id, or, for
    a full row without an id, those with the same features. ``expected`` is what the model says of the row
    now, where no prediction was served; ``source`` who sent it. ``suspicion`` says why it must not be
    learned.
    """

    target: float
    received_at: float
    id: str | None = None
    features: dict[str, Any] | None = None
    candidates: tuple[Candidate, ...] = ()
    suspicion: str | None = None
    expected: float | None = None
    source: str | None = None


class Receipt(msgspec.Struct, frozen=True):
    """What became of a submission: ``seq`` is the record's, the quarantine's for a quarantined one."""

    status: Literal["accepted", "duplicate", "correction", "quarantined"]
    seq: int
    reason: str | None = None


class Quarantined(msgspec.Struct, frozen=True):
    """A label set aside; ``released_as`` is its journal seq once it was released; or it was ``discarded``.

    ``record`` is what would be learned: with what was served, where that is known.
    """

    seq: int
    reason: str
    record: Record
    released_as: int | None
    discarded: bool = False


def corrected(known: Record, target: float, received_at: float) -> Record:
    """A known label with another target; what was served stays with it."""
    return msgspec.structs.replace(known, kind="correction", target=target, received_at=received_at)


def label_record(stream: str, name: str, submission: Submission, served: Served | None) -> Record:
    """The record of a new label: with what was served, where that is known."""
    if served is None:
        features = submission.features or {}
        return Record(
            0, stream, name, submission.received_at, "label", features=features, target=submission.target
        )
    return Record(
        0, stream, name, submission.received_at, "label",
        features=served.features, context=served.context, experts=served.experts,
        prediction=served.prediction, lower=served.lower, upper=served.upper,
        served_at=served.served_at, plan_seq=served.plan_seq, target=submission.target,
    )  # fmt: skip


def record(row: Any) -> Record:
    """A record from its row."""
    return Record(
        seq=row[0], stream=row[1], id=row[2], received_at=row[3], kind=row[4],
        features=decode(row[5]) or {}, context=decode(row[6]) or {},
        experts=tuple(np.frombuffer(row[7] or b"", "<f8").tolist()), prediction=row[8], lower=row[9],
        upper=row[10], served_at=row[11], plan_seq=row[12], target=row[13], payload=decode(row[14]) or {},
    )  # fmt: skip


def values(new: Record) -> tuple[Any, ...]:
    """A record's row without its checksum, as SQLite will give it back."""
    return (
        new.seq, new.stream, new.id, real(new.received_at), new.kind, encode(new.features),
        encode(new.context), np.asarray(new.experts, "<f8").tobytes() if new.experts else None,
        real(new.prediction), real(new.lower), real(new.upper), real(new.served_at), new.plan_seq,
        real(new.target), encode(new.payload),
    )  # fmt: skip


def real(value: float | None) -> float | None:
    """A value of a float column: SQLite knows no negative zero."""
    return None if value is None else float(value) + 0.0


def checksum(row: Any) -> int:
    """CRC-32 of a row's first 15 columns."""
    return zlib.crc32(packed(row[:15]))


def encode(content: Any) -> str | None:
    """JSON text; an empty or missing object is NULL."""
    return text(content).decode() if content else None


def decode(content: str | None) -> Any:
    """What :func:`encode` wrote."""
    return None if content is None else msgspec.json.decode(content)
