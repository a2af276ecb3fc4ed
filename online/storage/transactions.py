"""One transaction of a SQLite database."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator

__all__ = ["transaction"]


@contextlib.contextmanager
def transaction(
    db: sqlite3.Connection, error: Callable[[sqlite3.Error], Exception] | None = None
) -> Iterator[None]:
    """One immediate transaction: committed as a whole, or rolled back as a whole.

    Parameters
    ----------
    db
        A connection that begins no transaction by itself (``isolation_level=None``).
    error
        Makes the exception that is raised where SQLite fails; without it SQLite's own is raised.

    Yields
    ------
    None
        The transaction is open.

    Raises
    ------
    sqlite3.Error
        SQLite failed, in the block or in the commit, and there is no ``error``; nothing was kept.
    """
    try:
        # a transaction that begins by reading and then writes fails at once when another process has
        # written meanwhile; one that is immediate waits for its turn
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # SQLite rolls back by itself when the disk is full, for one
                db.execute("ROLLBACK")
            raise
    except sqlite3.Error as exc:
        if error is None:
            raise
        raise error(exc) from exc
