"""What the watcher reads and leaves: served rows, their outcomes, alarms, and drift by subject over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from online.core.schema import Schema
from online.storage.database import connect, connect_to_read
from online.storage.prediction_log import fields_of, unpack
from online.storage.served_predictions import Served

__all__ = ["DriftScoreStore", "DriftScores", "LabelledOutcome", "PredictionReader"]

KEPT = 20_000  # moments of drift by subject
SCORES = msgspec.json.Decoder(dict[str, float])


class LabelledOutcome(NamedTuple):
    """An outcome: absolute error and half-width in target units, when it was served, its key and slot."""

    seq: int
    error: float
    half_width: float
    served_at: float
    place: tuple[int, int]


class DriftScores(msgspec.Struct, frozen=True):
    """How far each subject lay from what is usual, over time: 1 is where drift begins."""

    row: list[int]
    at: list[float]
    scores: dict[str, list[float | None]]


class PredictionReader:
    """Reads a ledger in the order in which it was written. Belongs to one thread; errors are sqlite3's."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self._db = connect_to_read(path, "ledger")
        self._stream = schema.stream
        self._fields = fields_of(schema)

    def last(self) -> int:
        """The newest row's number, 0 when there is none."""
        return int(self._db.execute("SELECT coalesce(max(last), 0) FROM block").fetchone()[0])

    def after(self, row: int, limit: int) -> list[tuple[int, Served]]:
        """The rows after one, with their numbers, oldest first."""
        query = "SELECT last, record FROM block WHERE last > ? AND stream = ? ORDER BY last"
        found: list[tuple[int, Served]] = []
        for last, record in self._db.execute(query, (row, self._stream)):
            several = unpack(record, self._fields)
            numbers = range(last - len(several) + 1, last + 1)
            found += [(n, one) for n, one in zip(numbers, several, strict=True) if n > row]
            if len(found) >= limit:
                break
        return found[:limit]

    def newest(self, limit: int) -> list[tuple[int, Served]]:
        """The newest rows, oldest first."""
        return self.after(self.last() - limit, limit)

    def close(self) -> None:
        """Close the database."""
        self._db.close()


class DriftScoreStore:
    """The watcher's part of the history. Belongs to one thread; errors are sqlite3's."""

    def __init__(self, path: Path) -> None:
        self._db = connect(path, "history", synchronous="NORMAL", expendable=True)

    def outcomes(self, after: int, limit: int) -> list[LabelledOutcome]:
        """Outcomes with ``seq > after``, in order."""
        query = (
            "SELECT seq, abs(truth - prediction), (upper - lower) / 2, received_at - delay_seconds, key, slot"
            " FROM scored WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        found = self._db.execute(query, (after, limit))
        return [
            LabelledOutcome(seq, error, half, at, (key, slot)) for seq, error, half, at, key, slot in found
        ]

    def add(self, moments: Sequence[tuple[int, float, dict[str, float]]]) -> None:
        """Add scores by subject: the row's number, when it was served, and the scores."""
        rows = [(row, at, msgspec.json.encode(scores).decode()) for row, at, scores in moments]
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO input_drift VALUES (?, ?, ?)", rows)
            self._db.execute(
                "DELETE FROM input_drift WHERE row <= (SELECT row FROM input_drift ORDER BY row DESC"
                " LIMIT 1 OFFSET ?)",
                (KEPT,),
            )

    def scores(self, points: int) -> DriftScores:
        """The newest scores by subject, at most ``points`` moments."""
        query = "SELECT row, at, scores FROM input_drift ORDER BY row DESC LIMIT ?"
        found = self._db.execute(query, (points,)).fetchall()[::-1]
        moments = [SCORES.decode(scores) for _, _, scores in found]
        names = dict.fromkeys(name for moment in moments for name in moment)
        columns = {name: [moment.get(name) for moment in moments] for name in names}
        return DriftScores([row for row, _, _ in found], [at for _, at, _ in found], columns)

    def close(self) -> None:
        """Close the database."""
        self._db.close()
