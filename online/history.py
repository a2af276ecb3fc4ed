"""What learning saw, for people: outcomes of served predictions, alarms, and the learner's status.

Written by the learner, read by anyone. All of it follows from the journal, so a repeated write after a
crash writes the same rows again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from online.database import connect

__all__ = ["Alarm", "History", "Outcome", "Outcomes"]

TABLES = """
CREATE TABLE IF NOT EXISTS outcome (
    seq INTEGER PRIMARY KEY, received_at REAL NOT NULL, truth REAL NOT NULL, prediction REAL NOT NULL,
    lower REAL NOT NULL, upper REAL NOT NULL, baseline REAL, delay_seconds REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS alarm (
    seq INTEGER NOT NULL, detector TEXT NOT NULL, subject TEXT NOT NULL, at REAL NOT NULL,
    before REAL NOT NULL, after REAL NOT NULL, message TEXT NOT NULL, PRIMARY KEY (seq, detector, subject)
);
CREATE TABLE IF NOT EXISTS status (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
WINDOW = 1000  # labels in a rolling mean


class Alarm(msgspec.Struct, frozen=True):
    """One drift alarm: at label ``seq``, mean absolute errors ``before`` and ``after`` in target units."""

    seq: int
    at: float
    detector: str
    subject: str
    before: float
    after: float
    message: str


class Outcome(msgspec.Struct, frozen=True):
    """A served prediction with its label; ``baseline`` is what the frozen first model says of the row."""

    seq: int
    received_at: float
    truth: float
    prediction: float
    lower: float
    upper: float
    baseline: float | None
    delay_seconds: float


class Outcomes(msgspec.Struct, frozen=True):
    """Outcomes as columns of equal length, oldest first; the errors are rolling means of 1,000 labels."""

    seq: list[int]
    received_at: list[float]
    truth: list[float]
    prediction: list[float]
    lower: list[float]
    upper: list[float]
    mae: list[float]
    baseline_mae: list[float | None]
    delay_seconds: list[float]


class History:
    """The history of one home. A :class:`History` belongs to one thread at a time; errors are sqlite3's.

    Parameters
    ----------
    path
        The database file; made when missing.
    rows
        How many outcomes are kept.
    """

    def __init__(self, path: Path, rows: int = 200_000) -> None:
        self._db = connect(path, TABLES, synchronous="NORMAL", expendable=True)
        self._rows = rows

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def write(self, outcomes: Sequence[Outcome], alarms: Sequence[Alarm], status: dict[str, Any]) -> None:
        """Commit what a batch of labels showed."""
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany(
                "INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [msgspec.structs.astuple(outcome) for outcome in outcomes],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO alarm (seq, at, detector, subject, before, after, message)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [msgspec.structs.astuple(alarm) for alarm in alarms],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO status VALUES (?, ?)",
                [(key, msgspec.json.encode(value).decode()) for key, value in status.items()],
            )
            if outcomes:
                self._db.execute("DELETE FROM outcome WHERE seq <= ?", (outcomes[-1].seq - self._rows,))

    def status(self) -> dict[str, Any]:
        """The learner's last words about itself."""
        rows = self._db.execute("SELECT key, value FROM status").fetchall()
        return {key: msgspec.json.decode(value) for key, value in rows}

    def alarms(self, limit: int = 100) -> list[Alarm]:
        """Alarms, newest first."""
        query = (
            "SELECT seq, at, detector, subject, before, after, message FROM alarm ORDER BY seq DESC LIMIT ?"
        )
        return [Alarm(*row) for row in self._db.execute(query, (limit,))]

    def outcomes(self, points: int, last: int) -> Outcomes:
        """The last outcomes, averaged into at most ``points`` bins of equal count."""
        query = (
            "SELECT seq, received_at, truth, prediction, lower, upper, baseline, delay_seconds FROM"
            " (SELECT * FROM outcome ORDER BY seq DESC LIMIT ?) ORDER BY seq"
        )
        rows = self._db.execute(query, (last + WINDOW,)).fetchall()
        if not rows:
            return Outcomes(*([] for _ in range(9)))
        return binned(np.array(rows, dtype=np.float64), points, last)


def binned(rows: np.ndarray, points: int, last: int) -> Outcomes:
    """Rolling means over the rows, then bins over the last of them."""
    truth, prediction, baseline = rows[:, 2], rows[:, 3], rows[:, 6]
    mae = rolling_mean(np.abs(truth - prediction))
    baseline_mae = rolling_mean(np.abs(truth - baseline))
    columns = np.column_stack([rows[:, :6], mae, baseline_mae, rows[:, 7]])[-last:]
    edges = np.linspace(0, len(columns), min(points, len(columns)) + 1).astype(int)
    means = np.add.reduceat(columns, edges[:-1], axis=0) / np.diff(edges)[:, None]
    means[:, 0] = columns[edges[1:] - 1, 0]
    lists: list[Any] = [column.tolist() for column in means.T]
    lists[0] = [int(seq) for seq in lists[0]]
    lists[7] = [None if value != value else value for value in lists[7]]
    return Outcomes(*lists)


def rolling_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the last WINDOW values at each place, of fewer at the start."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - WINDOW)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))
