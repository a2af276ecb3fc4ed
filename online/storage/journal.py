"""The journal: every accepted label, in order, durable before it is answered.

One SQLite table in WAL mode, ``synchronous=FULL``. Any number of processes append, one learner reads.
A record's ``seq`` follows the order of commits without gaps. ``record`` holds it in one piece, as
:mod:`online.storage.records` says, ``payload`` in it being an object (kind rollback: ``{"version": N}``).
``(stream, id)`` is unique among labels and releases; a correction repeats the id. Quarantined labels are in
the table ``quarantine``; ``judged`` is how many labels had been judged by then. ``watch`` holds the state of
label validation. Of records up to ``cut.upto`` retention has left only id, kind, time and target: enough to
know a label again, not to learn it.

A :class:`Journal` belongs to one thread at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from online.core.errors import InputError, JournalError
from online.core.schema import LARGEST
from online.storage.database import as_json, connect, insert, read_only
from online.storage.label_validation import RECENT_LABELS, Fault, LabelValidator, ValidationState
from online.storage.prediction_log import Served
from online.storage.records import (
    LABELS,
    READ,
    WRITTEN,
    Quarantined,
    Receipt,
    Record,
    Submission,
    corrected,
    from_json,
    from_row,
    label_record,
    to_json,
    to_row,
    verified,
)
from online.storage.transactions import transaction

__all__ = ["Journal"]

log = logging.getLogger(__name__)

STATE_DECODER = msgspec.json.Decoder(ValidationState)
HAS_ONE_OF_IDS = "stream = ?1 AND id IN (SELECT value FROM json_each(?2))"
# each has its partial index, which SQLite takes only for a query that repeats its condition
IS_FIRST_LABEL, IS_OTHER = "kind IN ('label', 'release')", "kind NOT IN ('label', 'release')"
# The labels as a table, whichever way their records are kept: what an expression of a user's may name.
LABEL_TABLE = f"""
SELECT seq, stream, id, received_at, kind, target, plan_seq, checksum,
    coalesce(features, record->'features') AS features, coalesce(context, record->'context') AS context,
    coalesce(experts, record->'experts') AS experts,
    coalesce(prediction, record->>'prediction') AS prediction,
    coalesce(lower, record->>'lower') AS lower, coalesce(upper, record->>'upper') AS upper,
    coalesce(served_at, record->>'served_at') AS served_at, coalesce(payload, record->'payload') AS payload
FROM journal WHERE stream = ? AND kind IN {LABELS!r}
"""
MAX_SQLITE_INTEGER = 2**63 - 1


class Journal:
    """The journal of one stream.

    Parameters
    ----------
    path
        The database file; made when missing.
    stream
        The stream's name.
    validator
        Judges labels as they are appended; without it all are accepted but those that come with a suspicion.

    Raises
    ------
    JournalError
        From every method, when the database fails; nothing of the failed call was kept.
    """

    def __init__(self, path: Path, stream: str, validator: LabelValidator | None = None) -> None:
        self._path = path
        self._stream = stream
        self._validator = validator
        self._known: dict[str, Record | None] = {}  # the newest records of ids, in a transaction
        self._queued: list[Record] = []  # records to be inserted at its end
        self._prefix = secrets.token_hex(12)
        self._count = itertools.count(1)
        try:
            self._db = connect(path, "journal")
        except sqlite3.Error as exc:
            raise JournalError(f"{path} cannot be opened: {exc}") from exc

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def append(self, submissions: Sequence[Submission]) -> list[Receipt]:
        """Commit submissions in one transaction, durable on return; a receipt for each.

        When so many labels break a learned rule that the world has changed, those that were quarantined for
        it are released afterwards, each in a transaction of its own: one that fails refuses no other.
        """
        with self._transaction():
            self._load_validation_state()
            self._look_up(submissions)
            receipts = [self._take(submission) for submission in submissions]
            self._save_validation_state()
        if submissions and self._validator is not None and self._validator.world_has_changed:
            self._release_recent(self._validator.state.judged - RECENT_LABELS, submissions[-1].received_at)
        return receipts

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """One transaction, at whose end what was queued is inserted."""
        try:
            with transaction(self._db, self._failed):
                yield
                self._write()
        finally:
            self._known.clear()
            self._queued.clear()

    def _write(self) -> None:
        """Insert what was queued."""
        insert(self._db, f"INSERT INTO journal ({WRITTEN})", [to_row(record) for record in self._queued])

    def _look_up(self, submissions: Sequence[Submission]) -> None:
        """Find what is known of all ids that submissions may go by, at once."""
        names = [submission.id for submission in submissions if submission.id is not None]
        names += [served.id for submission in submissions for served in submission.candidates]
        if not names:
            return
        self._known.update(dict.fromkeys(names))
        self._known.update({row[2]: from_row(row) for row in self._named(names)})

    def _named(self, names: Sequence[str]) -> list[Any]:
        """The records with some ids, in order."""
        query = f"SELECT {READ} FROM journal WHERE {HAS_ONE_OF_IDS} AND "
        wanted = (self._stream, as_json(names))
        return self._rows(f"{query}{IS_FIRST_LABEL} UNION ALL {query}{IS_OTHER} ORDER BY seq", wanted)

    def _load_validation_state(self) -> None:
        """Load label validation's state as the last transaction left it, whichever process that was."""
        if self._validator is not None:
            rows = self._rows("SELECT state FROM watch WHERE stream = ?", (self._stream,))
            self._validator.state = STATE_DECODER.decode(rows[0][0]) if rows else ValidationState()

    def _save_validation_state(self) -> None:
        if self._validator is not None:
            state = msgspec.json.encode(self._validator.state).decode()
            self._db.execute("INSERT OR REPLACE INTO watch VALUES (?, ?)", (self._stream, state))

    def _release_recent(self, judged: int, received_at: float) -> None:
        """Release the labels that were quarantined since so many had been judged.

        Whatever fails is logged: the labels that were appended before are durable, and are to be answered so.
        """
        try:
            rows = self._rows(
                "SELECT seq FROM quarantine WHERE stream = ? AND judged > ?"
                " AND released_as IS NULL AND discarded IS NULL ORDER BY seq",
                (self._stream, judged),
            )
            for (seq,) in rows:
                self._release_or_leave(seq, received_at)
        except JournalError as exc:
            log.warning("quarantined labels are not released for now, the next labels try again: %s", exc)

    def _release_or_leave(self, seq: int, received_at: float) -> None:
        """Release a quarantined label; one that cannot be released is left to people from now on."""
        try:
            self.release(seq, received_at)
        except InputError as exc:
            log.warning("a quarantined label cannot be released: %s", exc)
            with transaction(self._db, self._failed):
                self._db.execute("UPDATE quarantine SET judged = NULL WHERE seq = ?", (seq,))

    def append_command(
        self,
        kind: Literal["rollback", "replay", "refresh", "snapshot"],
        received_at: float,
        name: str | None = None,
        **payload: Any,
    ) -> int:
        """Append a command, or a new batch model.

        Parameters
        ----------
        kind
            What is to be done; ``refresh`` brings a new batch model.
        received_at
            Unix seconds.
        name
            The command's id; a command whose id is there already is not appended again.
        payload
            What the command needs, for instance ``version=3`` of a rollback.

        Returns
        -------
        int
            Its seq.
        """
        with self._transaction():
            known = self.find(name) if name is not None else None
            if known is not None:
                return known.seq
            name = name or f"{kind}-{uuid.uuid4()}"
            return self._insert(Record(0, self._stream, name, received_at, kind, payload=payload))

    def read(self, after: int, limit: int = 500) -> list[Record]:
        """Read records in order.

        Parameters
        ----------
        after
            The seq of the last record that is not wanted.
        limit
            How many at most.

        Returns
        -------
        list of Record
            Those with ``seq > after``.

        Raises
        ------
        JournalError
            A record is missing, damaged or cut: learning must not skip over it.
        """
        if after < (behind := self.cut_up_to()):
            raise JournalError(
                f"{self._path}: records up to {behind} were cut by retention; only a snapshot at seq {behind}"
                " or later can be replayed from"
            )
        rows = self._rows(f"SELECT {READ} FROM journal WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
        return [self._verified(row, seq) for seq, row in enumerate(rows, start=after + 1)]

    def first_seq(self) -> int:
        """The seq of the oldest record that is not cut, 1 when there is none."""
        oldest = int(self._rows("SELECT coalesce(min(seq), 1) FROM journal", ())[0][0])
        return max(oldest, self.cut_up_to() + 1)

    def _verified(self, row: Any, seq: int) -> Record:
        """The record of a row that is to be the next one."""
        record = verified(row) if row[0] == seq else None
        if record is None:
            fault = "damaged: its checksum is not the one written with it" if row[0] == seq else "missing"
            raise JournalError(f"{self._path}: record {seq} is {fault}; restore the file from a backup")
        return record

    def cut_up_to(self) -> int:
        """The last record that is cut, 0 when none is."""
        rows = self._rows("SELECT upto FROM cut WHERE stream = ?", (self._stream,))
        return int(rows[0][0]) if rows else 0

    def cut(self, upto: int, before: float, limit: int) -> int:
        """Cut the oldest records that are not cut yet.

        Parameters
        ----------
        upto
            The seq of the last record that may be cut.
        before
            Only records received before this moment (unix seconds) are cut.
        limit
            How many at most.

        Returns
        -------
        int
            How many were cut.
        """
        with transaction(self._db, self._failed):
            behind = self.cut_up_to()
            rows = self._rows(
                "SELECT seq, received_at FROM journal WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                (behind, upto, limit),
            )
            old = [seq for seq, _ in itertools.takewhile(lambda row: row[1] < before, rows)]
            if old:
                # id, kind, time and target stay: a repeated label is still known as a duplicate
                self._db.execute(
                    "UPDATE journal SET features = NULL, context = NULL, experts = NULL, prediction = NULL,"
                    " lower = NULL, upper = NULL, served_at = NULL, payload = NULL, checksum = NULL,"
                    " record = NULL"
                    " WHERE seq > ? AND seq <= ?",
                    (behind, old[-1]),
                )
                self._db.execute("INSERT OR REPLACE INTO cut VALUES (?, ?)", (self._stream, old[-1]))
            return len(old)

    def versions_needed(self, after: int) -> set[int]:
        """The snapshots that records after a seq name."""
        rows = self._rows(
            "SELECT coalesce(payload->>'version', record->'payload'->>'version') FROM journal"
            f" WHERE seq > ? AND kind NOT IN {LABELS!r}",
            (after,),
        )
        return {version for (version,) in rows if isinstance(version, int)}

    def labels_by_plan(self, after: int, until: int) -> list[tuple[int, int]]:
        """The labels of served predictions, in the order in which plans served these.

        Parameters
        ----------
        after
            The prediction's plan is to have this seq or a later one, the label a later one.
        until
            The seq of the last label.

        Returns
        -------
        list of (int, int)
            The plan's seq and the label's.
        """
        return self._rows(
            "SELECT coalesce(plan_seq, 0), seq FROM journal WHERE seq > ? AND seq <= ? AND kind IN"
            " ('label', 'release') AND (prediction IS NOT NULL OR record->'prediction' IS NOT NULL)"
            " AND coalesce(plan_seq, 0) >= ? ORDER BY 1, 2",
            (after, until, after),
        )

    def labels_where(self, expression: str) -> set[int]:
        """The seqs of the labels for which an SQL expression holds. Raises InputError when it is none."""
        try:  # on a connection that cannot write, whatever the expression is
            with contextlib.closing(read_only(self._path)) as db:
                query = f"SELECT seq FROM ({LABEL_TABLE}) WHERE ({expression})"
                rows = db.execute(query, (self._stream,)).fetchall()
        except (sqlite3.Error, sqlite3.Warning) as exc:
            raise InputError(f"{expression!r} cannot be asked of the journal: {exc}", "where") from exc
        return {seq for (seq,) in rows}

    def last_seq(self) -> int:
        """The newest record's seq, 0 when there is none."""
        return int(self._rows("SELECT coalesce(max(seq), 0) FROM journal", ())[0][0])

    def find(self, name: str) -> Record | None:
        """The newest label, correction or release with an id."""
        if name in self._known:
            return self._known[name]
        rows = self._named([name])
        return from_row(rows[-1]) if rows else None

    def labelled_ids(self, names: Sequence[str]) -> set[str]:
        """Those of some ids that have a label, learned or quarantined."""
        wanted = as_json(names)
        learned = f"SELECT id FROM journal WHERE {HAS_ONE_OF_IDS} AND {IS_FIRST_LABEL}"
        rows = self._rows(
            f"{learned} UNION SELECT id FROM quarantine WHERE {HAS_ONE_OF_IDS}", (self._stream, wanted)
        )
        return {name for (name,) in rows}

    def quarantine(self, limit: int = 1000) -> list[Quarantined]:
        """Quarantined labels, newest first."""
        rows = self._rows(
            "SELECT seq, reason, record, released_as, discarded FROM quarantine WHERE stream = ?"
            " ORDER BY seq DESC LIMIT ?",
            (self._stream, limit),
        )
        return [
            Quarantined(seq, reason, from_json(kept), to, bool(discarded))
            for seq, reason, kept, to, discarded in rows
        ]

    def discard(self, seq: int) -> None:
        """Close a quarantined label for good.

        To discard it again is no error. Raises InputError when there is no such label or it was released.
        """
        with transaction(self._db, self._failed):
            _, released_as, _ = self._quarantine_row(seq)
            if released_as is not None:
                raise InputError(f"quarantined label {seq} was released already", field="seq")
            self._db.execute("UPDATE quarantine SET discarded = 1 WHERE seq = ?", (seq,))

    def _quarantine_row(self, seq: int) -> tuple[str, int | None, int | None]:
        rows = self._rows(
            "SELECT record, released_as, discarded FROM quarantine WHERE seq = ? AND stream = ?",
            (max(0, min(seq, MAX_SQLITE_INTEGER)), self._stream),
        )
        if not rows:
            raise InputError(f"there is no quarantined label {seq}; GET /quarantine lists them", field="seq")
        row: tuple[str, int | None, int | None] = rows[0]
        return row

    def release(self, seq: int, received_at: float) -> int:
        """Accept a quarantined label after all.

        Parameters
        ----------
        seq
            Its number in quarantine.
        received_at
            Unix seconds.

        Returns
        -------
        int
            The seq of its journal record; of the first one when it was released before.

        Raises
        ------
        InputError
            There is no such quarantined label, it was discarded, has no features, or is too large to learn.
        """
        with self._transaction():
            kept, released_as, discarded = self._quarantine_row(seq)
            if released_as is not None:
                return int(released_as)
            if discarded:
                raise InputError(f"quarantined label {seq} was discarded", field="seq")
            return self._release(seq, from_json(kept), received_at)

    def _release(self, seq: int, kept: Record, received_at: float) -> int:
        known = self.find(kept.id)
        if kept.target is None or abs(kept.target) > LARGEST:
            raise InputError(f"quarantined label {seq}, {kept.target:g}, is too large to learn", field="seq")
        if known is not None and known.cut:
            raise InputError(f"quarantined label {seq} corrects one that is too old, and was cut", "seq")
        if known is not None:
            released = self._insert(corrected(known, kept.target, received_at))
        elif kept.prediction is None and not kept.features:
            raise InputError(f"quarantined label {seq} has no features to learn from", field="seq")
        else:
            kept = msgspec.structs.replace(kept, kind="release", received_at=received_at)
            released = self._insert(kept)
        self._db.execute("UPDATE quarantine SET released_as = ? WHERE seq = ?", (released, seq))
        return released

    def _take(self, submission: Submission) -> Receipt:
        name, served, known = self._place(submission)
        if known is not None and known.target == submission.target:
            return Receipt("duplicate", known.seq)
        if submission.suspicion is not None:
            return self._quarantine_label(submission, name, served, submission.suspicion)
        if (served or known or submission.features) and (fault := self._fault(submission, served, known)):
            return self._quarantine_label(submission, name, served, fault.reason, learned=fault.learned)
        if known is not None and known.cut:
            reason = f"its label {known.target:g} is too old to be corrected: all else of it was cut"
            return self._quarantine_label(submission, name, None, reason)
        if known is not None:
            fixed = corrected(known, submission.target, submission.received_at)
            return Receipt("correction", self._insert(fixed))
        if served is None and submission.features is None:
            return self._quarantine_label(submission, name, None, f"no prediction with id {name!r} is known")
        return Receipt("accepted", self._insert(label_record(self._stream, name, submission, served)))

    def _fault(self, submission: Submission, served: Served | None, known: Record | None) -> Fault | None:
        """Why a label is to be quarantined; label validation learns from it if it is not."""
        if self._validator is None:
            return None
        row = known or served
        features = row.features if row is not None else submission.features or {}
        expected = row.prediction if row is not None else None
        times = 0 if known is None else self._corrections(known.id)
        return self._validator.check_rate(submission.source, submission.received_at) or self._validator.judge(
            features, submission.target, submission.expected if expected is None else expected, times
        )

    def _corrections(self, name: str) -> int:
        query = f"SELECT count(*) FROM journal WHERE {HAS_ONE_OF_IDS} AND {IS_OTHER} AND kind = 'correction'"
        queued = sum(1 for record in self._queued if record.id == name and record.kind == "correction")
        return int(self._rows(query, (self._stream, as_json([name])))[0][0]) + queued

    def _place(self, submission: Submission) -> tuple[str, Served | None, Record | None]:
        """The id a label goes by, the prediction it belongs to, and what is known of it already.

        A label without an id takes the oldest prediction with its features that has none yet; where all have
        one, it repeats the one of the same value, else it is an observation of its own.
        """
        if submission.id is not None:
            served = submission.candidates[0].read() if submission.candidates else None
            return submission.id, served, self.find(submission.id)
        if not submission.candidates:
            return self._new_name(), None, None
        labelled = [(candidate, self.find(candidate.id)) for candidate in submission.candidates]
        for candidate, known in labelled:
            if known is None and (served := candidate.read()) is not None:
                return served.id, served, None
        for candidate, known in labelled:
            if known is not None and known.target == submission.target:
                return candidate.id, None, known
        return self._new_name(), None, None

    def _new_name(self) -> str:
        """An id for a label without one. They come in order: the index has few places to write to."""
        return f"{self._prefix}-{next(self._count):08x}"

    def _quarantine_label(
        self, submission: Submission, name: str, served: Served | None, reason: str, *, learned: bool = False
    ) -> Receipt:
        key = (self._stream, name, submission.target)
        again = self._rows("SELECT seq FROM quarantine WHERE stream = ? AND id = ? AND target = ?", key)
        if again:
            return Receipt("duplicate", int(again[0][0]))
        kept = to_json(label_record(self._stream, name, submission, served))
        cursor = self._db.execute(
            "INSERT INTO quarantine (stream, id, target, received_at, reason, record, judged)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *key,
                submission.received_at,
                reason,
                kept,
                self._validator.state.judged if self._validator and learned else None,
            ),
        )
        return Receipt("quarantined", int(cursor.lastrowid or 0), reason)

    def _insert(self, new: Record) -> int:
        """Queue a record for the transaction's end; its seq."""
        if self._queued:
            seq = self._queued[-1].seq + 1
        else:
            # not max(seq): a last record that is deleted is to be missed, its seq not given again
            newest = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").fetchone()
            seq = newest[0] + 1 if newest else 1
        new = msgspec.structs.replace(new, seq=seq)
        self._queued.append(new)
        self._known[new.id] = new
        return int(seq)

    def _rows(self, query: str, parameters: tuple[Any, ...]) -> list[Any]:
        try:
            return self._db.execute(query, parameters).fetchall()
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    def _failed(self, error: sqlite3.Error) -> JournalError:
        return JournalError(f"{self._path}: {error}")
