"""``data/drift_log.csv``: every drifted input as it was served, for people and for label requests.

Columns: ``row`` (the ledger's number of it), ``id``, ``served_at`` (unix seconds), ``reasons`` (joined by
``; ``), ``prediction``, ``lower``, ``upper``, then the features. The file is its own bookmark: the row of its
last whole line says where to go on, and half a line left by a crash is cut off, so that no row is lost or
doubled. A full file becomes ``drift_log.1.csv``, that one ``drift_log.2.csv``, and so on.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from online.core.schema import Schema
from online.storage.served_predictions import Served

__all__ = ["DriftLog"]

HEAD = ("row", "id", "served_at", "reasons", "prediction", "lower", "upper")
TAIL_BYTES = 1 << 20  # longer than any line


class DriftLog:
    """The log of one home, written by one process.

    Parameters
    ----------
    path
        The file; its folder is there.
    schema
        The stream.
    max_bytes
        Size at which a file is full.
    files
        Full files kept.
    """

    def __init__(self, path: Path, schema: Schema, max_bytes: int, files: int) -> None:
        self._path = path
        self._features = [feature.name for feature in schema.features]
        self._max_bytes = max_bytes
        self._files = files
        self.row = self._recover()

    def append(self, rows: Sequence[tuple[int, Served]]) -> None:
        """Add served rows with numbers greater than ``row``. Raises OSError; nothing is kept then."""
        if not rows:
            return
        if self._path.exists() and self._path.stat().st_size >= self._max_bytes:
            self._rotate()
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not self._path.exists() or self._path.stat().st_size == 0:
            writer.writerow([*HEAD, *self._features])
        for number, one in rows:
            values = [one.features.get(name) for name in self._features]
            served = (number, one.id, one.served_at, "; ".join(one.drifted))
            writer.writerow([*served, one.prediction, one.lower, one.upper, *values])
        self._write(text.getvalue().encode())
        self.row = rows[-1][0]

    def _write(self, content: bytes) -> None:
        with self._path.open("ab") as file:
            size = file.tell()
            try:
                file.write(content)
                file.flush()
            except OSError:
                file.truncate(size)
                raise

    def _rotate(self) -> None:
        for number in range(self._files, 0, -1):
            older = self._numbered(number)
            if older.exists():
                if number == self._files:
                    older.unlink()
                else:
                    older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.stem}.{number}.csv")

    def _recover(self) -> int:
        """Cut off half a line; the last row's number, looked for in the newest file that has one."""
        for path in (self._path, self._numbered(1)):
            if not path.exists():
                continue
            with path.open("r+b") as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(max(0, size - TAIL_BYTES))
                tail = file.read()
                whole = whole_lines(tail)
                file.truncate(size - len(tail) + whole)
            lines = list(csv.reader(io.StringIO(tail[:whole].decode(errors="replace"), newline="")))
            if lines and lines[-1] and lines[-1][0].isdigit():
                return int(lines[-1][0])
        return 0


def whole_lines(content: bytes) -> int:
    """The length of the whole records; an end of line within quotes ends none."""
    end = content.rfind(b"\n") + 1
    while end and content[:end].count(b'"') % 2:
        end = content.rfind(b"\n", 0, end - 1) + 1
    return end
