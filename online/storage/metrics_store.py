"""What learning measured, for people: outcomes of served predictions, alarms, and the processes' status.

The learner writes and any process reads. All of it follows from the journal: after a crash the learner writes
the same rows again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from online.storage import timeline
from online.storage.database import connect
from online.storage.timeline import BIN_LABELS, ErrorBreakdown, OutcomeSeries, WeightSeries
from online.storage.transactions import transaction

__all__ = ["Alarm", "MetricsStore", "Outcome", "format_quantity"]

# Beside each prediction the naive forecast: the newest label of the same key and slot that was known when
# the prediction was served. The parameters are an outcome's fields, in order. OR REPLACE, here and below:
# what was written before a crash is written again.
ADD_OUTCOME = """
INSERT OR REPLACE INTO scored SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,
    (SELECT truth FROM scored WHERE key = ?10 AND slot = ?11 AND seq <= ?9 ORDER BY seq DESC LIMIT 1)
"""
# whole bins are computed anew, from the one that the first new outcome falls into
FILL_BINS = """
INSERT OR REPLACE INTO bin SELECT seq / :bin, max(seq), count(*), avg(received_at), avg(truth),
    avg(prediction), avg(lower), avg(upper), avg(abs(truth - prediction)), avg(abs(truth - baseline)),
    avg(abs(truth - naive)), avg(truth BETWEEN lower AND upper), avg(delay_seconds)
FROM scored WHERE seq >= :first / :bin * :bin GROUP BY seq / :bin
"""


def format_quantity(value: float) -> str:
    """A number as text: whole from a thousand on, else with four digits."""
    return f"{value:,.0f}" if 1000.0 <= abs(value) < 1e12 else f"{value:.4g}"


class Alarm(msgspec.Struct, frozen=True):
    """One alarm: an event, by however many detectors it was seen.

    ``seq`` is the last label known when it was raised, ``at`` that moment in unix seconds. ``subject`` is
    what changed: ``error``, ``prediction`` or a feature's name, as ``kind`` says; ``operation`` is an alarm
    of the server's own. ``before`` and ``after`` are in the subject's unit. The change began at ``since``
    (unix seconds), with prediction ``since_row`` of the prediction log. ``cost`` is what it has added to the
    absolute error of the ``cost_labels`` labels served since, in target units. ``also`` names other subjects
    the event showed in, ``times`` how often it was seen. A ``muted`` alarm was over the week's budget: it is
    listed, and not sent to the webhook. ``ended_at`` is when the event was over (unix seconds).
    """

    seq: int
    at: float
    detector: str
    subject: str
    before: float
    after: float
    message: str
    kind: Literal["error", "feature", "prediction", "operation"] = "error"
    since: float | None = None
    since_row: int | None = None
    cost: float | None = None
    cost_labels: int = 0
    also: tuple[str, ...] = ()
    times: int = 1
    muted: bool = False
    ended_at: float | None = None

    @property
    def key(self) -> str:
        """Identifies the event: written again, it replaces what was written of it before."""
        where = f"seq {self.seq}" if self.since_row is None else f"row {self.since_row}"
        return f"{where}/{self.detector}/{self.subject}"


ALARM_DECODER = msgspec.json.Decoder(Alarm)


class Outcome(msgspec.Struct, frozen=True):
    """A served prediction with its label, in target units.

    ``seq`` and ``received_at`` (unix seconds) are the label's; ``truth`` is its value. ``baseline`` is the
    prediction of the frozen first model. The label came ``delay_seconds`` after the prediction.
    ``known_seq`` is the last journal record learned when the prediction was served; ``key`` and ``slot`` are
    the row's (:class:`online.features.segments.Segments`).
    """

    seq: int
    received_at: float
    truth: float
    prediction: float
    lower: float
    upper: float
    baseline: float | None
    delay_seconds: float
    known_seq: int = 0
    key: int = -1
    slot: int = -1


class MetricsStore:
    """The metrics store of one home. It belongs to one thread at a time; errors are sqlite3's.

    Parameters
    ----------
    path
        The database file; made when missing.
    rows
        How many outcomes are kept.

    Raises
    ------
    FormatError
        A later Millrace has written the file.
    """

    def __init__(self, path: Path, rows: int = 200_000) -> None:
        # NORMAL: what a power cut takes is written again from the journal
        self._db = connect(path, "history", synchronous="NORMAL", expendable=True)
        self._rows = rows

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def write(
        self,
        outcomes: Sequence[Outcome],
        alarms: Sequence[Alarm],
        status: dict[str, Any],
        weights: dict[str, float] | None = None,
    ) -> None:
        """Commit what a batch of labels showed.

        Parameters
        ----------
        outcomes
            Served predictions with their labels, in the order of ``seq``.
        alarms
            New alarms, and those of which more is known now.
        status
            By process: what it says of itself.
        weights
            The experts' weights after the last label.
        """
        with transaction(self._db):
            self._db.executemany(
                "INSERT INTO event (key, at, body) VALUES (?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET body = excluded.body",
                [(alarm.key, alarm.at, msgspec.json.encode(alarm).decode()) for alarm in alarms],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO status VALUES (?, ?)",
                [(key, msgspec.json.encode(value).decode()) for key, value in status.items()],
            )
            if outcomes:
                self._add(outcomes, weights)

    def _add(self, outcomes: Sequence[Outcome], weights: dict[str, float] | None) -> None:
        """Add outcomes, oldest first, fill the bins they fall into, and delete what is too old."""
        first, last = outcomes[0].seq, outcomes[-1].seq
        self._db.executemany(ADD_OUTCOME, [msgspec.structs.astuple(outcome) for outcome in outcomes])
        self._db.execute(FILL_BINS, {"bin": BIN_LABELS, "first": first})
        if weights:
            text = msgspec.json.encode(weights).decode()
            self._db.execute(
                "INSERT OR REPLACE INTO weight VALUES (?, ?, ?)", (last // BIN_LABELS, last, text)
            )
        for table in ("scored", "bin", "weight"):
            self._db.execute(f"DELETE FROM {table} WHERE seq <= ?", (last - self._rows,))

    def status(self) -> dict[str, Any]:
        """By process: what it last said of itself."""
        rows = self._db.execute("SELECT key, value FROM status").fetchall()
        return {key: msgspec.json.decode(value) for key, value in rows}

    def alarms(self, limit: int = 100) -> list[Alarm]:
        """Alarms, newest first."""
        rows = self._db.execute("SELECT body FROM event ORDER BY at DESC, rowid DESC LIMIT ?", (limit,))
        return [ALARM_DECODER.decode(body) for (body,) in rows]

    def alarm_counts(self) -> dict[str, Any]:
        """How many alarms of each kind there were, and when the newest was raised (unix seconds)."""
        query = "SELECT json_extract(body, '$.kind'), count(*), max(at) FROM event GROUP BY 1"
        rows = self._db.execute(query).fetchall()
        counts = {kind or "error": count for kind, count, _ in rows}
        return {"by_kind": counts, "last_at": max((at for _, _, at in rows), default=None)}

    def unsent_alarms(self, since: float) -> list[Alarm]:
        """Alarms raised after a moment (unix seconds) that were not sent to the webhook yet, oldest first.

        Muted ones are left out.
        """
        query = "SELECT body FROM event WHERE told = 0 AND at > ? ORDER BY at, rowid"
        alarms = [ALARM_DECODER.decode(body) for (body,) in self._db.execute(query, (since,))]
        return [alarm for alarm in alarms if not alarm.muted]

    def mark_sent(self, alarm: Alarm) -> None:
        """Note that the webhook has accepted an alarm."""
        self._db.execute("UPDATE event SET told = 1 WHERE key = ?", (alarm.key,))

    def outcomes(self, points: int, last: int) -> OutcomeSeries:
        """The last outcomes as columns.

        Parameters
        ----------
        points
            They are averaged into so many bins at most, of about equal count.
        last
            How many outcomes are read.

        Returns
        -------
        OutcomeSeries
            Oldest first.
        """
        return timeline.outcomes(self._db, points, last)

    def weights(self, points: int, last: int) -> WeightSeries:
        """The experts' weights over the last outcomes.

        Parameters
        ----------
        points
            How many moments at most.
        last
            How many journal records back.

        Returns
        -------
        WeightSeries
            Oldest first, the newest included.
        """
        return timeline.weights(self._db, points, last)

    def errors(self, last: int, keys: int, slots: int) -> ErrorBreakdown:
        """The last predictions' errors by key and slot, and how late their labels came.

        Parameters
        ----------
        last
            How many journal records back.
        keys, slots
            How many keys and slots the stream has.

        Returns
        -------
        ErrorBreakdown
            A row for each key, a column for each slot.
        """
        return timeline.errors(self._db, last, keys, slots)

    def naive_mae(self) -> float | None:
        """Rolling error of the naive forecast: the newest label of the same key and slot known in time."""
        return timeline.naive_mae(self._db)
