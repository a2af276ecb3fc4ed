"""Taking in labels without HTTP: validate them, add what only this process knows, have them committed.

What routes and tests call.
"""

from __future__ import annotations

import collections
import concurrent.futures
import enum
import functools
import itertools
import logging
import queue
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from online.core.background import start_background_thread
from online.core.errors import InputError, MillraceError
from online.core.schema import Schema
from online.features.batch_encoder import BatchEncoder
from online.features.value_encoder import clean, number
from online.labels.label_messages import (
    CommitRequest,
    CommitResponse,
    Committed,
    Label,
    LabelStore,
    Rejected,
    error_of,
)
from online.labels.unwritten_predictions import PredictionQueue, UnwrittenPredictions
from online.storage.prediction_log import identifier
from online.storage.records import Receipt
from online.storage.served_predictions import ServedColumns

__all__ = ["LabelIngest", "Outcome", "fulfil"]

log = logging.getLogger(__name__)

# Requests handed over together at most, and labels that are enough: a group is one transaction, which all of
# it waits for, and the journal's writers wait for each other.
GROUP, GROUP_LABELS = 64, 20_000
AHEAD_LABELS = 100  # so many are prepared while those before are committed; fewer take longer each

Outcome = list[Receipt] | MillraceError  # a receipt for each label of a request, or why none was kept


class PendingCommit(msgspec.Struct, frozen=True):
    """Labels that wait to be handed over, and who is told what became of them."""

    labels: Sequence[Label]
    received_at: float
    source: str | None
    settle: Callable[[Outcome], None]


class IngestSignal(enum.Enum):
    """What the ingest's thread is told beside labels."""

    STORE_READY = enum.auto()
    STOP = enum.auto()


class LabelIngest:
    """Accepts labels from any thread; one thread of its own has them committed in groups.

    Parameters
    ----------
    schema
        The stream.
    store
        Commits labels; closed with the ingest.
    clock
        Unix seconds.
    learned_seq
        The last journal record that served predictions reflect; None where that is not known.
    predictions
        Where served predictions wait to be written, for labels of those that are not; None where all are.
    expect
        What the model says of encoded rows (n, columns), in target units; None for each where it cannot tell.
    """

    def __init__(  # noqa: PLR0913 - each has a default that fits where there is no server
        self,
        schema: Schema,
        store: LabelStore,
        clock: Callable[[], float] = time.time,
        *,
        learned_seq: Callable[[], int | None] = lambda: None,
        predictions: PredictionQueue | None = None,
        expect: Callable[[np.ndarray], Sequence[float | None]] = lambda values: [None] * len(values),
    ) -> None:
        self._target = schema.target.name
        self._fields = frozenset(feature.name for feature in schema.features)
        self._schema_hash = schema.hash
        self._encoder = BatchEncoder.of(schema)
        self._store = store
        self._clock = clock
        self._learned_seq = learned_seq
        self._unwritten = None if predictions is None else UnwrittenPredictions(predictions)
        self._expect = expect
        self._request_ids = itertools.count(1)
        self._settling: dict[int, Callable[[Outcome], None]] = {}  # by request id
        self._queue: queue.SimpleQueue[PendingCommit | IngestSignal] = queue.SimpleQueue()
        self._thread = start_background_thread(self._commit_forever, "labels")

    def validate(self, rows: Sequence[Mapping[str, Any]]) -> list[Label]:
        """Check every row before any is accepted.

        Raises
        ------
        InputError
            A row has no label, a label that is no finite number, a wrong id, or neither id nor features.
        """
        return [self._label(row, index) for index, row in enumerate(rows)]

    def accept(
        self, labels: Sequence[Label], source: str | None = None
    ) -> concurrent.futures.Future[list[Receipt]]:
        """Commit labels.

        Parameters
        ----------
        labels
            What :meth:`validate` gave.
        source
            Who sent them.

        Returns
        -------
        concurrent.futures.Future
            Holds a receipt for each label once all are durable. It raises BusyError when nothing was kept,
            JournalError when that or, its message says so, nobody knows.
        """
        future: concurrent.futures.Future[list[Receipt]] = concurrent.futures.Future()
        self.submit(labels, source, functools.partial(fulfil, future))
        return future

    def submit(self, labels: Sequence[Label], source: str | None, settle: Callable[[Outcome], None]) -> None:
        """Commit labels as :meth:`accept` does, without a future.

        Parameters
        ----------
        labels, source
            As for :meth:`accept`.
        settle
            Called with the outcome, in a thread of the ingest's or the store's.
        """
        self._queue.put(PendingCommit(labels, self._clock(), source, settle))

    def close(self) -> None:
        """Commit what is waiting and stop."""
        self._queue.put(IngestSignal.STOP)
        self._thread.join()
        self._store.close()

    def _label(self, row: Mapping[str, Any], index: int) -> Label:
        target = self._target
        if target not in row:
            raise InputError(f"the label {target!r} is missing", field=target, index=index)
        value = row[target]
        label = None if isinstance(value, (bool, str)) else number(value)
        if label is None:
            shown = repr(value)[:80]
            raise InputError(f"the label {target!r} must be a finite number, not {shown}", target, index)
        given = row.get("id")
        name = None if given is None else identifier(given, index)
        features = clean(row, self._fields) or None
        if name is None and features is None:
            raise InputError("give the prediction's id, or the row's features", field="id", index=index)
        return Label(label, name, features)

    def _commit_forever(self) -> None:
        """Hand over what waits whenever the store is ready; prepare much of it meanwhile."""
        waiting: collections.deque[PendingCommit] = collections.deque()
        prepared: list[CommitRequest] = []
        ready, stopping = True, False
        while not (stopping and ready):
            for event in drained(self._queue):
                if isinstance(event, PendingCommit):
                    waiting.append(event)
                elif event is IngestSignal.STORE_READY:
                    ready = True
                else:
                    stopping = True
            while ready and (waiting or prepared):
                prepared += self._prepared(next_group(waiting, prepared))
                if prepared:
                    ready = False
                    self._commit(prepared)
                    prepared = []
            if label_count(waiting) >= AHEAD_LABELS:
                prepared += self._prepared(next_group(waiting, prepared))

    def _commit(self, requests: Sequence[CommitRequest]) -> None:
        try:
            self._store.commit(requests, self._settle, self._store_ready)
        except Exception as exc:  # as for what cannot be prepared
            log.exception("labels could not be handed over")
            message = f"the labels of this request may have been kept or not: {exc!r}"
            for request in requests:
                self._settle(Rejected(request.id, message))
            self._store_ready()

    def _store_ready(self) -> None:
        self._queue.put(IngestSignal.STORE_READY)

    def _prepared(self, group: Sequence[PendingCommit]) -> list[CommitRequest]:
        """The requests to hand over; none when that fails, which their senders are told."""
        numbered = [(next(self._request_ids), pending) for pending in group]
        self._settling.update((request_id, pending.settle) for request_id, pending in numbered)
        try:
            return self._requests(numbered)
        except Exception as exc:  # whatever it is, the clients wait for an answer, and the thread goes on
            log.exception("labels could not be prepared")
            for request_id, _ in numbered:
                self._settle(Rejected(request_id, f"no label of this request was kept: {exc}"))
            return []

    def _settle(self, response: CommitResponse) -> None:
        settle = self._settling.pop(response.request_id, None)
        if settle is not None:  # else it was settled when handing over failed
            settle(response.receipts if isinstance(response, Committed) else error_of(response))

    def _requests(self, numbered: Sequence[tuple[int, PendingCommit]]) -> list[CommitRequest]:
        """What is handed over: the labels of each request, and what only this process knows of them."""
        unwritten: Mapping[str, ServedColumns] = {}
        if self._unwritten is not None:
            self._unwritten.refresh()
            ids = {label.id for _, pending in numbered for label in pending.labels if label.id is not None}
            unwritten = self._unwritten.with_ids(ids)
        labels = self._with_expected(
            [label for _, pending in numbered for label in pending.labels], unwritten
        )
        learned_seq, remaining = self._learned_seq(), iter(labels)
        requests = []
        for request_id, pending in numbered:
            own = list(itertools.islice(remaining, len(pending.labels)))
            served = [unwritten[label.id] for label in own if label.id is not None and label.id in unwritten]
            requests.append(
                CommitRequest(
                    request_id, own, pending.received_at, pending.source, learned_seq, self._schema_hash,
                    [*served, *self._unwritten_like(own)],
                )
            )  # fmt: skip
        return requests

    def _with_expected(self, labels: list[Label], unwritten: Mapping[str, ServedColumns]) -> list[Label]:
        """Labels, with their features encoded and an expected value where no prediction is known here."""
        lone = [index for index, label in enumerate(labels) if label.features and label.id not in unwritten]
        if not lone:
            return labels
        values = self._encoder.encode_many([labels[index].features or {} for index in lone])
        for index, row, expected in zip(lone, values, self._expect(values), strict=True):
            label = labels[index]
            labels[index] = Label(label.target, label.id, label.features, row.tobytes(), expected)
        return labels

    def _unwritten_like(self, labels: Sequence[Label]) -> list[ServedColumns]:
        """The predictions that wait to be written and that labels without an id may belong to."""
        nameless = [label.encoded for label in labels if label.id is None]
        if self._unwritten is None or not nameless:
            return []
        return self._unwritten.with_features(np.frombuffer(b"".join(nameless)).reshape(len(nameless), -1))


def drained(events: queue.SimpleQueue[Any]) -> list[Any]:
    """What a queue holds, once it holds something."""
    taken = [events.get()]
    while not events.empty():  # only one thread takes from it
        taken.append(events.get())
    return taken


def next_group(
    waiting: collections.deque[PendingCommit], prepared: Sequence[CommitRequest]
) -> list[PendingCommit]:
    """Take requests from the front, as many as fit in a group with those that are prepared."""
    group: list[PendingCommit] = []
    labels = label_count(prepared)
    while waiting and len(prepared) + len(group) < GROUP and labels < GROUP_LABELS:
        group.append(waiting.popleft())
        labels += len(group[-1].labels)
    return group


def label_count(requests: Iterable[PendingCommit | CommitRequest]) -> int:
    """The labels of requests."""
    return sum(len(request.labels) for request in requests)


class Future(Protocol):
    """A future of :mod:`asyncio` or :mod:`concurrent.futures`."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: list[Receipt], /) -> None:
        """Give what was waited for."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Say why there is nothing."""


def fulfil(future: Future, outcome: Outcome) -> None:
    """Give a future the outcome of a request.

    Parameters
    ----------
    future
        Where it is waited for; left alone when it was cancelled.
    outcome
        The receipts of the request's labels, or why none was kept.
    """
    if future.done():
        return
    if isinstance(outcome, MillraceError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
