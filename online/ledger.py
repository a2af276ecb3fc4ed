"""The ledger: every prediction as it was served, by id, so that its label can join it.

Written behind the replies: :meth:`Ledger.record` only queues, a thread commits every ``flush_seconds``.
The queue is bounded; what does not fit is counted as lost, and a label for it still learns from its own
features. One SQLite table; the oldest predictions go when there are more than ``rows``.

What is queued goes to SQLite in statements of many rows, each of which runs outside the interpreter's lock:
a server that answers many thousand predictions a second has no time to hand over rows one by one. A row's
``record`` is the JSON of its :class:`Served`, byte for byte as it was encoded, its ``fingerprint`` what
:func:`~online.served.fingerprints` makes of the encoded features.
"""

from __future__ import annotations

import collections
import logging
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from online.columns import ColumnEncoder
from online.database import connect, insert
from online.encoding import Encoder
from online.schema import Schema
from online.served import Batch, Prepared, Served, fingerprints, identifier

__all__ = ["Ledger", "Served", "identifier"]

log = logging.getLogger(__name__)

RECORDS = msgspec.json.Decoder(Served)
encode = msgspec.json.Encoder().encode

TABLES = """
DROP TABLE IF EXISTS ledger;
CREATE TABLE IF NOT EXISTS served (
    row INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, id TEXT NOT NULL, served_at REAL NOT NULL,
    fingerprint INTEGER NOT NULL, record TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS served_id ON served (stream, id);
CREATE INDEX IF NOT EXISTS served_fingerprint ON served (stream, fingerprint);
"""
INSERT = "INSERT OR REPLACE INTO served (stream, id, served_at, fingerprint, record)"
CHECKPOINT_PAGES = 8000  # 32 MB: every few seconds under full load, not at every commit
EXPIRE = (  # of the oldest only: rows stand in the order they were written
    "DELETE FROM served WHERE row IN (SELECT row FROM (SELECT row, served_at FROM served ORDER BY row LIMIT"
    " 1000) WHERE served_at < (SELECT served_at FROM served ORDER BY row DESC LIMIT 1) - ?)"
)
SAME_FEATURES = 16  # how many predictions of the same features a label without an id may choose from
ALIKE = (
    "SELECT mark.key, served.record FROM json_each(:marks) AS mark JOIN served ON served.row IN ("
    "SELECT row FROM served WHERE stream = :stream AND fingerprint = mark.value"
    f" ORDER BY row DESC LIMIT {SAME_FEATURES}) ORDER BY served.row"
)
STATEMENT_ROWS = 5000  # written by one statement at most, give or take a batch


class Ledger:
    """The ledger of one stream. Every method may be called from any thread.

    Parameters
    ----------
    path
        The database file; made when missing.
    schema
        The stream.
    rows
        How many predictions are kept.
    flush_seconds
        How often queued predictions are written.
    waiting
        How many predictions may be queued.
    days
        How long a prediction is kept; 0 as long as there is room.
    """

    def __init__(
        self, path: Path, schema: Schema, *, rows: int, flush_seconds: float, waiting: int, days: float = 0.0
    ) -> None:
        self._db = connect(path, TABLES, synchronous="NORMAL", expendable=True)
        self._db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        self._stream = schema.stream
        self._encoder = Encoder.of(schema)
        self._many = ColumnEncoder(schema, self._encoder)
        self._rows = rows
        self._days = days
        self._waiting: collections.deque[Batch] = collections.deque()
        self._limit = self._room = waiting
        self._counting = threading.Lock()
        self.flush_seconds = flush_seconds
        self.lost = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._writer = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._writer.start()

    @property
    def waiting(self) -> int:
        """How many predictions are queued."""
        return self._limit - self._room

    def record(self, batch: Batch | Sequence[Served]) -> None:
        """Queue predictions; never waits."""
        one = batch if not isinstance(batch, Sequence) else Prepared(batch, self._encoder)
        with self._counting:
            if len(one) > self._room:
                self.lost += len(one) - self._room
                one = Prepared(one.served()[: self._room], self._encoder)
            self._room -= len(one)
            if len(one):
                self._waiting.append(one)

    def flush(self) -> None:
        """Commit what is queued; on failure it stays queued. Raises sqlite3.Error."""
        with self._lock:
            queued = list(self._waiting)
            while queued:
                batches = next_batches(queued)
                self._commit(batches)
                del queued[: len(batches)]

    def find(self, names: Iterable[str]) -> dict[str, Served]:
        """Predictions by id, those that are known. Raises sqlite3.Error."""
        wanted = msgspec.json.encode(list(names)).decode()
        query = "SELECT record FROM served WHERE stream = ? AND id IN (SELECT value FROM json_each(?))"
        with self._lock:
            rows = self._db.execute(query, (self._stream, wanted)).fetchall()
        return {one.id: one for one in (RECORDS.decode(record) for (record,) in rows)}

    def like(self, features: Mapping[str, Any]) -> tuple[Served, ...]:
        """The last predictions made from just these features, oldest first. Raises sqlite3.Error."""
        return self.alike([features])[0]

    def alike(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Served, ...]]:
        """For each row, the last predictions made from just its features, oldest first.

        Raises sqlite3.Error.
        """
        if not rows:
            return []
        values = np.empty((len(rows), len(self._encoder.columns)))
        self._many.write(rows, values)
        marks = msgspec.json.encode(fingerprints(values).tolist()).decode()
        with self._lock:
            rows_found = self._db.execute(ALIKE, {"marks": marks, "stream": self._stream}).fetchall()
        found: list[list[Served]] = [[] for _ in rows]
        for place, record in rows_found:
            found[place].append(RECORDS.decode(record))
        return [tuple(one) for one in found]

    def close(self) -> None:
        """Write what is queued and close."""
        self._stop.set()
        self._writer.join()
        with self._lock:
            self._db.close()

    def _commit(self, batches: list[Batch]) -> None:
        rows = as_rows(batches, self._stream)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            insert(self._db, INSERT, rows)
            self._db.execute(
                "DELETE FROM served WHERE row <= (SELECT max(row) FROM served) - ?", (self._rows,)
            )
            if self._days:
                self._db.execute(EXPIRE, (86_400.0 * self._days,))
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        for batch in batches:
            self._waiting.popleft()
            with self._counting:
                self._room += len(batch)

    def _write(self) -> None:
        """The writer thread: flush until closed, once more at the end."""
        while True:
            stopped = self._stop.wait(self.flush_seconds)
            try:
                self.flush()
            except sqlite3.Error as exc:
                log.warning("the ledger could not be written, %d predictions wait: %s", self.waiting, exc)
            if stopped:
                return


def next_batches(waiting: Iterable[Batch]) -> list[Batch]:
    """The first batches, as many as one statement writes."""
    taken, rows = [], 0
    for batch in waiting:
        taken.append(batch)
        rows += len(batch)
        if rows >= STATEMENT_ROWS:
            break
    return taken


def as_rows(batches: Sequence[Batch], stream: str) -> list[tuple[Any, ...]]:
    """The table's rows."""
    served = [one for batch in batches for one in batch.served()]
    values = [encoded for batch in batches for encoded in batch.values()]
    marks = fingerprints(np.array(values, dtype=float)).tolist()
    return [
        (stream, one.id, one.served_at, mark, encode(one).decode())
        for one, mark in zip(served, marks, strict=True)
    ]
