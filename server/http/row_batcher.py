"""Rows that come in one turn of the event loop are scored together.

As in Clipper's adaptive batching (Crankshaw and others 2017, section 4.3), but without its delay: a batch
holds what has come by then, and a row that comes alone is scored at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Row", "RowBatcher", "Settle"]

Row = dict[str, Any]
Settle = Callable[[bytes | Exception], None]  # is told the reply, or why there is none

QUIET_SECONDS = 0.00005  # with so long since the last reply, no burst of requests is under way

log = logging.getLogger(__name__)


class RowBatcher:
    """Asks for the replies to many rows at once, and tells each row's caller its own.

    The callers are told within the turn of the event loop that scores the rows, where futures would tell them
    in the next one: new requests come in between, and batches stay small (decision 014).

    Only the event loop's own thread may use it.

    Parameters
    ----------
    answer
        Gives the reply to each row of a batch, in order.
    max_rows
        Rows in one batch at most.
    """

    def __init__(self, answer: Callable[[list[Row]], list[bytes]], max_rows: int) -> None:
        self._answer = answer
        self._max_rows = max_rows
        self._pending: list[tuple[Row, Settle]] = []
        self._last_size = 0
        self._flushed_at = 0.0

    def submit(self, row: Row, settle: Settle) -> None:
        """Have a row scored: before this returns when no other row is near, else with those that come now.

        Scoring takes less than half as long for each row of many. But waiting for others costs a turn of the
        event loop, so it is only done where there are others: after a batch of several, or shortly after one.

        Parameters
        ----------
        row
            As it came.
        settle
            Called with the row's reply, or with what scoring it raised.
        """
        self._pending.append((row, settle))
        if len(self._pending) > 1:
            return
        if self._last_size > 1 or time.perf_counter() - self._flushed_at < QUIET_SECONDS:
            asyncio.get_running_loop().call_soon(self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        for first in range(0, len(pending), self._max_rows):
            self._score(pending[first : first + self._max_rows])
        self._last_size = len(pending)
        self._flushed_at = time.perf_counter()

    def _score(self, batch: list[tuple[Row, Settle]]) -> None:
        try:
            replies: Sequence[bytes | Exception] = self._answer([row for row, _ in batch])
        except Exception as exc:  # noqa: BLE001 - the caller is told
            if len(batch) > 1:  # a row at fault fails alone
                for pair in batch:
                    self._score([pair])
                return
            replies = [exc]
        for (_, settle), reply in zip(batch, replies, strict=True):
            try:
                settle(reply)
            except Exception:  # the others are still to be told
                log.exception("a reply could not be sent")
