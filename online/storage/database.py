"""How every SQLite file of a home is opened and written."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import logging
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["as_json", "connect", "insert", "transaction"]

log = logging.getLogger(__name__)

TOGETHER = 512  # rows of the largest statement, a power of two; SQLite takes 32,766 parameters
DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def connect(
    path: Path, schema: str, *, synchronous: str = "FULL", expendable: bool = False
) -> sqlite3.Connection:
    """Open a database in WAL mode and make its tables if they are not there.

    The connection may be used from any one thread at a time; the caller sees to that. It begins no
    transaction by itself. A damaged file that is ``expendable`` is set aside and begun anew: nothing that
    cannot be done without is in it.
    """
    try:
        return opened(path, schema, synchronous)
    except sqlite3.DatabaseError as exc:
        if not expendable or exc.sqlite_errorcode not in DAMAGED:
            raise
    with path.with_name(f"{path.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one process does it, the others find it done
        return renewed(path, schema, synchronous)


def opened(path: Path, schema: str, synchronous: str) -> sqlite3.Connection:
    """The database as it is."""
    connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.executescript(schema)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def renewed(path: Path, schema: str, synchronous: str) -> sqlite3.Connection:
    """The database, set aside first if it is damaged still."""
    try:
        return opened(path, schema, synchronous)
    except sqlite3.DatabaseError as exc:
        if exc.sqlite_errorcode not in DAMAGED:
            raise
        aside = path.with_name(f"{path.name}.damaged")
        log.error("%s is damaged (%s): kept as %s, and begun anew", path, exc, aside.name)
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.replace(aside.with_name(aside.name + suffix))
    return opened(path, schema, synchronous)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """One immediate transaction: committed as a whole, or rolled back as a whole. Raises sqlite3.Error."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def insert(db: sqlite3.Connection, head: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows; ``head`` is the statement up to its values.

    Many rows go in one statement, as each statement takes and leaves the interpreter's lock; the statements
    are of few sizes, so that few are ever parsed.
    """
    at, size = 0, TOGETHER
    while at < len(rows):
        while size > len(rows) - at:
            size //= 2
        part = rows[at : at + size]
        db.execute(head + values(size, len(part[0])), list(itertools.chain.from_iterable(part)))
        at += size


def as_json(several: Collection[str] | Collection[int]) -> str:
    """Texts or integers as SQLite's ``json_each`` takes them."""
    return msgspec.json.encode(several).decode()


@functools.cache
def values(rows: int, columns: int) -> str:
    """The end of a statement that inserts so many rows."""
    return " VALUES " + ", ".join([f"({', '.join('?' * columns)})"] * rows)
