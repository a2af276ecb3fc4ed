"""Predictions that were served and are not in the prediction log's file yet, by id and by features."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from online.storage.served_predictions import SAME_FEATURES, Batch, ServedColumns, fingerprints

__all__ = ["UnwrittenPredictions"]


class PredictionQueue(Protocol):
    """Where batches of predictions wait to be written; they are numbered from 0 on."""

    def unwritten_since(self, number: int) -> tuple[int, list[Batch]]:
        """The number of the oldest batch that waits, and the batches that wait from ``number`` on."""


class Location(NamedTuple):
    """A prediction by its batch's number and its row there."""

    batch: int
    row: int


class UnwrittenPredictions:
    """An index of the queue as of the last :meth:`refresh`. For one thread.

    Keeping it while rows are served would cost every prediction; so what came since is indexed when labels
    come. It holds what the queue holds, which is bounded.

    Parameters
    ----------
    queue
        The prediction log.
    """

    def __init__(self, queue: PredictionQueue) -> None:
        self._queue = queue
        self._oldest = self._next = 0  # the numbers of the batches that are indexed: from one up to the other
        self._batches: dict[int, Batch] = {}
        self._by_id: dict[str, Location] = {}
        self._marked = 0  # the number of the first batch whose fingerprints are not indexed
        self._by_fingerprint: dict[int, list[Location]] = {}

    def refresh(self) -> None:
        """Index what came since, and forget what was written: called before others are asked for."""
        oldest, batches = self._queue.unwritten_since(self._next)
        for number in range(self._oldest, min(oldest, self._next)):
            self._forget(number)
        self._oldest = oldest
        for number, batch in enumerate(batches, max(oldest, self._next)):
            self._batches[number] = batch
            self._by_id.update((name, Location(number, row)) for row, name in enumerate(batch.ids))
        self._next = max(oldest, self._next) + len(batches)

    def with_ids(self, ids: Iterable[str]) -> dict[str, ServedColumns]:
        """The predictions with these ids, those that wait: of each the last one, alone.

        Parameters
        ----------
        ids
            Ids of predictions.

        Returns
        -------
        dict
            By id.
        """
        found = ((name, self._by_id.get(name)) for name in ids)
        return {name: self._columns(location) for name, location in found if location is not None}

    def with_features(self, values: np.ndarray) -> list[ServedColumns]:
        """The last predictions that wait and were made from just these features, oldest first.

        Parameters
        ----------
        values
            Encoded rows, (n, columns).

        Returns
        -------
        list
            Those of all rows, each prediction alone and once.
        """
        if not self._batches:  # as a rule: hashing rows in vain takes longer than all else here
            return []
        self._mark()
        marks = dict.fromkeys(fingerprints(values).tolist()) if len(values) else {}
        found = (self._by_fingerprint.get(mark, [])[-SAME_FEATURES:] for mark in marks)
        return [self._columns(location) for location in itertools.chain.from_iterable(found)]

    def _columns(self, location: Location) -> ServedColumns:
        (columns,) = self._batches[location.batch].slice_rows(location.row, location.row + 1).columns()
        return columns

    def _mark(self) -> None:
        """Index the fingerprints of what came since."""
        numbers = range(max(self._oldest, self._marked), self._next)
        self._marked = self._next
        if not numbers:
            return
        values = [np.asarray(self._batches[number].values, float) for number in numbers]
        locations = (Location(number, row) for number in numbers for row in range(len(self._batches[number])))
        for mark, location in zip(fingerprints(np.concatenate(values)).tolist(), locations, strict=True):
            self._by_fingerprint.setdefault(mark, []).append(location)

    def _forget(self, number: int) -> None:
        batch = self._batches.pop(number)
        for row, name in enumerate(batch.ids):
            if self._by_id.get(name) == (number, row):  # an id of a client's own may have come again
                del self._by_id[name]
        if number < self._marked:
            self._forget_fingerprints(number, batch.values)

    def _forget_fingerprints(self, number: int, values: Sequence[Sequence[float]] | np.ndarray) -> None:
        for mark in set(fingerprints(np.asarray(values, float)).tolist()):
            left = [location for location in self._by_fingerprint[mark] if location.batch != number]
            if left:
                self._by_fingerprint[mark] = left
            else:
                del self._by_fingerprint[mark]
