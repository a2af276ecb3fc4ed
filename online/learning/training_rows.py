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
import numpy.typing as npt
import safetensors
import safetensors.numpy

from online.core.errors import FormatError, JournalError
from online.core.home import Home, write_atomically
from online.core.schema import Schema
from online.features.row_encoder import RowEncoder
from online.storage.journal import Journal
from online.storage.records import LABELS, Record

__all__ = ["filled", "gather", "keep"]

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
CHUNK = 2000
ROWS_FORMAT = 1
AGES = 1000  # labels that tell how late labels come


def keep(path: Path, schema: Schema, x: Floats, y: Floats) -> None:
    """Write the bootstrap's rows, x (n, columns) and y (n,)."""
    metadata = {"schema": schema.hash, "format": str(ROWS_FORMAT)}
    write_atomically(path, safetensors.numpy.save({"x": x, "y": y}, metadata))


def gather(home: Home, schema: Schema, limit: int) -> tuple[Floats, Floats]:
    """The last ``limit`` rows to train on, x (n, columns) and y (n,), in the order they were learned.

    Of a label and its corrections the last one counts. A missing value is filled with its column's mean.
    Rows of another schema are left out, and so is a journal that cannot be read further. Those of the
    bootstrap have the context they would have been served with, had labels come as late as they do of late.
    """
    labelled: dict[str, tuple[list[float], float]] = {}
    seqs: dict[int, str] = {}
    ages: collections.deque[int] = collections.deque(maxlen=AGES)
    encoder = RowEncoder(schema.used, schema.context)
    journal = Journal(home.journal, schema.stream)
    try:
        for record in records(journal):
            if record.kind in LABELS and record.target is not None:
                labelled.pop(record.id, None)
                labelled[record.id] = (encoder.as_served(record.features, record.context), record.target)
                seqs[record.seq] = record.id
                if record.plan_seq is not None:
                    ages.append(record.seq - 1 - record.plan_seq)
            for seq in record.payload.get("without", ()):  # a replay has left them out
                labelled.pop(seqs.get(seq, ""), None)
    except JournalError as exc:
        log.warning("the batch expert is trained on what could be read: %s", exc)
    finally:
        journal.close()
    width = len(encoder.columns)
    old_x, old_y = bootstrap_rows(home.training_rows, schema, width)
    if ages:
        old_x = served_late(old_x, old_y, schema, int(np.median(ages)))
    x = np.array([values for values, _ in labelled.values()]).reshape(-1, width)
    y = np.array([target for _, target in labelled.values()], dtype=float)
    x, y = np.concatenate((old_x, x))[-limit:], np.concatenate((old_y, y))[-limit:]
    return filled(x), y


def records(journal: Journal) -> Iterator[Record]:
    """All records in order, read in chunks."""
    seq = journal.first_seq() - 1
    while chunk := journal.read(seq, CHUNK):
        yield from chunk
        seq = chunk[-1].seq


def bootstrap_rows(path: Path, schema: Schema, width: int) -> tuple[Floats, Floats]:
    """The rows of the bootstrap; none where there is no file for this schema."""
    none = np.empty((0, width)), np.empty(0)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if (found := metadata.get("format", "1")) != str(ROWS_FORMAT):
                raise FormatError(
                    f"{path} is of format {found}, made by a later Millrace: this one reads formats up to"
                    f" {ROWS_FORMAT}; upgrade"
                )
            if metadata.get("schema") != schema.hash:
                return none
            return file.get_tensor("x"), file.get_tensor("y")
    except (FormatError, OSError, safetensors.SafetensorError) as exc:
        log.warning("the batch expert is trained without the bootstrap's rows: %s", exc)
        return none


def served_late(x: Floats, y: Floats, schema: Schema, delay: int) -> Floats:
    """Rows with their context as it would have been served, each label coming ``delay`` rows late."""
    encoder = RowEncoder(schema.used, schema.context)
    own = len(encoder.columns) - len(schema.context)
    groups = encoder.groups_of(x)
    late, targets = x.copy(), y.tolist()
    for row in range(len(x)):
        if row > delay:
            encoder.learn_groups(groups[row - delay - 1], targets[row - delay - 1])
        late[row, own:] = encoder.look_up(groups[row])
    return late


def filled(x: Floats) -> Floats:
    """The rows with each missing value at its column's mean, 0 for a column that has none."""
    there = ~np.isnan(x)
    means = np.where(there, x, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return np.where(there, x, means)
