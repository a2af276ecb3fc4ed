"""Taking in labels without HTTP: validate, and commit in groups. What routes and tests call."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from online.core.background import start_background_thread
from online.core.errors import InputError, MillraceError
from online.core.schema import Schema
from online.features.encoder import clean, number
from online.labels.label_joiner import Joins, Label, Request
from online.storage.prediction_log import identifier
from online.storage.records import Receipt

__all__ = ["Intake", "Outcome", "fulfil"]

GROUP, GROUP_LABELS = 64, 20_000  # requests committed together at most, and labels that are enough

Outcome = list[Receipt] | MillraceError  # a receipt for each label of a request, or why none was kept


class Intake:
    """Accepts labels from any thread; one thread of its own has them joined and committed in groups.

    Parameters
    ----------
    schema
        The stream.
    joiner
        Joins labels with what was served and commits them; closed with the intake.
    clock
        Unix seconds.
    learned
        The last journal record that served predictions reflect; None where that is not known.
    """

    def __init__(
        self,
        schema: Schema,
        joiner: Joins,
        clock: Callable[[], float] = time.time,
        learned: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._target = schema.target.name
        self._fields = frozenset(feature.name for feature in schema.features)
        self._joiner = joiner
        self._clock = clock
        self._learned = learned
        self._requests: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._thread = start_background_thread(self._commit_forever, "journal")

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

        The future raises BusyError when nothing was kept, JournalError when that or, its message says so,
        nobody knows.
        """
        future: concurrent.futures.Future[list[Receipt]] = concurrent.futures.Future()
        self.submit(labels, source, functools.partial(fulfil, future))
        return future

    def submit(self, labels: Sequence[Label], source: str | None, settle: Callable[[Outcome], None]) -> None:
        """As :meth:`accept`; ``settle`` is called in the committing thread."""
        self._requests.put(Waiting(Request(labels, self._clock(), source), settle))

    def close(self) -> None:
        """Commit what is waiting and stop."""
        self._requests.put(None)
        self._thread.join()
        self._joiner.close()

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

    def _group(self, first: Waiting) -> tuple[list[Waiting], bool]:
        """What waits already is committed together."""
        group, labels = [first], len(first.request.labels)
        while len(group) < GROUP and labels < GROUP_LABELS and not self._requests.empty():
            waiting = self._requests.get()
            if waiting is None:
                return group, True
            group.append(waiting)
            labels += len(waiting.request.labels)
        return group, False

    def _commit(self, group: list[Waiting]) -> None:
        try:
            receipts = iter(self._joiner.take_in([one.request for one in group], self._learned()))
        except MillraceError as exc:
            for one in group:
                one.settle(exc)
            return
        for one in group:
            one.settle(list(itertools.islice(receipts, len(one.request.labels))))


class Waiting(msgspec.Struct, frozen=True):
    """A request, and who is told what became of it."""

    request: Request
    settle: Callable[[Outcome], None]


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
