"""Labels joined with what was served, and committed to the journal: what the intake has done for it."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from online.core.errors import BusyError, JournalError
from online.core.schema import LARGEST, Schema
from online.features.column_encoder import ColumnEncoder
from online.storage.journal import Journal
from online.storage.prediction_log import PredictionLog, Served
from online.storage.records import Receipt, Submission
from online.storage.served_predictions import Candidate, is_new

__all__ = ["Joiner", "Joins", "Label", "Request", "refusal"]

log = logging.getLogger(__name__)

RETRY_SECONDS = 2  # when a client that was refused should come again
LONGEST_WAIT_SECONDS = 10.0  # for what another worker has served


class Label(msgspec.Struct, frozen=True, array_like=True):
    """A validated label, not yet joined with what was served."""

    target: float
    id: str | None
    features: dict[str, Any] | None


class Request(msgspec.Struct, frozen=True, array_like=True):
    """Labels that came together: when, in unix seconds, and who sent them."""

    labels: Sequence[Label]
    at: float
    source: str | None = None


class Joins(Protocol):
    """What takes in requests of labels, here or in a process of its own; one thread at a time."""

    def take_in(self, requests: Sequence[Request], learned: int | None) -> list[Receipt]:
        """Commit requests together, durable on return; a receipt for each label, in order.

        Parameters
        ----------
        requests
            The labels.
        learned
            The last journal record that served predictions reflect; None where that is not known.

        Raises
        ------
        BusyError
            Too many labels wait to be learned: nothing was kept.
        JournalError
            The journal failed; the message says what became of the labels.
        """

    def close(self) -> None:
        """Let go of files and processes."""


class Joiner:
    """Joins labels with what was served, and appends them to the journal.

    Parameters
    ----------
    schema
        The stream.
    open_journal
        Opens the journal; called at the first label and again after a failure.
    ledger
        Where served predictions are found.
    max_waiting
        How far the journal may be ahead of what is learned, in records; 0 for any.
    flush
        Has what was served last written to the ledger's file; the ledger's own by default.
    expect
        What the model says of encoded rows (n, columns) nobody asked about; None for each where it cannot
        tell.
    """

    def __init__(
        self,
        schema: Schema,
        open_journal: Callable[[], Journal],
        ledger: PredictionLog,
        *,
        max_waiting: int = 0,
        flush: Callable[[], None] | None = None,
        expect: Callable[[np.ndarray], Sequence[float | None]] = lambda values: [None] * len(values),
    ) -> None:
        self._target = schema.target.name
        self._encoder = ColumnEncoder.of(schema)
        self._open_journal = open_journal
        self._journal: Journal | None = None
        self._ledger = ledger
        self._max_waiting = max_waiting
        self._flush = flush or ledger.flush
        self._expect = expect

    def take_in(self, requests: Sequence[Request], learned: int | None) -> list[Receipt]:
        """As :class:`Joins` says; on a JournalError, nothing was kept."""
        try:
            self._journal = self._journal or self._open_journal()
            self._refuse_if_full(self._journal.last_seq(), learned)
            return self._journal.append(self._submissions(requests))
        except BusyError:
            raise
        except (JournalError, sqlite3.Error) as exc:
            self.close()  # a file that was restored meanwhile is another one
            raise refusal(exc) from exc
        except Exception as exc:
            log.exception("a group of labels could not be taken in")
            raise refusal(exc) from exc

    def close(self) -> None:
        """Close the journal; it is opened again when labels come."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _refuse_if_full(self, last: int, learned: int | None) -> None:
        """Raise BusyError where the journal, its last record being ``last``, is too far ahead."""
        if not self._max_waiting or learned is None or last - learned <= self._max_waiting:
            return
        raise BusyError(
            f"{last - learned} labels wait to be learned, and no more than {self._max_waiting} may"
            " (learner.max_waiting): send these again later",
            RETRY_SECONDS,
        )

    def _served(self, labels: Sequence[Label]) -> Mapping[str, Served]:
        """The predictions that labels name.

        What was served last is written first unless each label has an id that only one prediction has, and
        that is found. Another worker may not have written it yet.
        """
        names = {label.id for label in labels if label.id is not None}
        sure = all(label.id is not None and is_new(label.id) for label in labels)
        served = self._ledger.find(names) if sure else {}
        if not (sure and names <= served.keys()):
            self._flush()
            served = self._ledger.find(names)
        if not {label.id for label in labels if label.features is None} <= served.keys():
            time.sleep(min(2 * self._ledger.flush_seconds, LONGEST_WAIT_SECONDS))
            served = self._ledger.find(names)
        return served

    def _submissions(self, requests: Sequence[Request]) -> list[Submission]:
        """Each label with the predictions it may belong to."""
        labels = [(label, request) for request in requests for label in request.labels]
        served = self._served([label for label, _ in labels])
        candidates: list[tuple[Candidate, ...]] = [
            (found,) if (found := served.get(label.id or "")) else () for label, _ in labels
        ]
        expected: list[float | None] = [None] * len(labels)
        alone = [at for at, (label, _) in enumerate(labels) if label.features and not candidates[at]]
        values = self._encoder.values([labels[at][0].features or {} for at in alone])
        nameless = [n for n, at in enumerate(alone) if labels[at][0].id is None]
        for n, several in zip(nameless, self._ledger.find_by_features(values[nameless]), strict=True):
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


def refusal(reason: object) -> JournalError:
    """Why no label of a group was kept."""
    return JournalError(f"no label of this request was kept: {reason}")
