"""How every SQLite file of a home is opened and written."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import logging
import sqlite3
import urllib.parse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from online.core.errors import FormatError
from online.core.home import Home
from online.storage.migrate import DatabaseKind, migrate, migrations_of, refuse_newer

__all__ = ["as_json", "connect", "connect_to_read", "databases", "insert", "read_only", "refuse_newer_files"]

log = logging.getLogger(__name__)

MAX_STATEMENT_ROWS = 512  # a power of two; SQLite takes 32,766 parameters in a statement
TIMEOUT_SECONDS = 30.0  # a commit of another process is waited for this long
# 32 MB: every few seconds under full load. SQLite's 4 MB are at every other commit of many labels, which then
# waits for the file to be synced as well (decision 015).
CHECKPOINT_PAGES = 8000
DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def connect(
    path: Path, kind: DatabaseKind, *, synchronous: str = "FULL", expendable: bool = False
) -> sqlite3.Connection:
    """Open a database in WAL mode, made or migrated first where that is due.

    The connection may be used from any one thread at a time; the caller sees to that. It begins no
    transaction by itself.

    Parameters
    ----------
    path
        The file; made when missing.
    kind
        Which migrations are its.
    synchronous
        FULL where a commit must outlive a power cut, NORMAL where the last ones may go with it.
    expendable
        Whether a damaged file is set aside and begun anew: nothing that cannot be done without is in it. A
        file of a later Millrace is never set aside.

    Returns
    -------
    sqlite3.Connection
        In autocommit mode.

    Raises
    ------
    FormatError
        A later Millrace has migrated the file.
    sqlite3.Error
        It cannot be opened or migrated.
    """
    try:
        return opened(path, kind, synchronous)
    except sqlite3.DatabaseError as exc:
        if not expendable or exc.sqlite_errorcode not in DAMAGED:
            raise
    with path.with_name(f"{path.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one process does it, the others find it done
        return renewed(path, kind, synchronous)


def connect_to_read(path: Path, kind: DatabaseKind) -> sqlite3.Connection:
    """Open a database that is there, to read alone; one of an earlier release is migrated first.

    Parameters
    ----------
    path
        The file.
    kind
        Which migrations are its.

    Returns
    -------
    sqlite3.Connection
        In autocommit mode.

    Raises
    ------
    FormatError
        A later Millrace has migrated the file.
    sqlite3.Error
        It is missing, or cannot be opened or migrated.
    """
    db = read_only(path)
    try:
        if refuse_newer(db, path, kind) < len(migrations_of(kind)):
            connect(path, kind).close()
    except (FormatError, sqlite3.Error):
        db.close()
        raise
    return db


def read_only(path: Path) -> sqlite3.Connection:
    """Open a database as it is, to read alone."""
    # quoted, as "#", "?" and "%" mean something in a URI
    uri = f"file:{urllib.parse.quote(str(path))}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=TIMEOUT_SECONDS, isolation_level=None)


def refuse_newer_files(home: Home) -> None:
    """Raise FormatError when a later Millrace has migrated a database of a home.

    Other errors are for those who open the file to use it.
    """
    for kind, path in databases(home).items():
        try:
            with contextlib.closing(read_only(path)) as db:
                refuse_newer(db, path, kind)
        except sqlite3.Error as exc:
            log.debug("%s cannot be looked at before it is opened: %s", path, exc)  # as in a new home


def databases(home: Home) -> dict[DatabaseKind, Path]:
    """Every SQLite file of a home."""
    return {"journal": home.journal, "ledger": home.ledger, "history": home.history}


def opened(path: Path, kind: DatabaseKind, synchronous: str) -> sqlite3.Connection:
    """Open and migrate the database; errors are as SQLite gives them."""
    connection = sqlite3.connect(path, timeout=TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        refuse_newer(connection, path, kind)  # before anything is changed
        connection.execute("PRAGMA journal_mode=WAL")  # readers and the one writer do not wait for each other
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        migrate(connection, path, kind)
    except (FormatError, sqlite3.Error):
        connection.close()
        raise
    return connection


def renewed(path: Path, kind: DatabaseKind, synchronous: str) -> sqlite3.Connection:
    """Open the database; set the file aside first if it is damaged still."""
    try:
        return opened(path, kind, synchronous)
    except sqlite3.DatabaseError as exc:
        if exc.sqlite_errorcode not in DAMAGED:
            raise
        aside = path.with_name(f"{path.name}.damaged")
        log.error("%s is damaged (%s): kept as %s, and begun anew", path, exc, aside.name)
    for suffix in ("", "-wal", "-shm"):  # a write-ahead log left behind would be read into the new file
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.replace(aside.with_name(aside.name + suffix))
    return opened(path, kind, synchronous)


def insert(db: sqlite3.Connection, head: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert many rows in few statements: each statement takes and leaves the interpreter's lock.

    Parameters
    ----------
    db
        The database.
    head
        The statement up to its values, for instance ``INSERT INTO block (last, record)``.
    rows
        Their values, all of one length.

    Raises
    ------
    sqlite3.Error
        It failed; in a transaction nothing is kept.
    """
    # sizes are powers of two, so at most ten statements are parsed: Python keeps them by their text
    offset, size = 0, MAX_STATEMENT_ROWS
    while offset < len(rows):
        while size > len(rows) - offset:
            size //= 2
        part = rows[offset : offset + size]
        db.execute(head + values_clause(size, len(part[0])), list(itertools.chain.from_iterable(part)))
        offset += size


def as_json(items: Collection[str] | Collection[int]) -> str:
    """Texts or integers as SQLite's ``json_each`` takes them: one parameter, however many there are."""
    return msgspec.json.encode(items).decode()


@functools.cache
def values_clause(rows: int, columns: int) -> str:
    """The end of a statement that inserts so many rows."""
    return " VALUES " + ", ".join([f"({', '.join('?' * columns)})"] * rows)
