"""How every SQLite file of a home is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

__all__ = ["connect"]


def connect(path: Path, schema: str, *, synchronous: str = "FULL") -> sqlite3.Connection:
    """Open a database in WAL mode and make its tables if they are not there.

    The connection may be used from any one thread at a time; the caller sees to that. It begins no
    transaction by itself.
    """
    connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.executescript(schema)
    return connection
