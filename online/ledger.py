"""The ledger: every prediction as it was served, by id, so that its label can join it.

Written behind the replies: :meth:`Ledger.record` only queues, a thread commits every ``flush_seconds``.
The queue is bounded; what does not fit is counted as lost, and a label for it still learns from its own
features. One SQLite table; the oldest predictions go when there are more than ``rows``.
"""

from __future__ import annotations

import collections
import hashlib
import logging
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from online.database import connect
from online.encoding import Encoder
from online.errors import InputError
from online.schema import Schema

__all__ = ["Ledger", "Served", "identifier"]

log = logging.getLogger(__name__)

TABLES = """
CREATE TABLE IF NOT EXISTS ledger (
    row INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, id TEXT NOT NULL, served_at REAL NOT NULL,
    features TEXT NOT NULL, context TEXT NOT NULL, experts BLOB NOT NULL, prediction REAL NOT NULL,
    lower REAL NOT NULL, upper REAL NOT NULL, imputed TEXT NOT NULL, drifted TEXT NOT NULL,
    model_version INTEGER NOT NULL, plan_seq INTEGER NOT NULL, fingerprint BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS ledger_id ON ledger (stream, id);
CREATE INDEX IF NOT EXISTS ledger_fingerprint ON ledger (stream, fingerprint);
"""
COLUMNS = (
    "id, served_at, features, context, experts, prediction, lower, upper, imputed, drifted,"
    " model_version, plan_seq"
)
ID_LIMIT = 200  # characters
SAME_FEATURES = 16  # how many predictions of the same features a label without an id may choose from


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
    """

    def __init__(self, path: Path, schema: Schema, *, rows: int, flush_seconds: float, waiting: int) -> None:
        self._db = connect(path, TABLES, expendable=True)
        self._stream = schema.stream
        self._encoder = Encoder.of(schema)
        self._rows = rows
        self._waiting: collections.deque[Served] = collections.deque()
        self._limit = waiting
        self.flush_seconds = flush_seconds
        self.lost = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._writer = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._writer.start()

    def record(self, served: Iterable[Served]) -> None:
        """Queue predictions; never waits."""
        for one in served:
            if len(self._waiting) >= self._limit:
                self.lost += 1
            else:
                self._waiting.append(one)

    def flush(self) -> None:
        """Commit what is queued; on failure it stays queued. Raises sqlite3.Error."""
        with self._lock:
            batch = list(self._waiting)
            if not batch:
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._insert(batch)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            for _ in batch:
                self._waiting.popleft()

    def find(self, names: Iterable[str]) -> dict[str, Served]:
        """Predictions by id, those that are known. Raises sqlite3.Error."""
        wanted = msgspec.json.encode(list(names)).decode()
        query = f"SELECT {COLUMNS} FROM ledger WHERE stream = ? AND id IN (SELECT value FROM json_each(?))"
        return {one.id: one for one in self._select(query, wanted)}

    def like(self, features: Mapping[str, Any]) -> tuple[Served, ...]:
        """The last predictions made from just these features, oldest first. Raises sqlite3.Error."""
        query = (
            f"SELECT * FROM (SELECT {COLUMNS}, row FROM ledger WHERE stream = ? AND fingerprint = ?"
            f" ORDER BY row DESC LIMIT {SAME_FEATURES}) ORDER BY row"
        )
        return tuple(self._select(query, self._fingerprint(features)))

    def close(self) -> None:
        """Write what is queued and close."""
        self._stop.set()
        self._writer.join()
        with self._lock:
            self._db.close()

    def _fingerprint(self, features: Mapping[str, Any]) -> bytes:
        """Identifies rows that encode alike, 16 bytes: ``3``, ``3.0`` and ``"3"`` are the same."""
        values = np.array(self._encoder.encode(features).values)
        return hashlib.blake2b(values.tobytes(), digest_size=16).digest()

    def _select(self, query: str, argument: str | bytes) -> list[Served]:
        with self._lock:
            rows = self._db.execute(query, (self._stream, argument)).fetchall()
        return [served(row) for row in rows]

    def _insert(self, batch: list[Served]) -> None:
        self._db.executemany(
            f"INSERT OR REPLACE INTO ledger (stream, fingerprint, {COLUMNS}) VALUES (?, ?{', ?' * 12})",
            [(self._stream, self._fingerprint(one.features), *stored(one)) for one in batch],
        )
        self._db.execute("DELETE FROM ledger WHERE row <= (SELECT max(row) FROM ledger) - ?", (self._rows,))

    def _write(self) -> None:
        """The writer thread: flush until closed, once more at the end."""
        while True:
            stopped = self._stop.wait(self.flush_seconds)
            try:
                self.flush()
            except sqlite3.Error as exc:
                log.warning(
                    "the ledger could not be written, %d predictions wait: %s", len(self._waiting), exc
                )
            if stopped:
                return


def stored(one: Served) -> tuple[Any, ...]:
    """A row's values, in the order of COLUMNS."""
    json = msgspec.json.encode
    return (
        one.id, one.served_at, json(one.features).decode(), json(one.context).decode(),
        np.asarray(one.experts, "<f8").tobytes(), one.prediction, one.lower, one.upper,
        json(one.imputed).decode(), json(one.drifted).decode(), one.model_version, one.plan_seq,
    )  # fmt: skip


def served(row: Any) -> Served:
    """What :func:`stored` wrote."""
    json = msgspec.json.decode
    return Served(
        id=row[0], served_at=row[1], features=json(row[2]), context=json(row[3]),
        experts=tuple(np.frombuffer(row[4], "<f8").tolist()), prediction=row[5], lower=row[6], upper=row[7],
        imputed=tuple(json(row[8])), drifted=tuple(json(row[9])), model_version=row[10], plan_seq=row[11],
    )  # fmt: skip


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
