"""Labels joined with what was served, and committed to the journal.

A label that names a prediction nobody knows of may be early: another worker has served it and not written it
yet. Its request is deferred, for at most twice the time in which predictions are written, and other requests
are answered meanwhile. A deferred request is not answered, so nothing is lost when its process dies.
"""

from __future__ import annotations

import itertools
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from online.core.errors import BusyError, JournalError
from online.core.schema import LARGEST, Schema
from online.features.batch_encoder import BatchEncoder
from online.labels.label_messages import (
    CommitRequest,
    CommitResponse,
    Committed,
    Label,
    Rejected,
    SettleCommit,
    StoreReady,
)
from online.storage.journal import Journal
from online.storage.prediction_log import PredictionLog, fields_of
from online.storage.records import Submission
from online.storage.served_predictions import (
    SAME_FEATURES,
    Candidate,
    EncodedRow,
    Served,
    encoded_values,
    fingerprints,
)

__all__ = ["InlineLabelStore", "LabelJoiner"]

log = logging.getLogger(__name__)

RETRY_SECONDS = 2  # when a client that was refused should come again
LONGEST_WAIT_SECONDS = 10.0  # for what another worker has served, however seldom predictions are written
DEFERRED_LABELS = 10_000  # of all deferred requests; beyond, an unknown id is not waited for


class DeferredRequest(msgspec.Struct, eq=False):
    """A request, until when it may wait, and when to look again, in seconds of the joiner's clock."""

    request: CommitRequest
    deadline: float
    look_at: float

    def ids(self) -> set[str]:
        """The ids its labels name."""
        return {label.id for label in self.request.labels if label.id is not None}


class LabelJoiner:
    """Joins labels with what was served, and appends them to the journal.

    Parameters
    ----------
    schema
        The stream.
    open_journal
        Opens the journal; called at the first label and again after a failure.
    prediction_log
        Where written predictions are found.
    max_waiting
        How far the journal may be ahead of what is learned, in records; 0 for any.
    clock
        Seconds that only ever grow.
    """

    def __init__(
        self,
        schema: Schema,
        open_journal: Callable[[], Journal],
        prediction_log: PredictionLog,
        *,
        max_waiting: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = schema.target.name
        self._schema_hash = schema.hash
        self._fields = fields_of(schema)
        self._encoder = BatchEncoder.of(schema)
        self._open_journal = open_journal
        self._journal: Journal | None = None
        self._prediction_log = prediction_log
        self._max_waiting = max_waiting
        self._clock = clock
        self._wait_seconds = min(2 * prediction_log.flush_seconds, LONGEST_WAIT_SECONDS)
        self._deferred: list[DeferredRequest] = []
        self._learned_seq: int | None = None  # the newest that a request told of

    @property
    def pause(self) -> float | None:
        """Seconds until deferred requests want :meth:`process` to be called; None while there are none."""
        if not self._deferred:
            return None
        return max(0.0, min(deferred.look_at for deferred in self._deferred) - self._clock())

    def process(self, requests: Sequence[CommitRequest], *, last: bool = False) -> list[CommitResponse]:
        """Commit requests in one transaction, with those deferred ones that are found or have waited enough.

        Parameters
        ----------
        requests
            New requests, in the order in which they came; none to look after the deferred ones alone.
        last
            Whether no request comes any more: then none is deferred.

        Returns
        -------
        list
            A reply for each request that was committed or rejected.
        """
        now = math.inf if last else self._clock()
        entries = [deferred for deferred in self._deferred if deferred.look_at <= now]
        self._deferred = [deferred for deferred in self._deferred if deferred.look_at > now]
        entries += [DeferredRequest(request, now + self._wait_seconds, now) for request in requests]
        if not entries:
            return []
        ready = entries
        try:
            self._refuse_if_full(requests)
            served = self._served(entries)
            ready = self._defer_unknown(entries, served, now)
            return self._commit([entry.request for entry in ready], served)
        except BusyError as exc:
            return [Rejected(entry.request.id, str(exc), exc.retry_seconds) for entry in ready]
        except (JournalError, sqlite3.Error) as exc:
            self.close()  # a file that was restored meanwhile is another one
            reason: Exception = exc
        except Exception as exc:  # whatever it is, clients wait for an answer, and the next labels may pass
            log.exception("a group of labels could not be committed")
            reason = exc
        message = f"no label of this request was kept: {reason}"
        return [Rejected(entry.request.id, message) for entry in ready]

    def close(self) -> None:
        """Close the journal; it is opened again when labels come."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _opened(self) -> Journal:
        self._journal = self._journal or self._open_journal()
        return self._journal

    def _refuse_if_full(self, requests: Sequence[CommitRequest]) -> None:
        """Raise BusyError where the journal is too far ahead of what is learned."""
        told = [request.learned_seq for request in requests if request.learned_seq is not None]
        self._learned_seq = max([*told, self._learned_seq or 0]) if told else self._learned_seq
        if not self._max_waiting or self._learned_seq is None:
            return
        waiting = self._opened().last_seq() - self._learned_seq
        if waiting > self._max_waiting:
            raise BusyError(
                f"{waiting} labels wait to be learned, and no more than {self._max_waiting} may"
                " (learner.max_waiting): send these again later",
                RETRY_SECONDS,
            )

    def _served(self, entries: Sequence[DeferredRequest]) -> dict[str, Served]:
        """The predictions that labels name, as they were served last: sent along, else written."""
        served = {
            one.id: one
            for entry in entries
            for columns in entry.request.served
            for one in columns.served(self._fields)
        }
        missing = set().union(*(entry.ids() for entry in entries)) - served.keys()
        return served | self._prediction_log.find(missing) if missing else served

    def _defer_unknown(
        self, entries: Sequence[DeferredRequest], served: Mapping[str, Served], now: float
    ) -> list[DeferredRequest]:
        """Defer requests with a label that cannot be learned yet; the others, in order.

        A request with an id that a deferred one has waits behind that: the label that came last is to win.
        """
        lacking = [
            {label.id for label in entry.request.labels if label.id and label.features is None}
            - served.keys()
            for entry in entries
        ]
        labelled = self._opened().labelled_ids(sorted(set().union(*lacking))) if any(lacking) else set()
        room = DEFERRED_LABELS - sum(len(deferred.request.labels) for deferred in self._deferred)
        blocked: set[str] = set().union(*(deferred.ids() for deferred in self._deferred))
        ready = []
        for entry, unknown in zip(entries, lacking, strict=True):
            size = len(entry.request.labels)
            waits = bool(unknown - labelled) or (bool(blocked) and not blocked.isdisjoint(entry.ids()))
            if not waits or now >= entry.deadline or size > room:
                ready.append(entry)
                continue
            # half of the time, then the rest: most of what is early is found at the first look
            entry.look_at = min(entry.deadline, now + self._wait_seconds / 2)
            self._deferred.append(entry)
            blocked |= entry.ids()
            room -= size
        return ready

    def _commit(
        self, requests: Sequence[CommitRequest], served: Mapping[str, Served]
    ) -> list[CommitResponse]:
        if not requests:
            return []
        receipts = iter(self._opened().append(list(self._submissions(requests, served))))
        return [
            Committed(request.id, list(itertools.islice(receipts, len(request.labels))))
            for request in requests
        ]

    def _submissions(
        self, requests: Sequence[CommitRequest], served: Mapping[str, Served]
    ) -> Iterator[Submission]:
        """Each label with the predictions it may belong to."""
        nameless = [(label, request) for request in requests for label in request.labels if label.id is None]
        alike = iter(self._alike(nameless, requests))
        for request in requests:
            for label in request.labels:
                if label.id is None:
                    candidates = next(alike)
                else:
                    candidates = (served[label.id],) if label.id in served else ()
                yield self._submission(label, request, candidates)

    def _submission(
        self, label: Label, request: CommitRequest, candidates: tuple[Candidate, ...]
    ) -> Submission:
        too_large = abs(label.target) > LARGEST
        return Submission(
            label.target,
            request.received_at,
            label.id,
            label.features,
            candidates,
            # what no later label can make plausible
            f"{self._target} {label.target:g} lies outside the plausible range: it is too large to learn"
            if too_large
            else None,
            None if candidates else label.expected,
            request.source,
            request.schema_hash if label.encoded else "",
            label.encoded,
        )

    def _alike(
        self, nameless: Sequence[tuple[Label, CommitRequest]], requests: Sequence[CommitRequest]
    ) -> list[tuple[Candidate, ...]]:
        """For each label without an id the predictions with its features, oldest first."""
        if not nameless:
            return []
        rows = [
            EncodedRow(label.features or {}, request.schema_hash, label.encoded)
            for label, request in nameless
        ]
        marks = fingerprints(encoded_values(rows, self._encoder, self._schema_hash)).tolist()
        unwritten = self._by_fingerprint(requests)
        found = []
        for mark, written in zip(marks, self._prediction_log.find_by_fingerprint(marks), strict=True):
            sent = unwritten.get(mark, {})
            # written since it was sent, or an id of a client's own that was predicted again: sent is newer
            older = [one for one in written if one.id not in sent]
            found.append((*older, *sent.values())[-SAME_FEATURES:])
        return found

    def _by_fingerprint(self, requests: Sequence[CommitRequest]) -> dict[int, dict[str, Served]]:
        """The predictions that came with requests, by fingerprint and id."""
        sent = [
            one for request in requests for columns in request.served for one in columns.served(self._fields)
        ]
        if not sent:
            return {}
        marks = fingerprints(encoded_values(sent, self._encoder, self._schema_hash)).tolist()
        found: dict[int, dict[str, Served]] = {}
        for mark, one in zip(marks, sent, strict=True):
            found.setdefault(mark, {})[one.id] = one
        return found


class InlineLabelStore:
    """Commits labels in the thread that hands them over, which waits for deferred ones.

    For tests and scripts: a server has a process for it.

    Parameters
    ----------
    joiner
        Does the work; closed with the store.
    """

    def __init__(self, joiner: LabelJoiner) -> None:
        self._joiner = joiner

    def commit(self, requests: Sequence[CommitRequest], settle: SettleCommit, ready: StoreReady) -> None:
        """Commit requests.

        Parameters
        ----------
        requests
            The labels.
        settle
            Called once with each request's reply, before this returns.
        ready
            Called when all are settled.
        """
        for response in self._joiner.process(requests):
            settle(response)
        while (pause := self._joiner.pause) is not None:
            time.sleep(pause)
            for response in self._joiner.process(()):
                settle(response)
        ready()

    def close(self) -> None:
        """Close the journal."""
        self._joiner.close()
