"""What passes between the process that takes labels in and the one that commits them: one request, one reply.

A :class:`CommitRequest` carries all that only its sender knows, so that nothing is asked back; a reply names
the request it belongs to, as replies may come in another order than requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from online.core.errors import BusyError, JournalError, MillraceError
from online.storage.records import Receipt
from online.storage.served_predictions import ServedColumns

__all__ = [
    "CommitRequest",
    "CommitResponse",
    "Committed",
    "Label",
    "LabelStore",
    "Rejected",
    "SettleCommit",
    "StoreReady",
    "error_of",
]


class Label(msgspec.Struct, frozen=True, array_like=True):
    """A validated label, not yet joined with what was served.

    ``encoded`` holds what the features encode to (little-endian float64, NaN where one is missing) and
    ``expected`` what the model says of them now, in target units; both only where the sender knows of no
    prediction that the label belongs to.
    """

    target: float
    id: str | None
    features: dict[str, Any] | None
    encoded: bytes = b""
    expected: float | None = None


class CommitRequest(msgspec.Struct, frozen=True, array_like=True):
    """Labels that came together, and what their sender knows.

    ``received_at`` is in unix seconds, ``source`` who sent the labels, ``learned_seq`` the last journal
    record that served predictions reflect, ``schema_hash`` the schema that ``encoded`` is of. ``served``
    holds the predictions that labels may belong to and that the prediction log has not written yet.
    """

    id: int
    labels: Sequence[Label]
    received_at: float
    source: str | None = None
    learned_seq: int | None = None
    schema_hash: str = ""
    served: Sequence[ServedColumns] = ()


class Committed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The reply when all labels of a request are durable: a receipt for each, in order."""

    request_id: int
    receipts: list[Receipt]


class Rejected(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The reply when no label of a request was kept, or nobody knows; ``message`` says which.

    ``retry_seconds`` is given where the sender only came too early.
    """

    request_id: int
    message: str
    retry_seconds: int | None = None


CommitResponse = Committed | Rejected
SettleCommit = Callable[[CommitResponse], None]  # is told what became of a request
StoreReady = Callable[[], None]  # is told that a store would take more


class LabelStore(Protocol):
    """What commits labels, in this process or in another one."""

    def commit(self, requests: Sequence[CommitRequest], settle: SettleCommit, ready: StoreReady) -> None:
        """Have requests committed; only one thread calls this.

        Parameters
        ----------
        requests
            The labels. Those handed over together may be committed together.
        settle
            Called once with each request's reply, from any thread, now or later.
        ready
            Called once, from any thread, when more would be committed at once: not before, requests are best
            gathered, as a commit takes about as long for one label as for a hundred.
        """

    def close(self) -> None:
        """Finish what was handed over, and let go of files and processes."""


def error_of(rejected: Rejected) -> MillraceError:
    """The error that tells a client why its labels were rejected."""
    if rejected.retry_seconds is not None:
        return BusyError(rejected.message, rejected.retry_seconds)
    return JournalError(rejected.message)
