"""The rows a batch expert is trained on: those of the bootstrap, kept in a file, and all labels since.

The file, ``data/training_rows.safetensors``, has ``x`` (n, columns) float64, the encoded rows with their
context features as they would have been served, NaN where a value was missing, and ``y`` (n,) float64, the
targets. Its metadata are ``schema``, the hash of the schema they were encoded by, and ``format``, a number; a
file without one is of format 1.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from online.core.errors import FormatError, JournalError
from online.core.home import Home, write_atomically
from online.core.schema import Schema
from online.features.row_encoder import Floats, RowEncoder
from online.storage.journal import Journal
from online.storage.records import LABELS, Record

__all__ = ["fill_missing", "gather", "save_training_rows"]

log = logging.getLogger(__name__)

ROWS_FORMAT = 1
READ_RECORDS = 2000  # at once
DELAYS_KEPT = 1000  # the last labels, which tell how late labels come


def save_training_rows(path: Path, schema: Schema, x: Floats, y: Floats) -> None:
    """Write the bootstrap's rows.

    Parameters
    ----------
    path
        The file; replaced as a whole.
    schema
        What the rows were encoded by.
    x, y
        Encoded rows (n, columns), and targets (n,) in target units.
    """
    metadata = {"schema": schema.hash, "format": str(ROWS_FORMAT)}
    write_atomically(path, safetensors.numpy.save({"x": x, "y": y}, metadata))


def gather(home: Home, schema: Schema, limit: int) -> tuple[Floats, Floats]:
    """Read the rows to train on.

    Of a label and its corrections the last one counts. A missing value is filled with its column's mean.
    Rows of another schema are left out, and so is a journal that cannot be read further. Those of the
    bootstrap have the context they would have been served with, had labels come as late as they do of late.

    Parameters
    ----------
    home
        The stream's.
    schema
        What the rows are encoded by.
    limit
        How many of the last rows.

    Returns
    -------
    x : numpy.ndarray
        Encoded rows with their context, (n, columns), in the order they were learned.
    y : numpy.ndarray
        Their targets, (n,), in target units.
    """
    labels = JournalLabels(schema)
    journal = Journal(home.journal, schema.stream)
    try:
        for record in records(journal):
            labels.add(record)
    except JournalError as exc:
        log.warning("the batch expert is trained on what could be read: %s", exc)
    finally:
        journal.close()
    x, y = labels.arrays()
    old_x, old_y = bootstrap_rows(home.training_rows, schema, x.shape[1])
    if labels.delays:
        old_x = served_late(old_x, old_y, schema, int(np.median(labels.delays)))
    x, y = np.concatenate((old_x, x))[-limit:], np.concatenate((old_y, y))[-limit:]
    return fill_missing(x), y


class JournalLabels:
    """The labels of a journal that count, with their rows as they were served.

    Parameters
    ----------
    schema
        What rows are encoded by.

    Attributes
    ----------
    delays
        How many records after the plan that served them the last labels came.
    """

    def __init__(self, schema: Schema) -> None:
        self._encoder = RowEncoder(schema.used, schema.context)
        self._labels: dict[str, tuple[list[float], float]] = {}
        self._ids: dict[int, str] = {}
        self.delays: collections.deque[int] = collections.deque(maxlen=DELAYS_KEPT)

    def add(self, record: Record) -> None:
        """Take the next record."""
        if record.kind in LABELS and record.target is not None:
            self._labels.pop(record.id, None)  # a corrected label moves to the end, where it is learned
            values = self._encoder.as_served(record.features, record.context)
            self._labels[record.id] = values, record.target
            self._ids[record.seq] = record.id
            if record.plan_seq is not None:
                self.delays.append(record.seq - 1 - record.plan_seq)
        for seq in record.payload.get("without", ()):  # a replay has left them out
            self._labels.pop(self._ids.get(seq, ""), None)

    def arrays(self) -> tuple[Floats, Floats]:
        """The encoded rows (n, columns) and targets (n,)."""
        x = np.array([values for values, _ in self._labels.values()]).reshape(-1, len(self._encoder.columns))
        return x, np.array([target for _, target in self._labels.values()], dtype=float)


def records(journal: Journal) -> Iterator[Record]:
    """All records in order, read in chunks."""
    seq = journal.first_seq() - 1
    while chunk := journal.read(seq, READ_RECORDS):
        yield from chunk
        seq = chunk[-1].seq


def bootstrap_rows(path: Path, schema: Schema, width: int) -> tuple[Floats, Floats]:
    """The rows of the bootstrap; no rows where there is no file for this schema."""
    no_rows = np.empty((0, width)), np.empty(0)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if (rows_format := metadata.get("format", "1")) != str(ROWS_FORMAT):
                raise FormatError(
                    f"{path} is of format {rows_format}, made by a later Millrace: this one reads formats up"
                    f" to {ROWS_FORMAT}; upgrade"
                )
            if metadata.get("schema") != schema.hash:
                return no_rows
            return file.get_tensor("x"), file.get_tensor("y")
    except (FormatError, OSError, safetensors.SafetensorError) as exc:
        log.warning("the batch expert is trained without the bootstrap's rows: %s", exc)
        return no_rows


def served_late(x: Floats, y: Floats, schema: Schema, delay: int) -> Floats:
    """Rows with their context as it would have been served, each label coming ``delay`` rows late."""
    encoder = RowEncoder(schema.used, schema.context)
    context_start = len(encoder.columns) - len(schema.context)
    groups = encoder.groups_of(x)
    late, targets = x.copy(), y.tolist()
    for row in range(len(x)):
        if row > delay:
            encoder.learn_groups(groups[row - delay - 1], targets[row - delay - 1])
        late[row, context_start:] = encoder.look_up(groups[row])
    return late


def fill_missing(x: Floats) -> Floats:
    """The rows with each missing value at its column's mean, 0 for a column that has none."""
    present = ~np.isnan(x)
    means = np.where(present, x, 0.0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    return np.where(present, x, means)
