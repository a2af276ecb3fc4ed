"""The prediction log: every prediction as it was served, by id, so that its label can join it.

It is one SQLite file, ``ledger.db``. :meth:`PredictionLog.record` only queues; a thread commits what is
queued every ``flush_seconds``, behind the replies. The queue is bounded: what does not fit is counted as
lost, and its label still learns from its own features. The oldest predictions are deleted when there are
more than ``rows``.

Predictions are written in blocks of a few, in statements of many rows, each of which runs outside the
interpreter's lock: a server that answers many thousand predictions a second has no time to write them one by
one. A block's ``record`` is the MessagePack of a list of
:class:`~online.storage.served_predictions.ServedColumns`. Predictions are numbered; a block's ``last`` is the
number of its last one.

A prediction's ``fingerprint`` is what :func:`~online.storage.served_predictions.fingerprints` makes of the
encoded features. The table ``mark`` is its index. It is brought up to date when a label without an id is
looked up, for many predictions at once: to do so with every commit would take most of the commit's time.
"""

from __future__ import annotations

import collections
import itertools
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from online.core.background import start_background_thread
from online.core.config import Config, LedgerConfig
from online.core.home import Home
from online.core.schema import Schema
from online.features.value_encoder import Encoder
from online.storage.database import as_json, connect, insert
from online.storage.served_predictions import (
    SAME_FEATURES,
    Batch,
    Candidate,
    Prepared,
    Served,
    ServedColumns,
    fingerprints,
    identifier,
)
from online.storage.transactions import transaction

__all__ = ["PredictionLog", "Served", "identifier"]

log = logging.getLogger(__name__)

BLOCK_DECODER = msgspec.msgpack.Decoder(list[ServedColumns])
encode = msgspec.msgpack.Encoder().encode

INSERT_BLOCKS = "INSERT INTO block (last, stream, served_at, record)"
# OR REPLACE: an id that a client gives again is the newest prediction
INSERT_PREDICTIONS = "INSERT OR REPLACE INTO prediction (row, id, fingerprint, block)"
# Looks at the 100 oldest blocks only: it runs with every commit, and the next commit goes on.
SELECT_LAST_EXPIRED = (
    "SELECT coalesce(max(last), 0) FROM (SELECT last, served_at FROM block ORDER BY last LIMIT 100)"
    " WHERE served_at < (SELECT served_at FROM block ORDER BY last DESC LIMIT 1) - ?"
)
SELECT_BY_ID = "SELECT row, block FROM prediction WHERE id IN (SELECT value FROM json_each(?))"
SELECT_BY_FINGERPRINT = (
    "SELECT wanted.key, prediction.id, prediction.row, block FROM json_each(?) AS wanted JOIN prediction ON"
    " prediction.row IN (SELECT mark.row FROM mark JOIN prediction USING (row) WHERE mark.fingerprint ="
    f" wanted.value ORDER BY mark.row DESC LIMIT {SAME_FEATURES}) JOIN block ON block.last = block"
    " AND block.stream = ? ORDER BY prediction.row"
)
SELECT_NEWEST = "SELECT (SELECT max(row) FROM prediction), last FROM marked"
SELECT_OLDEST = "SELECT (SELECT min(row) FROM prediction), first FROM marked"
# in the order of the index, so that its pages are written one after the other
INSERT_MARKS = (
    "INSERT INTO mark SELECT fingerprint, row FROM prediction WHERE row > ? ORDER BY fingerprint, row"
)
SELECT_BLOCKS = "SELECT last, record FROM block WHERE stream = ? AND last IN (SELECT value FROM json_each(?))"
PREDICTIONS_PER_BLOCK = 16  # at most: a label reads all of its prediction's
COMMIT_ROWS = 5000  # written by one transaction at most, give or take a batch


class PredictionLog:
    """The prediction log of one stream. Every method may be called from any thread.

    Parameters
    ----------
    path
        The database file; made when missing.
    schema
        The stream.
    settings
        How many predictions are kept and for how long, how many may be queued, how often they are written.
    expendable
        Whether a damaged file is set aside and begun anew.

    Raises
    ------
    FormatError
        A later Millrace has written the file.
    sqlite3.Error
        It cannot be opened.
    """

    def __init__(
        self, path: Path, schema: Schema, settings: LedgerConfig, *, expendable: bool = True
    ) -> None:
        # NORMAL: a power cut may take the last predictions, whose labels then learn from their own features
        self._db = connect(path, "ledger", synchronous="NORMAL", expendable=expendable)
        self._stream = schema.stream
        self._fields = fields_of(schema)
        self._encoder = Encoder.of(schema)
        self._rows = settings.rows
        self._days = settings.days
        self._waiting: collections.deque[Batch] = collections.deque()
        self._limit = self._room = settings.max_queued
        self._queued = 0  # batches ever queued
        self._counting = threading.Lock()  # of the queue and what is counted of it; held for moments
        self.flush_seconds = settings.flush_seconds
        self.lost = 0
        self._lock = threading.Lock()  # of the database; held while it is read or written
        self._stop = threading.Event()
        self._writer = start_background_thread(self._write, "ledger")

    @classmethod
    def of(cls, home: Home, config: Config, *, expendable: bool = True) -> PredictionLog:
        """The prediction log of a home.

        Parameters
        ----------
        home
            The home.
        config
            Its settings.
        expendable
            As of the class.

        Returns
        -------
        PredictionLog
            Open.
        """
        return cls(home.ledger, config.schema, config.ledger, expendable=expendable)

    @property
    def waiting(self) -> int:
        """How many predictions are queued."""
        return self._limit - self._room

    def record(self, batch: Batch | list[Served]) -> None:
        """Queue predictions; never waits."""
        one = Prepared(batch, self._encoder) if isinstance(batch, list) else batch
        with self._counting:
            if len(one) > self._room:
                self.lost += len(one) - self._room
                one = one.slice_rows(0, self._room)
            self._room -= len(one)
            if len(one):
                self._waiting.append(one)
                self._queued += 1

    def unwritten_since(self, number: int) -> tuple[int, list[Batch]]:
        """The batches that are queued and not written yet; batches are numbered from 0 on.

        Parameters
        ----------
        number
            The first batch wanted.

        Returns
        -------
        tuple
            The number of the oldest batch that is queued, and those queued from ``number`` on, in order.
        """
        with self._counting:
            oldest = self._queued - len(self._waiting)
            count = self._queued - max(oldest, number)
            newest = list(itertools.islice(reversed(self._waiting), count))
        return oldest, newest[::-1]

    def flush(self) -> None:
        """Commit what is queued; on failure it stays queued. Raises sqlite3.Error."""
        with self._lock:
            queued = list(self._waiting)
            while queued:
                batches = next_batches(queued)
                self._commit(batches)
                del queued[: len(batches)]

    def find(self, names: Iterable[str]) -> dict[str, Served]:
        """Predictions by id, those that are known. Raises sqlite3.Error."""
        with self._lock:
            positions = self._db.execute(SELECT_BY_ID, (as_json(list(names)),)).fetchall()
            predictions = self._read(positions)
        return {served.id: served for served in predictions.values()}

    def find_by_fingerprint(self, marks: Sequence[int]) -> list[tuple[Candidate, ...]]:
        """For each row's fingerprint, the last predictions made from just its features, oldest first.

        Their content is read when it is asked for: a label belongs to one of them. Raises sqlite3.Error.
        """
        if not marks:
            return []
        wanted = as_json(marks)
        with self._lock:
            self._index_fingerprints()
            rows = self._db.execute(SELECT_BY_FINGERPRINT, (wanted, self._stream)).fetchall()
        candidates: list[list[Candidate]] = [[] for _ in marks]
        blocks: dict[int, list[Served]] = {}
        for row_index, name, row, block in rows:
            candidates[row_index].append(LoggedPrediction(name, row, block, blocks, self._block))
        return [tuple(of_row) for of_row in candidates]

    def _block(self, last: int) -> list[Served]:
        """The predictions of a block, none when it is gone."""
        with self._lock:
            return self._blocks({last}).get(last, [])

    def close(self) -> None:
        """Write what is queued and close."""
        self._stop.set()
        self._writer.join()
        with self._lock:
            self._db.close()

    def _read(self, positions: Sequence[tuple[int, int]]) -> dict[int, Served]:
        """Predictions of this stream by number, from their numbers and their blocks'."""
        if not positions:
            return {}
        blocks = self._blocks({block for _, block in positions})
        # a block's last prediction has the block's number, so the index from its end is negative
        return {row: blocks[block][row - block - 1] for row, block in positions if block in blocks}

    def _blocks(self, lasts: set[int]) -> dict[int, list[Served]]:
        """The predictions of this stream's blocks, those that are still there."""
        records = self._db.execute(SELECT_BLOCKS, (self._stream, as_json(lasts)))
        return {last: unpack(record, self._fields) for last, record in records}

    def _index_fingerprints(self) -> None:
        """Index what was written since the last time; now and then leave out what was deleted."""
        newest, last = self._db.execute(SELECT_NEWEST).fetchone()
        if newest is None or newest == last:
            return
        with transaction(self._db):
            # read again: another process may have been quicker
            newest, last = self._db.execute(SELECT_NEWEST).fetchone()
            oldest, first = self._db.execute(SELECT_OLDEST).fetchone()
            self._db.execute(INSERT_MARKS, (last,))
            if oldest - first > self._rows // 4:
                self._db.execute("DELETE FROM mark WHERE row < ?", (oldest,))
                first = oldest
            self._db.execute("UPDATE marked SET first = ?, last = ?", (first, newest))

    def _commit(self, batches: list[Batch]) -> None:
        """Write batches in one transaction and take them off the queue."""
        merged = joined(batches)
        written = as_blocks(merged, self._fields)
        marks = fingerprints(np.concatenate([np.asarray(batch.values, float) for batch in merged]))
        with transaction(self._db):
            (first,) = self._db.execute("SELECT coalesce(max(last), 0) FROM block").fetchone()
            ends = first + np.cumsum([len(block.ids) for block in written])
            blocks = [
                (last, self._stream, block.served_at, block.record)
                for last, block in zip(ends.tolist(), written, strict=True)
            ]
            insert(self._db, INSERT_BLOCKS, blocks)
            names = [name for block in written for name in block.ids]
            block_of_row = np.repeat(ends, [len(block.ids) for block in written]).tolist()
            numbers = itertools.count(first + 1)
            rows = zip(numbers, names, marks.tolist(), block_of_row, strict=False)  # numbers have no end
            insert(self._db, INSERT_PREDICTIONS, list(rows))
            self._delete_old(first + len(names))
        with self._counting:
            for _ in batches:
                self._waiting.popleft()
            self._room += len(names)

    def _delete_old(self, last: int) -> None:
        """Delete what is too old or too much, ``last`` being the newest prediction's number."""
        bound = last - self._rows
        if self._days:
            bound = max(bound, *self._db.execute(SELECT_LAST_EXPIRED, (86_400.0 * self._days,)).fetchone())
        self._db.execute("DELETE FROM prediction WHERE row <= ?", (bound,))
        self._db.execute("DELETE FROM block WHERE last <= ?", (bound,))

    def _write(self) -> None:
        """The writer thread: flush until closed, once more at the end."""
        while True:
            stopped = self._stop.wait(self.flush_seconds)
            try:
                self.flush()
            except sqlite3.Error as exc:
                log.warning(
                    "the prediction log could not be written, %d predictions wait: %s", self.waiting, exc
                )
            if stopped:
                return


class LoggedPrediction(NamedTuple):
    """A prediction that is read when it is asked for.

    ``row`` is its number, ``block`` its block's. ``blocks`` keeps what was read for the other candidates.
    """

    id: str
    row: int
    block: int
    blocks: dict[int, list[Served]]
    read_block: Callable[[int], list[Served]]

    def read(self) -> Served | None:
        """All of it; None when it is gone by now. Raises sqlite3.Error."""
        if self.block not in self.blocks:
            self.blocks[self.block] = self.read_block(self.block)
        predictions = self.blocks[self.block]
        return predictions[self.row - self.block - 1] if predictions else None


def next_batches(waiting: Iterable[Batch]) -> list[Batch]:
    """The first batches, as many as one transaction writes."""
    taken, rows = [], 0
    for batch in waiting:
        taken.append(batch)
        rows += len(batch)
        if rows >= COMMIT_ROWS:
            break
    return taken


class PredictionBlock(NamedTuple):
    """Predictions that are written together."""

    served_at: float
    ids: list[str]
    record: bytes


def joined(batches: Iterable[Batch]) -> list[Batch]:
    """The same predictions in fewer batches."""
    merged: list[Batch] = []
    for key, group in itertools.groupby(batches, lambda batch: batch.join_key):
        run = list(group)
        merged += run if key is None else [run[0].joined(run)]
    return merged


def as_blocks(batches: Iterable[Batch], fields: frozenset[str]) -> list[PredictionBlock]:
    """Predictions in blocks, in order; of their rows ``fields`` are needed, other fields may be left out."""
    blocks: list[PredictionBlock] = []
    parts: list[ServedColumns] = []
    room = PREDICTIONS_PER_BLOCK
    for piece in pieces(batches):
        size = len(piece)
        if size > room:
            blocks.append(packed(parts, fields))
            parts, room = [], PREDICTIONS_PER_BLOCK
        parts += piece.columns()
        room -= size
    return [*blocks, packed(parts, fields)] if parts else blocks


def pieces(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same predictions, in batches that fit into a block."""
    for batch in batches:
        if len(batch) <= PREDICTIONS_PER_BLOCK:
            yield batch
        else:
            yield from (
                batch.slice_rows(first, first + PREDICTIONS_PER_BLOCK)
                for first in range(0, len(batch), PREDICTIONS_PER_BLOCK)
            )


def packed(parts: list[ServedColumns], fields: frozenset[str]) -> PredictionBlock:
    """One block from the columns of its predictions."""
    names = [name for part in parts for name in part.ids]
    try:
        record = encode(parts)
    except OverflowError:  # an integer that MessagePack does not have
        record = encode([part.cleaned(fields) for part in parts])
    return PredictionBlock(parts[-1].moments()[-1], names, record)


def unpack(record: bytes, fields: frozenset[str]) -> list[Served]:
    """The predictions of a block's record, with these fields of their rows."""
    return [served for part in BLOCK_DECODER.decode(record) for served in part.served(fields)]


def fields_of(schema: Schema) -> frozenset[str]:
    """The fields of a row that the prediction log keeps."""
    return frozenset(feature.name for feature in schema.features)
