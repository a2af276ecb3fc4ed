"""What the drift watcher reads (served predictions, their outcomes), and the drift scores it writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from online.core.schema import Schema
from online.storage.database import connect, connect_to_read
from online.storage.prediction_log import fields_of, unpack
from online.storage.served_predictions import Served
from online.storage.transactions import transaction

__all__ = ["DriftScoreStore", "DriftScores", "LabelledOutcome", "PredictionReader"]

MAX_MOMENTS = 20_000  # of drift scores, the newest of which are kept
SCORES_DECODER = msgspec.json.Decoder(dict[str, float])


class LabelledOutcome(NamedTuple):
    """An outcome: absolute error and half-width in target units, when it was served, its key and slot."""

    seq: int
    error: float
    half_width: float
    served_at: float
    segment: tuple[int, int]


class DriftScores(msgspec.Struct, frozen=True):
    """How far each subject lay from what is usual, over time: 1 is where drift begins.

    ``row`` is the prediction's number, ``at`` when it was served (unix seconds); ``scores`` has one value by
    subject for each of them, None where the subject was not watched.
    """

    row: list[int]
    at: list[float]
    scores: dict[str, list[float | None]]


class PredictionReader:
    """Reads a prediction log in the order in which it was written.

    It belongs to one thread; errors are sqlite3's.

    Parameters
    ----------
    path
        The prediction log's file, which must be there.
    schema
        The stream.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self._db = connect_to_read(path, "ledger")
        self._stream = schema.stream
        self._fields = fields_of(schema)

    def last(self) -> int:
        """The newest row's number, 0 when there is none."""
        return int(self._db.execute("SELECT coalesce(max(last), 0) FROM block").fetchone()[0])

    def after(self, row: int, limit: int) -> list[tuple[int, Served]]:
        """Predictions in the order in which they were written.

        Parameters
        ----------
        row
            The number of the last one that is not wanted; 0 for all.
        limit
            How many at most.

        Returns
        -------
        list of (int, Served)
            With their numbers.
        """
        query = "SELECT last, record FROM block WHERE last > ? AND stream = ? ORDER BY last"
        rows: list[tuple[int, Served]] = []
        for last, record in self._db.execute(query, (row, self._stream)):
            block = unpack(record, self._fields)
            numbers = range(last - len(block) + 1, last + 1)
            rows += [(n, served) for n, served in zip(numbers, block, strict=True) if n > row]
            if len(rows) >= limit:
                break
        return rows[:limit]

    def newest(self, limit: int) -> list[tuple[int, Served]]:
        """The newest rows, oldest first."""
        return self.after(self.last() - limit, limit)

    def close(self) -> None:
        """Close the database."""
        self._db.close()


class DriftScoreStore:
    """The drift watcher's part of the metrics store. It belongs to one thread; errors are sqlite3's.

    Parameters
    ----------
    path
        The metrics store's file; made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._db = connect(path, "history", synchronous="NORMAL", expendable=True)

    def outcomes(self, after: int, limit: int) -> list[LabelledOutcome]:
        """Outcomes of served predictions, in order.

        Parameters
        ----------
        after
            The ``seq`` of the last label that is not wanted.
        limit
            How many at most.

        Returns
        -------
        list of LabelledOutcome
            With ``seq > after``.
        """
        query = (
            "SELECT seq, abs(truth - prediction), (upper - lower) / 2, received_at - delay_seconds, key, slot"
            " FROM scored WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        rows = self._db.execute(query, (after, limit))
        return [
            LabelledOutcome(seq, error, half, at, (key, slot)) for seq, error, half, at, key, slot in rows
        ]

    def add(self, moments: Sequence[tuple[int, float, dict[str, float]]]) -> None:
        """Add scores by subject: each with the prediction's number, and when it was served (unix seconds)."""
        rows = [(row, at, msgspec.json.encode(scores).decode()) for row, at, scores in moments]
        with transaction(self._db):
            # OR REPLACE: after a start the watcher reads rows again
            self._db.executemany("INSERT OR REPLACE INTO input_drift VALUES (?, ?, ?)", rows)
            self._db.execute(
                "DELETE FROM input_drift WHERE row <= (SELECT row FROM input_drift ORDER BY row DESC"
                " LIMIT 1 OFFSET ?)",
                (MAX_MOMENTS,),
            )

    def scores(self, points: int) -> DriftScores:
        """The newest scores by subject, at most ``points`` moments."""
        query = "SELECT row, at, scores FROM input_drift ORDER BY row DESC LIMIT ?"
        rows = self._db.execute(query, (points,)).fetchall()[::-1]
        moments = [SCORES_DECODER.decode(scores) for _, _, scores in rows]
        names = dict.fromkeys(name for moment in moments for name in moment)
        columns = {name: [moment.get(name) for moment in moments] for name in names}
        return DriftScores([row for row, _, _ in rows], [at for _, at, _ in rows], columns)

    def close(self) -> None:
        """Close the database."""
        self._db.close()
