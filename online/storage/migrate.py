"""Numbered migrations of the SQLite files of a home.

``migrations/KIND/NNNN_what.sql`` are the migrations of one kind of file, numbered from 1 without gaps;
``PRAGMA user_version`` is the number of the last one that a file has had. A file is brought up when it is
opened, by all that it lacks in one transaction: afterwards it is up to date, or as it was.

Files made before they had numbers have user_version 0 and tables. A migration that may already be in such a
file says how to see that, in a line ``-- unless: SELECT ...``: where the query gives a row, the migration is
left out. Migrations written since need no such line.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from online.core.errors import FormatError
from online.storage.transactions import transaction

__all__ = ["DatabaseKind", "Migration", "migrate", "migrations_of", "refuse_newer", "version_of"]

DatabaseKind = Literal["journal", "ledger", "history"]

FILE_NAME = re.compile(r"\d{4}_\w+\.sql")
UNLESS = re.compile(r"^-- unless: (.+)$", re.MULTILINE)
# a migration may rewrite a journal of years, and other processes that open the file wait for it
MIGRATION_TIMEOUT_MS = 15 * 60 * 1000


class Migration(NamedTuple):
    """One migration: its file's name, its statements, and the query that tells whether it is in place."""

    name: str
    statements: tuple[str, ...]
    unless: str | None


@functools.cache
def migrations_of(kind: DatabaseKind) -> tuple[Migration, ...]:
    """The migrations of one kind of file, in order; the first one has number 1."""
    folder = importlib.resources.files("online.storage") / "migrations" / kind
    files = [file for file in folder.iterdir() if FILE_NAME.fullmatch(file.name)]
    files.sort(key=lambda file: file.name)
    return tuple(parse(file.name, file.read_text("utf-8")) for file in files)


def parse(name: str, script: str) -> Migration:
    """A migration from its file's name and content."""
    unless = UNLESS.search(script)
    return Migration(name, tuple(statements(script)), unless[1] if unless else None)


def statements(script: str) -> Iterator[str]:
    """The statements of a script; each ends at the end of a line.

    ``executescript`` would do without, but commits the transaction it is called in.
    """
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def version_of(db: sqlite3.Connection) -> int:
    """The number of the last migration that a database has had."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def refuse_newer(db: sqlite3.Connection, path: Path, kind: DatabaseKind) -> int:
    """Look at a database's version before anything else is done with it.

    Parameters
    ----------
    db
        A connection to it.
    path
        Its file, for the error.
    kind
        Which migrations are its.

    Returns
    -------
    int
        The number of the last migration it has had.

    Raises
    ------
    FormatError
        A later Millrace has migrated the file.
    """
    version, newest = version_of(db), len(migrations_of(kind))
    if version > newest:
        raise FormatError(
            f"{path} is of format {version}, made by a later Millrace: this one reads formats up to {newest};"
            " upgrade Millrace, or go back to a backup of before"
        )
    return version


def migrate(db: sqlite3.Connection, path: Path, kind: DatabaseKind) -> None:
    """Bring a database up to date. Any number of processes may do so at once.

    Parameters
    ----------
    db
        A connection to it that may write.
    path
        Its file, for errors.
    kind
        Which migrations are its.

    Raises
    ------
    FormatError
        A later Millrace has migrated the file.
    sqlite3.Error
        A migration failed; the file is as it was.
    """
    if refuse_newer(db, path, kind) == len(migrations_of(kind)):
        return
    patience = db.execute("PRAGMA busy_timeout").fetchone()[0]
    db.execute(f"PRAGMA busy_timeout={MIGRATION_TIMEOUT_MS}")
    with transaction(db):
        # read again: another process may have been quicker while this one waited for the transaction
        for migration in migrations_of(kind)[refuse_newer(db, path, kind) :]:
            apply(db, migration)
        db.execute(f"PRAGMA user_version={len(migrations_of(kind))}")
    db.execute(f"PRAGMA busy_timeout={patience}")


def apply(db: sqlite3.Connection, migration: Migration) -> None:
    """Run a migration's statements, unless what they make is there."""
    if migration.unless is not None and db.execute(migration.unless).fetchone():
        return
    for statement in migration.statements:
        db.execute(statement)
