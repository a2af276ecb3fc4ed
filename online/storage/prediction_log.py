"""The ledger: every prediction as it was served, by id, so that its label can join it.

Written behind the replies: :meth:`PredictionLog.record` only queues, a thread commits every
``flush_seconds``.
The queue is bounded; what does not fit is counted as lost, and a label for it still learns from its own
features. One SQLite file; the oldest predictions go when there are more than ``rows``.

What is queued goes to SQLite a few predictions a block, in statements of many rows, each of which runs
outside the interpreter's lock: a server that answers many thousand predictions a second has no time to write
them one by one. A block's ``record`` is the MessagePack of a list of
:class:`~online.storage.served_predictions.ServedColumns`; predictions are numbered, ``last`` is the number of
its last one.

A prediction's ``fingerprint`` is what :func:`~online.storage.served_predictions.fingerprints` makes of the
encoded features. It is indexed when a label without an id asks for that, for many predictions at once: with
every commit, keeping that index would take most of the time.
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
from online.core.config import Config
from online.core.home import Home
from online.core.schema import Schema
from online.features.encoder import Encoder
from online.storage.database import as_json, connect, insert
from online.storage.served_predictions import (
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

PARTS = msgspec.msgpack.Decoder(list[ServedColumns])
encode = msgspec.msgpack.Encoder().encode

INSERT_BLOCK = "INSERT INTO block (last, stream, served_at, record)"
INSERT = "INSERT OR REPLACE INTO prediction (row, id, fingerprint, block)"
CHECKPOINT_PAGES = 8000  # 32 MB: every few seconds under full load, not at every commit
EXPIRED = (  # of the oldest only
    "SELECT coalesce(max(last), 0) FROM (SELECT last, served_at FROM block ORDER BY last LIMIT 100)"
    " WHERE served_at < (SELECT served_at FROM block ORDER BY last DESC LIMIT 1) - ?"
)
NAMED = "SELECT row, block FROM prediction WHERE id IN (SELECT value FROM json_each(?))"
SAME_FEATURES = 16  # how many predictions of the same features a label without an id may choose from
ALIKE = (
    "SELECT wanted.key, prediction.id, prediction.row, block FROM json_each(?) AS wanted JOIN prediction ON"
    " prediction.row IN (SELECT mark.row FROM mark JOIN prediction USING (row) WHERE mark.fingerprint ="
    f" wanted.value ORDER BY mark.row DESC LIMIT {SAME_FEATURES}) JOIN block ON block.last = block"
    " AND block.stream = ? ORDER BY prediction.row"
)
NEWEST = "SELECT (SELECT max(row) FROM prediction), last FROM marked"
OLDEST = "SELECT (SELECT min(row) FROM prediction), first FROM marked"
MARK = "INSERT INTO mark SELECT fingerprint, row FROM prediction WHERE row > ? ORDER BY fingerprint, row"
BLOCKS = "SELECT last, record FROM block WHERE stream = ? AND last IN (SELECT value FROM json_each(?))"
BLOCK = 16  # predictions of a block at most: a label reads all of its prediction's
STATEMENT_ROWS = 5000  # written by one statement at most, give or take a batch


class PredictionLog:
    """The ledger of one stream. Every method may be called from any thread.

    Parameters
    ----------
    path
        The database file; made when missing.
    schema
        The stream.
    rows
        How many predictions are kept.
    flush_seconds
        How often queued predictions are written.
    waiting
        How many predictions may be queued.
    days
        How long a prediction is kept; 0 as long as there is room.
    expendable
        Whether a damaged file is set aside and begun anew.
    """

    def __init__(
        self, path: Path, schema: Schema, *, rows: int, flush_seconds: float, waiting: int, days: float = 0.0,
        expendable: bool = True,
    ) -> None:  # fmt: skip
        self._db = connect(path, "ledger", synchronous="NORMAL", expendable=expendable)
        self._db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        self._stream = schema.stream
        self._fields = fields_of(schema)
        self._encoder = Encoder.of(schema)
        self._rows = rows
        self._days = days
        self._waiting: collections.deque[Batch] = collections.deque()
        self._limit = self._room = waiting
        self._counting = threading.Lock()
        self.flush_seconds = flush_seconds
        self.lost = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._writer = start_background_thread(self._write, "ledger")

    @classmethod
    def of(cls, home: Home, config: Config, *, expendable: bool = True) -> PredictionLog:
        """The ledger of a home."""
        settings = config.ledger
        return cls(
            home.ledger, config.schema, rows=settings.rows, flush_seconds=settings.flush_seconds,
            waiting=settings.max_queued, days=settings.days, expendable=expendable,
        )  # fmt: skip

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
                one = one.cut(0, self._room)
            self._room -= len(one)
            if len(one):
                self._waiting.append(one)

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
            found = self._read(self._db.execute(NAMED, (as_json(list(names)),)).fetchall())
        return {one.id: one for one in found.values()}

    def find_by_features(self, values: np.ndarray) -> list[tuple[Candidate, ...]]:
        """For each encoded row (n, columns), the last predictions made from just its features, oldest first.

        They are read one by one, if at all: a label belongs to one of them. Raises sqlite3.Error.
        """
        if not len(values):
            return []
        marks = as_json(fingerprints(values).tolist())
        with self._lock:
            self._mark()
            places = self._db.execute(ALIKE, (marks, self._stream)).fetchall()
        found: list[list[Candidate]] = [[] for _ in values]
        blocks: dict[int, list[Served]] = {}
        for place, name, row, block in places:
            found[place].append(LoggedPrediction(name, row, block, blocks, self._block))
        return [tuple(one) for one in found]

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

    def _read(self, places: Sequence[tuple[int, int]]) -> dict[int, Served]:
        """Predictions of this stream by number, from their numbers and blocks."""
        if not places:
            return {}
        blocks = self._blocks({block for _, block in places})
        return {row: blocks[block][row - block - 1] for row, block in places if block in blocks}

    def _blocks(self, lasts: set[int]) -> dict[int, list[Served]]:
        """The predictions of this stream's blocks, those that are still there."""
        records = self._db.execute(BLOCKS, (self._stream, as_json(lasts)))
        return {last: unpack(record, self._fields) for last, record in records}

    def _mark(self) -> None:
        """Index what has been written since the last time, and forget what has gone, now and then."""
        newest, last = self._db.execute(NEWEST).fetchone()
        if newest is None or newest == last:
            return
        with transaction(self._db):
            newest, last = self._db.execute(NEWEST).fetchone()
            oldest, first = self._db.execute(OLDEST).fetchone()
            self._db.execute(MARK, (last,))
            if oldest - first > self._rows // 4:
                self._db.execute("DELETE FROM mark WHERE row < ?", (oldest,))
                first = oldest
            self._db.execute("UPDATE marked SET first = ?, last = ?", (first, newest))

    def _commit(self, batches: list[Batch]) -> None:
        fewer = joined(batches)
        written = as_blocks(fewer, self._fields)
        marks = fingerprints(np.concatenate([np.asarray(batch.values, float) for batch in fewer]))
        with transaction(self._db):
            (first,) = self._db.execute("SELECT coalesce(max(last), 0) FROM block").fetchone()
            ends = first + np.cumsum([len(block.ids) for block in written])
            blocks = [
                (last, self._stream, block.served_at, block.record)
                for last, block in zip(ends.tolist(), written, strict=True)
            ]
            insert(self._db, INSERT_BLOCK, blocks)
            names = [name for block in written for name in block.ids]
            of_row = np.repeat(ends, [len(block.ids) for block in written]).tolist()
            insert(
                self._db, INSERT,
                list(zip(itertools.count(first + 1), names, marks.tolist(), of_row, strict=False)),
            )  # fmt: skip
            self._drop_old(first + len(names))
        with self._counting:
            for _ in batches:
                self._waiting.popleft()
            self._room += len(names)

    def _drop_old(self, last: int) -> None:
        """Delete what is too old or too much, ``last`` being the newest prediction's number."""
        bound = last - self._rows
        if self._days:
            bound = max(bound, *self._db.execute(EXPIRED, (86_400.0 * self._days,)).fetchone())
        self._db.execute("DELETE FROM prediction WHERE row <= ?", (bound,))
        self._db.execute("DELETE FROM block WHERE last <= ?", (bound,))

    def _write(self) -> None:
        """The writer thread: flush until closed, once more at the end."""
        while True:
            stopped = self._stop.wait(self.flush_seconds)
            try:
                self.flush()
            except sqlite3.Error as exc:
                log.warning("the ledger could not be written, %d predictions wait: %s", self.waiting, exc)
            if stopped:
                return


class LoggedPrediction(NamedTuple):
    """A prediction by its number and its block's; what is read of ``blocks`` is kept for the others."""

    id: str
    row: int
    block: int
    blocks: dict[int, list[Served]]
    read_block: Callable[[int], list[Served]]

    def read(self) -> Served | None:
        """All of it; None when it is gone by now. Raises sqlite3.Error."""
        if self.block not in self.blocks:
            self.blocks[self.block] = self.read_block(self.block)
        several = self.blocks[self.block]
        return several[self.row - self.block - 1] if several else None


def next_batches(waiting: Iterable[Batch]) -> list[Batch]:
    """The first batches, as many as one statement writes."""
    taken, rows = [], 0
    for batch in waiting:
        taken.append(batch)
        rows += len(batch)
        if rows >= STATEMENT_ROWS:
            break
    return taken


class PredictionBlock(NamedTuple):
    """Predictions that are written together."""

    served_at: float
    ids: list[str]
    record: bytes


def joined(batches: Iterable[Batch]) -> list[Batch]:
    """The same predictions in fewer batches."""
    found: list[Batch] = []
    for kin, several in itertools.groupby(batches, lambda batch: batch.kin):
        run = list(several)
        found += run if kin is None else [run[0].joined(run)]
    return found


def as_blocks(batches: Iterable[Batch], fields: frozenset[str]) -> list[PredictionBlock]:
    """Predictions in blocks, in order; ``fields`` of their rows are needed, others need not be kept."""
    blocks: list[PredictionBlock] = []
    parts: list[ServedColumns] = []
    room = BLOCK
    for piece in pieces(batches):
        size = len(piece)
        if size > room:
            blocks.append(packed(parts, fields))
            parts, room = [], BLOCK
        parts += piece.columns()
        room -= size
    return [*blocks, packed(parts, fields)] if parts else blocks


def pieces(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same predictions, in batches that fit into a block."""
    for batch in batches:
        if len(batch) <= BLOCK:
            yield batch
        else:
            yield from (batch.cut(first, first + BLOCK) for first in range(0, len(batch), BLOCK))


def packed(parts: list[ServedColumns], fields: frozenset[str]) -> PredictionBlock:
    """A block."""
    names = [name for part in parts for name in part.ids]
    try:
        record = encode(parts)
    except OverflowError:  # an integer that MessagePack does not have
        record = encode([part.cleaned(fields) for part in parts])
    return PredictionBlock(parts[-1].moments()[-1], names, record)


def unpack(record: bytes, fields: frozenset[str]) -> list[Served]:
    """The predictions of a block's record, with these fields of their rows."""
    return [one for part in PARTS.decode(record) for one in part.served(fields)]


def fields_of(schema: Schema) -> frozenset[str]:
    """The fields of a row that the ledger keeps."""
    return frozenset(feature.name for feature in schema.features)
