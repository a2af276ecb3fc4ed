"""``data/drift_log.csv``: every drifted input as it was served, for people and for label requests.

Columns: ``row`` (its number in the prediction log), ``id``, ``served_at`` (unix seconds), ``reasons`` (joined
by ``; ``), ``prediction``, ``lower``, ``upper``, then the features.

The file is its own bookmark. The ``row`` of its last complete line says where to go on, and an incomplete
line left by a crash is cut off, so no row is lost or written twice. A full file becomes ``drift_log.1.csv``,
that one ``drift_log.2.csv``, and so on.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from online.core.schema import Schema
from online.storage.served_predictions import Served

__all__ = ["DriftLog", "complete_length"]

LOG_COLUMNS = ("row", "id", "served_at", "reasons", "prediction", "lower", "upper")
TAIL_BYTES = 1 << 20  # longer than any line: no text of a row is longer than TEXT_LIMIT + 1 characters


class DriftLog:
    """The log of one home, written by one process.

    Parameters
    ----------
    path
        The file; its folder exists.
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
        """Add served rows, with numbers greater than ``row``.

        Raises
        ------
        OSError
            The file cannot be written; then none of the rows is in it.
        """
        if not rows:
            return
        if self._path.exists() and self._path.stat().st_size >= self._max_bytes:
            self._rotate()
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not self._path.exists() or self._path.stat().st_size == 0:
            writer.writerow([*LOG_COLUMNS, *self._features])
        for number, row in rows:
            features = [row.features.get(name) for name in self._features]
            served = (number, row.id, row.served_at, "; ".join(row.drifted))
            writer.writerow([*served, row.prediction, row.lower, row.upper, *features])
        self._write(text.getvalue().encode())
        self.row = rows[-1][0]

    def _write(self, content: bytes) -> None:
        with self._path.open("ab") as file:
            size = file.tell()
            try:
                file.write(content)
                file.flush()
            except OSError:  # a full disk: what was written of the line goes, to be written again later
                file.truncate(size)
                raise

    def _rotate(self) -> None:
        for number in range(self._files, 0, -1):  # from the oldest on, so that none is overwritten
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
        """Cut off an incomplete line; the last row's number, from the newest file that has one."""
        for path in (self._path, self._numbered(1)):
            if not path.exists():
                continue
            with path.open("r+b") as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(max(0, size - TAIL_BYTES))
                tail = file.read()
                complete = complete_length(tail)
                file.truncate(size - len(tail) + complete)
            lines = list(csv.reader(io.StringIO(tail[:complete].decode(errors="replace"), newline="")))
            if lines and lines[-1] and lines[-1][0].isdigit():
                return int(lines[-1][0])
        return 0


def complete_length(content: bytes) -> int:
    """How many bytes of a CSV's end are complete records.

    A line feed within quotes ends no record: such a one has an odd number of quotes before it.
    """
    end = content.rfind(b"\n") + 1
    while end and content[:end].count(b'"') % 2:
        end = content.rfind(b"\n", 0, end - 1) + 1
    return end
