"""The journal: every accepted label, in order, durable before it is answered.

One SQLite table in WAL mode, ``synchronous=FULL``. Any number of processes append, one learner reads.
A record's ``seq`` follows the order of commits without gaps. ``features`` and ``context`` are JSON objects,
``experts`` little-endian float64 outputs in the pool's order, ``payload`` a JSON object (kind rollback:
``{"version": N}``). ``(stream, id)`` is unique among labels and releases; a correction repeats the id.
Labels that were set aside are in the table ``quarantine``.

A :class:`Journal` belongs to one thread at a time.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from online.database import connect
from online.errors import InputError, JournalError
from online.ledger import Served
from online.schema import LARGEST

__all__ = ["Journal", "Kind", "Quarantined", "Receipt", "Record", "Submission"]

Kind = Literal["label", "correction", "release", "rollback", "snapshot"]
LABELS = ("label", "correction", "release")
LAST = 2**63 - 1  # the largest integer SQLite takes

TABLES = """
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, id TEXT NOT NULL, received_at REAL NOT NULL,
    kind TEXT NOT NULL, features TEXT, context TEXT, experts BLOB, prediction REAL, lower REAL, upper REAL,
    served_at REAL, plan_seq INTEGER, target REAL, payload TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS journal_label ON journal (stream, id) WHERE kind IN ('label', 'release');
CREATE INDEX IF NOT EXISTS journal_id ON journal (stream, id, seq);
CREATE TABLE IF NOT EXISTS quarantine (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, id TEXT NOT NULL, received_at REAL NOT NULL,
    reason TEXT NOT NULL, features TEXT, target REAL NOT NULL, released_as INTEGER
);
CREATE INDEX IF NOT EXISTS quarantine_id ON quarantine (stream, id, target);
"""
COLUMNS = (
    "seq, stream, id, received_at, kind, features, context, experts, prediction, lower, upper, served_at,"
    " plan_seq, target, payload"
)


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


class Submission(msgspec.Struct, frozen=True):
    """A valid label on its way in.

    ``candidates`` are the served predictions it may belong to, oldest first: the one with its id, or, for
    a full row without an id, those with the same features. ``suspicion`` says why it must not be learned.
    """

    target: float
    received_at: float
    id: str | None = None
    features: dict[str, Any] | None = None
    candidates: tuple[Served, ...] = ()
    suspicion: str | None = None


class Receipt(msgspec.Struct, frozen=True):
    """What became of a submission: ``seq`` is the record's, the quarantine's for a quarantined one."""

    status: Literal["accepted", "duplicate", "correction", "quarantined"]
    seq: int
    reason: str | None = None


class Quarantined(msgspec.Struct, frozen=True):
    """A label set aside; ``released_as`` is its journal seq once it was released."""

    seq: int
    id: str
    received_at: float
    reason: str
    features: dict[str, Any] | None
    target: float
    released_as: int | None


class Journal:
    """The journal of one stream.

    Parameters
    ----------
    path
        The database file; made when missing.
    stream
        The stream's name.

    Raises
    ------
    JournalError
        From every method, when the database fails; nothing of the failed call was kept.
    """

    def __init__(self, path: Path, stream: str) -> None:
        self._path = path
        self._stream = stream
        try:
            self._db = connect(path, TABLES)
        except sqlite3.Error as exc:
            raise JournalError(f"{path} cannot be opened: {exc}") from exc

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def append(self, submissions: Sequence[Submission]) -> list[Receipt]:
        """Commit submissions in one transaction, durable on return; a receipt for each."""
        with Transaction(self._db, self._path):
            return [self._take(submission) for submission in submissions]

    def order(self, kind: Literal["rollback", "snapshot"], received_at: float, **payload: Any) -> int:
        """Append an operator's order; returns its seq."""
        with Transaction(self._db, self._path):
            name = f"{kind}-{uuid.uuid4()}"
            return self._insert(Record(0, self._stream, name, received_at, kind, payload=payload))

    def read(self, after: int, limit: int = 500) -> list[Record]:
        """Records with ``seq > after``, in order.

        Raises JournalError where a seq is missing: learning must not skip over damage.
        """
        rows = self._rows(f"SELECT {COLUMNS} FROM journal WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
        for expected, row in enumerate(rows, start=after + 1):
            if row[0] != expected:
                raise JournalError(
                    f"{self._path}: record {expected} is missing; restore the file from a backup"
                )
        return [record(row) for row in rows]

    def last_seq(self) -> int:
        """The newest record's seq, 0 when there is none."""
        return int(self._rows("SELECT coalesce(max(seq), 0) FROM journal", ())[0][0])

    def find(self, name: str) -> Record | None:
        """The newest label, correction or release with an id."""
        rows = self._rows(
            f"SELECT {COLUMNS} FROM journal WHERE stream = ? AND id = ? ORDER BY seq DESC LIMIT 1",
            (self._stream, name),
        )
        return record(rows[0]) if rows else None

    def quarantine(self, limit: int = 1000) -> list[Quarantined]:
        """Labels set aside, newest first."""
        rows = self._rows(
            "SELECT seq, id, received_at, reason, features, target, released_as FROM quarantine"
            " WHERE stream = ? ORDER BY seq DESC LIMIT ?",
            (self._stream, limit),
        )
        return [
            Quarantined(seq, name, at, reason, decode(features), target, released_as)
            for seq, name, at, reason, features, target, released_as in rows
        ]

    def release(self, seq: int, received_at: float) -> int:
        """Learn a quarantined label after all; returns its journal seq, the first one when repeated.

        Raises
        ------
        InputError
            There is no such quarantined label, or it has no features, or is too large to learn.
        """
        with Transaction(self._db, self._path):
            rows = self._rows(
                "SELECT id, features, target, released_as FROM quarantine WHERE seq = ? AND stream = ?",
                (max(0, min(seq, LAST)), self._stream),
            )
            if not rows:
                raise InputError(
                    f"there is no quarantined label {seq}; GET /quarantine lists them", field="seq"
                )
            name, features, target, released_as = rows[0]
            if released_as is not None:
                return int(released_as)
            return self._release(seq, name, decode(features), target, received_at)

    def _release(self, seq: int, name: str, features: Any, target: float, received_at: float) -> int:
        known = self.find(name)
        features = features if features is not None else known.features if known else None
        if abs(target) > LARGEST:
            raise InputError(f"quarantined label {seq}, {target:g}, is too large to learn", field="seq")
        if features is None:
            raise InputError(f"quarantined label {seq} has no features to learn from", field="seq")
        if known is not None:
            released = self._insert(corrected(known, target, received_at))
        else:
            released = self._insert(
                Record(0, self._stream, name, received_at, "release", features=features, target=target)
            )
        self._db.execute("UPDATE quarantine SET released_as = ? WHERE seq = ?", (released, seq))
        return released

    def _take(self, submission: Submission) -> Receipt:
        name, served, known = self._place(submission)
        if known is not None and known.target == submission.target:
            return Receipt("duplicate", known.seq)
        if submission.suspicion is not None:
            return self._set_aside(submission, name, served, submission.suspicion)
        if known is not None:
            fixed = corrected(known, submission.target, submission.received_at)
            return Receipt("correction", self._insert(fixed))
        if served is None and submission.features is None:
            return self._set_aside(submission, name, None, f"no prediction with id {name!r} is known")
        return Receipt("accepted", self._insert(label_record(self._stream, name, submission, served)))

    def _place(self, submission: Submission) -> tuple[str, Served | None, Record | None]:
        """The id a label goes by, the prediction it belongs to, and what is known of it already."""
        if submission.id is not None:
            served = submission.candidates[0] if submission.candidates else None
            return submission.id, served, self.find(submission.id)
        known = None
        for served in submission.candidates:
            known = self.find(served.id)
            if known is None or known.target == submission.target:
                return served.id, served, known
        return str(uuid.uuid4()), None, None

    def _set_aside(self, submission: Submission, name: str, served: Served | None, reason: str) -> Receipt:
        features = served.features if served is not None else submission.features
        key = (self._stream, name, submission.target)
        again = self._rows("SELECT seq FROM quarantine WHERE stream = ? AND id = ? AND target = ?", key)
        if again:
            return Receipt("duplicate", int(again[0][0]))
        cursor = self._db.execute(
            "INSERT INTO quarantine (stream, id, target, received_at, reason, features)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (*key, submission.received_at, reason, encode(features)),
        )
        return Receipt("quarantined", int(cursor.lastrowid or 0), reason)

    def _insert(self, new: Record) -> int:
        cursor = self._db.execute(
            f"INSERT INTO journal ({COLUMNS}) VALUES (NULL{', ?' * 14})",
            (
                new.stream, new.id, new.received_at, new.kind, encode(new.features), encode(new.context),
                np.asarray(new.experts, "<f8").tobytes(), new.prediction, new.lower, new.upper, new.served_at,
                new.plan_seq, new.target, encode(new.payload),
            ),
        )  # fmt: skip
        return int(cursor.lastrowid or 0)

    def _rows(self, query: str, parameters: tuple[Any, ...]) -> list[Any]:
        try:
            return self._db.execute(query, parameters).fetchall()
        except sqlite3.Error as exc:
            raise JournalError(f"{self._path}: {exc}") from exc


class Transaction:
    """One immediate transaction: committed as a whole, or rolled back as a whole."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path

    def __enter__(self) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as exc:
            raise JournalError(f"{self._path}: {exc}") from exc

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            self._db.execute("ROLLBACK" if kind else "COMMIT")
        except sqlite3.Error as exc:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise JournalError(f"{self._path}: {exc}") from exc
        if isinstance(error, sqlite3.Error):
            raise JournalError(f"{self._path}: {error}") from error


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


def encode(content: Any) -> str | None:
    """JSON text; an empty or missing object is NULL."""
    return msgspec.json.encode(content).decode() if content else None


def decode(content: str | None) -> Any:
    """What :func:`encode` wrote."""
    return None if content is None else msgspec.json.decode(content)
