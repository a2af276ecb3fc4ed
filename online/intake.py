"""Taking in labels without HTTP: validate, join what was served, commit. What routes and tests call."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import logging
import queue
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from online.columns import ColumnEncoder
from online.encoding import clean, number
from online.errors import BusyError, InputError, JournalError, MillraceError
from online.journal import Journal
from online.ledger import Ledger, Served, identifier
from online.records import Receipt, Submission
from online.schema import LARGEST, Schema
from online.served import Candidate
from online.threads import work_behind

__all__ = ["Intake", "Label", "Outcome", "fulfil"]

log = logging.getLogger(__name__)

GROUP = 64  # requests committed together at most

Outcome = list[Receipt] | MillraceError  # a receipt for each label of a request, or why none was kept


class Label(msgspec.Struct, frozen=True):
    """A validated label, not yet joined with what was served."""

    target: float
    id: str | None
    features: dict[str, Any] | None


class Intake:
    """Accepts labels from any thread; one thread of its own joins and commits them in groups.

    Parameters
    ----------
    schema
        The stream.
    open_journal
        Opens the journal; called in the committing thread, at the first label and again after a failure.
    ledger
        Where served predictions are found.
    clock
        Unix seconds.
    full
        Told the journal's last seq: why no label can be taken in now, if so. None is then.
    expect
        What the model says of encoded rows (n, columns) nobody asked about; None for each where it cannot
        tell.
    """

    def __init__(
        self,
        schema: Schema,
        open_journal: Callable[[], Journal],
        ledger: Ledger,
        clock: Callable[[], float] = time.time,
        full: Callable[[int], BusyError | None] = lambda _: None,
        expect: Callable[[np.ndarray], Sequence[float | None]] = lambda values: [None] * len(values),
    ) -> None:
        self._target = schema.target.name
        self._encoder = ColumnEncoder.of(schema)
        self._fields = frozenset(feature.name for feature in schema.features)
        self._open_journal = open_journal
        self._journal: Journal | None = None
        self._ledger = ledger
        self._clock = clock
        self._full = full
        self._expect = expect
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._thread = work_behind(self._commit_forever, "journal")

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
        """Commit labels of a source; the future holds a receipt for each once all are durable.

        The future raises JournalError or BusyError when nothing was kept.
        """
        future: concurrent.futures.Future[list[Receipt]] = concurrent.futures.Future()
        self.submit(labels, source, functools.partial(fulfil, future))
        return future

    def submit(self, labels: Sequence[Label], source: str | None, settle: Callable[[Outcome], None]) -> None:
        """As :meth:`accept`; ``settle`` is called in the committing thread."""
        self._requests.put(Request(labels, self._clock(), settle, source))

    def close(self) -> None:
        """Commit what is waiting and stop."""
        self._requests.put(None)
        self._thread.join()
        self._drop_journal()

    def _label(self, row: Mapping[str, Any], index: int) -> Label:
        target = self._target
        if target not in row:
            raise InputError(f"the label {target!r} is missing", field=target, index=index)
        value = row[target]
        read = None if isinstance(value, (bool, str)) else number(value)
        if read is None:
            shown = repr(value)[:80]
            raise InputError(f"the label {target!r} must be a finite number, not {shown}", target, index)
        given = row.get("id")
        name = None if given is None else identifier(given, index)
        features = clean(row, self._fields) or None
        if name is None and features is None:
            raise InputError("give the prediction's id, or the row's features", field="id", index=index)
        return Label(read, name, features)

    def _commit_forever(self) -> None:
        while (first := self._requests.get()) is not None:
            group, stopped = self._group(first)
            self._commit(group)
            if stopped:
                return

    def _group(self, first: Request) -> tuple[list[Request], bool]:
        """What waits already is committed together."""
        group = [first]
        while len(group) < GROUP and not self._requests.empty():
            request = self._requests.get()
            if request is None:
                return group, True
            group.append(request)
        return group, False

    def _commit(self, group: list[Request]) -> None:
        try:
            self._journal = self._journal or self._open_journal()
            if (busy := self._full(self._journal.last_seq())) is not None:
                for request in group:
                    request.settle(busy)
                return
            submissions = self._join(group)
            receipts = iter(self._journal.append(submissions))
        except (JournalError, sqlite3.Error) as exc:
            self._drop_journal()  # a file that was restored meanwhile is another one
            refuse(group, exc)
            return
        except Exception as exc:
            log.exception("a group of labels could not be taken in")
            refuse(group, exc)
            return
        for request in group:
            request.settle(list(itertools.islice(receipts, len(request.labels))))

    def _drop_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _join(self, group: list[Request]) -> list[Submission]:
        """Find what was served for each label; another worker may not have written it yet."""
        self._ledger.flush()
        labels = [label for request in group for label in request.labels]
        names = {label.id for label in labels if label.id is not None}
        lonely = {label.id for label in labels if label.features is None}
        served = self._ledger.find(names) if names else {}
        if not lonely <= served.keys():
            time.sleep(2 * self._ledger.flush_seconds)
            served = self._ledger.find(names)
        return self._submissions(group, served)

    def _submissions(self, group: list[Request], served: Mapping[str, Served]) -> list[Submission]:
        """Each label with the predictions it may belong to."""
        labels = [(label, request) for request in group for label in request.labels]
        candidates: list[tuple[Candidate, ...]] = [
            (found,) if (found := served.get(label.id or "")) else () for label, _ in labels
        ]
        expected: list[float | None] = [None] * len(labels)
        alone = [at for at, (label, _) in enumerate(labels) if label.features and not candidates[at]]
        values = self._encoder.values([labels[at][0].features or {} for at in alone])
        nameless = [n for n, at in enumerate(alone) if labels[at][0].id is None]
        for n, several in zip(nameless, self._ledger.alike(values[nameless]), strict=True):
            candidates[alone[n]] = several
        unasked = [n for n, at in enumerate(alone) if not candidates[at]]
        for n, now in zip(unasked, self._expect(values[unasked]) if unasked else (), strict=True):
            expected[alone[n]] = now
        return [
            Submission(
                label.target, request.at, label.id, label.features, several,
                None if abs(label.target) <= LARGEST else self._too_large(label.target), now, request.source,
            )
            for (label, request), several, now in zip(labels, candidates, expected, strict=True)
        ]  # fmt: skip

    def _too_large(self, target: float) -> str:
        """What no later label can make plausible."""
        return f"{self._target} {target:g} lies outside the plausible range: it is too large to learn"


class Request(msgspec.Struct, frozen=True):
    """Labels of one request, and who is told what became of them."""

    labels: Sequence[Label]
    at: float
    settle: Callable[[Outcome], None]
    source: str | None = None


class Future(Protocol):
    """A future of :mod:`asyncio` or :mod:`concurrent.futures`."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: list[Receipt], /) -> None:
        """Give what was waited for."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Say why there is nothing."""


def fulfil(future: Future, outcome: Outcome) -> None:
    """Give a future what became of a request's labels, unless it was cancelled."""
    if future.done():
        return
    if isinstance(outcome, MillraceError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def refuse(group: list[Request], reason: Exception) -> None:
    """Tell every request of a group that nothing of it was kept."""
    for request in group:
        request.settle(JournalError(f"no label of this request was kept: {reason}"))
