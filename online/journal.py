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

from online.database import connect
from online.errors import InputError, JournalError
from online.ledger import Served
from online.records import (
    COLUMNS,
    Quarantined,
    Receipt,
    Record,
    Submission,
    corrected,
    label_record,
    record,
    values,
)
from online.schema import LARGEST

__all__ = ["Journal"]

RECORDS = msgspec.json.Decoder(Record)
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
    reason TEXT NOT NULL, target REAL NOT NULL, record TEXT NOT NULL, released_as INTEGER
);
CREATE INDEX IF NOT EXISTS quarantine_id ON quarantine (stream, id, target);
"""


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

    def order(
        self, kind: Literal["rollback", "snapshot", "refresh"], received_at: float, **payload: Any
    ) -> int:
        """Append an operator's order, or a new batch model; returns its seq."""
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

    def first_seq(self) -> int:
        """The oldest record's seq, 1 when there is none."""
        return int(self._rows("SELECT coalesce(min(seq), 1) FROM journal", ())[0][0])

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

    def labelled(self, names: Sequence[str]) -> set[str]:
        """Those of some ids that have a label, learned or set aside."""
        wanted = msgspec.json.encode(list(names)).decode()
        within = "WHERE stream = ? AND id IN (SELECT value FROM json_each(?))"
        query = f"SELECT id FROM journal {within} UNION SELECT id FROM quarantine {within}"
        return {name for (name,) in self._rows(query, (self._stream, wanted, self._stream, wanted))}

    def quarantine(self, limit: int = 1000) -> list[Quarantined]:
        """Labels set aside, newest first."""
        rows = self._rows(
            "SELECT seq, reason, record, released_as FROM quarantine WHERE stream = ?"
            " ORDER BY seq DESC LIMIT ?",
            (self._stream, limit),
        )
        return [Quarantined(seq, reason, RECORDS.decode(kept), to) for seq, reason, kept, to in rows]

    def release(self, seq: int, received_at: float) -> int:
        """Learn a quarantined label after all; returns its journal seq, the first one when repeated.

        Raises
        ------
        InputError
            There is no such quarantined label, or it has no features, or is too large to learn.
        """
        with Transaction(self._db, self._path):
            rows = self._rows(
                "SELECT record, released_as FROM quarantine WHERE seq = ? AND stream = ?",
                (max(0, min(seq, LAST)), self._stream),
            )
            if not rows:
                raise InputError(
                    f"there is no quarantined label {seq}; GET /quarantine lists them", field="seq"
                )
            kept, released_as = rows[0]
            if released_as is not None:
                return int(released_as)
            return self._release(seq, RECORDS.decode(kept), received_at)

    def _release(self, seq: int, kept: Record, received_at: float) -> int:
        known = self.find(kept.id)
        if kept.target is None or abs(kept.target) > LARGEST:
            raise InputError(f"quarantined label {seq}, {kept.target:g}, is too large to learn", field="seq")
        if known is not None:
            released = self._insert(corrected(known, kept.target, received_at))
        elif kept.prediction is None and not kept.features:
            raise InputError(f"quarantined label {seq} has no features to learn from", field="seq")
        else:
            kept = msgspec.structs.replace(kept, kind="release", received_at=received_at)
            released = self._insert(kept)
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
        """The id a label goes by, the prediction it belongs to, and what is known of it already.

        A label without an id takes the oldest prediction with its features that has none yet; where all have
        one, it repeats the one of the same value, else it is an observation of its own.
        """
        if submission.id is not None:
            served = submission.candidates[0] if submission.candidates else None
            return submission.id, served, self.find(submission.id)
        labelled = [(served, self.find(served.id)) for served in submission.candidates]
        for served, known in labelled:
            if known is None:
                return served.id, served, None
        for served, known in labelled:
            if known is not None and known.target == submission.target:
                return served.id, served, known
        return str(uuid.uuid4()), None, None

    def _set_aside(self, submission: Submission, name: str, served: Served | None, reason: str) -> Receipt:
        key = (self._stream, name, submission.target)
        again = self._rows("SELECT seq FROM quarantine WHERE stream = ? AND id = ? AND target = ?", key)
        if again:
            return Receipt("duplicate", int(again[0][0]))
        kept = msgspec.json.encode(label_record(self._stream, name, submission, served)).decode()
        cursor = self._db.execute(
            "INSERT INTO quarantine (stream, id, target, received_at, reason, record)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (*key, submission.received_at, reason, kept),
        )
        return Receipt("quarantined", int(cursor.lastrowid or 0), reason)

    def _insert(self, new: Record) -> int:
        cursor = self._db.execute(f"INSERT INTO journal ({COLUMNS}) VALUES (NULL{', ?' * 14})", values(new))
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
