"""Choose the context features of a stream by progressive validation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from online.context import ContextTable, Place, places
from online.encoding import Encoder
from online.schema import ContextFeature, Schema

__all__ = ["choose_context"]

DELAY = 24  # rows between a prediction and its label while choosing
SLOT_FADING = 0.1  # a slot comes by about once a day: the last ten or so count
LEVEL_FADING = 0.02  # all rows of a key come by: the last fifty or so count
LARGEST = 5000  # cells in a table at most
ROWS = 20_000  # the last rows are enough to choose by


def choose_context(schema: Schema, rows: Sequence[dict[str, Any]], targets: Sequence[float]) -> Schema:
    """Give a schema its context features.

    Every way to group the rows by one category, one part of a cycle, or one of each is tried: rows in order,
    each predicted by its group's faded mean of the labels that came up to 24 rows before. The best grouping
    with a cycle in it becomes the slot's mean, the best without one the level.

    Parameters
    ----------
    schema
        The schema without context.
    rows, targets
        The bootstrap rows in order, and their labels.
    """
    encoder = Encoder.of(schema)
    encoded = [encoder.encode(row).values for row in rows[-ROWS:]]
    labels = list(targets[-ROWS:])
    known = {name: place for name, place in places(schema.used).items() if place.size <= LARGEST}
    keys = [name for name, place in known.items() if place.one_hot]
    cycles = [name for name, place in known.items() if not place.one_hot]
    slots: list[tuple[str, ...]] = [(*key, cycle) for key in groupings(keys) for cycle in cycles]
    chosen = []
    for name, ways, fading in (("level", groupings(keys), LEVEL_FADING), ("slot", slots, SLOT_FADING)):
        ways = [by for by in ways if np.prod([known[part].size for part in by]) <= LARGEST]
        if ways:
            by = min(ways, key=lambda by: error([known[part] for part in by], fading, encoded, labels))
            chosen.append(ContextFeature(" ".join((name, *by)), by, fading))
    return Schema(schema.stream, schema.target, schema.features, tuple(chosen))


def groupings(keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """No key at all, or one of them."""
    return itertools.chain([()], ((key,) for key in keys))


def error(
    by: Sequence[Place], fading: float, encoded: Sequence[Sequence[float]], labels: Sequence[float]
) -> float:
    """Mean absolute error of a grouping's faded means, labels arriving DELAY rows late; in target units."""
    table = ContextTable(by, fading)
    mean, total = 0.0, 0.0
    for place, (values, label) in enumerate(zip(encoded, labels, strict=True)):
        guess = table.get(values)
        total += abs(label - (mean if guess != guess else guess))
        if place >= DELAY:
            arrived = labels[place - DELAY]
            table.update(encoded[place - DELAY], arrived)
            mean += (arrived - mean) / (place - DELAY + 1)
    return total / max(1, len(labels))
