"""Journal records, and how they stand in a row of the journal's table.

A record is one piece of JSON, written once: the column ``record`` of the tables ``journal`` and
``quarantine``. ``checksum`` is the CRC-32 of just those bytes, so that it is verified without encoding
anything again. What SQL asks for is in columns as well, and has to agree with it. Records written before
there was such a column, and those that retention has cut, are in the columns :data:`OLD_COLUMNS`; their
checksum is that of the MessagePack of the first 15 of these.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from online.core.errors import JournalError
from online.storage.served_predictions import Candidate, Served, shown

__all__ = ["LABELS", "READ", "WRITTEN", "Kind", "Quarantined", "Receipt", "Record", "Submission"]

Kind = Literal["label", "correction", "release", "rollback", "replay", "refresh", "snapshot"]
LABELS = ("label", "correction", "release")
OLD_COLUMNS = (
    "seq, stream, id, received_at, kind, features, context, experts, prediction, lower, upper, served_at,"
    " plan_seq, target, payload, checksum"
)
# the cast spares Python's decoding of a text whose bytes are wanted
READ = f"{OLD_COLUMNS}, CAST(record AS BLOB)"
WRITTEN = "seq, stream, id, received_at, kind, plan_seq, target, checksum, record"
CHECKSUM, RECORD = 15, 16  # places among those read


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One journal record. A label without a served prediction has ``prediction=None``.

    ``encoded`` and ``schema_hash`` are as in :class:`~online.storage.served_predictions.Served`.
    """

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
    schema_hash: str = ""
    encoded: bytes = b""

    @property
    def cut(self) -> bool:
        """Whether retention left only its id and label."""
        return self.kind in LABELS and self.prediction is None and not self.features


class Submission(msgspec.Struct, frozen=True):
    """A valid label on its way in.

    ``candidates`` are the served predictions it may belong to, oldest first: the one with its id, or, for
    a full row without an id, those with the same features. ``expected`` is what the model says of the row
    now, where no prediction was served; ``source`` who sent it. ``suspicion`` says why it must not be
    learned. ``encoded`` and ``schema_hash`` are as in :class:`~online.storage.served_predictions.Served`.
    """

    target: float
    received_at: float
    id: str | None = None
    features: dict[str, Any] | None = None
    candidates: tuple[Candidate, ...] = ()
    suspicion: str | None = None
    expected: float | None = None
    source: str | None = None
    schema_hash: str = ""
    encoded: bytes = b""


class Receipt(msgspec.Struct, frozen=True, array_like=True):
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

    def shown(self) -> dict[str, Any]:
        """As people are shown it."""
        return msgspec.structs.asdict(self) | {"record": shown(self.record)}


encode_json = msgspec.json.Encoder().encode
encode_msgpack = msgspec.msgpack.Encoder().encode
RECORDS = msgspec.json.Decoder(Record)


def corrected(known: Record, target: float, received_at: float) -> Record:
    """A known label with another target; what was served stays with it."""
    return msgspec.structs.replace(known, kind="correction", target=real(target), received_at=received_at)


def label_record(stream: str, name: str, submission: Submission, served: Served | None) -> Record:
    """The record of a new label.

    Parameters
    ----------
    stream, name
        The stream, and the id that the label goes by.
    submission
        The label.
    served
        The prediction it belongs to, where there is one.

    Returns
    -------
    Record
        Without a seq: the journal gives it one.
    """
    target = real(submission.target)
    if served is None:
        return Record(
            0, stream, name, submission.received_at, "label", features=submission.features or {},
            target=target, schema_hash=submission.schema_hash, encoded=submission.encoded,
        )  # fmt: skip
    # JSON has no NaN and no infinity; experts give neither, and a journal must be readable whatever they do
    experts = served.experts if math.isfinite(sum(served.experts)) else ()
    return Record(
        0, stream, name, submission.received_at, "label",
        features=served.features, context=served.context, experts=experts,
        prediction=real(served.prediction), lower=real(served.lower), upper=real(served.upper),
        served_at=served.served_at, plan_seq=served.plan_seq, target=target,
        schema_hash=served.schema_hash, encoded=served.encoded,
    )  # fmt: skip


def to_json(record: Record) -> str:
    """A record as it is kept."""
    return encode_json(record).decode()


def from_json(content: str | bytes) -> Record:
    """What :func:`to_json` made. Raises JournalError when it is something else."""
    try:
        return RECORDS.decode(content)
    except msgspec.MsgspecError as exc:
        raise JournalError(f"a record is damaged, or of a later Millrace: {exc}") from exc


def to_row(record: Record) -> tuple[Any, ...]:
    """The values of the columns :data:`WRITTEN` for a record."""
    content = encode_json(record)
    return (
        record.seq, record.stream, record.id, record.received_at, record.kind, record.plan_seq, record.target,
        zlib.crc32(content), content.decode(),
    )  # fmt: skip


def from_row(row: Sequence[Any]) -> Record:
    """A record from the values of the columns :data:`READ`."""
    if row[RECORD] is not None:
        return from_json(row[RECORD])
    return Record(
        seq=row[0], stream=row[1], id=row[2], received_at=row[3], kind=row[4],
        features=old_json(row[5]), context=old_json(row[6]),
        experts=tuple(np.frombuffer(row[7] or b"", "<f8").tolist()), prediction=row[8], lower=row[9],
        upper=row[10], served_at=row[11], plan_seq=row[12], target=row[13], payload=old_json(row[14]),
    )  # fmt: skip


def old_json(content: str | None) -> dict[str, Any]:
    """An object from a column of its own; NULL is an empty one."""
    return {} if content is None else msgspec.json.decode(content)


def verified(row: Sequence[Any]) -> Record | None:
    """As :func:`from_row`; None for a row that is not as it was written, as far as its checksum tells."""
    content = row[RECORD]
    if content is None:
        whole = row[CHECKSUM] is None or row[CHECKSUM] == zlib.crc32(encode_msgpack(row[:CHECKSUM]))
        return from_row(row) if whole else None  # the first records had no checksum
    if row[CHECKSUM] != zlib.crc32(content):
        return None
    record = from_json(content)
    keys = (
        record.seq,
        record.stream,
        record.id,
        record.received_at,
        record.kind,
        record.plan_seq,
        record.target,
    )
    return record if keys == (*row[:5], row[12], row[13]) else None


def real(value: float) -> float:
    """A float as a column gives it back: SQLite knows no negative zero, and a record is to agree with it."""
    return float(value) + 0.0
