"""Rows that come in one turn of the event loop are scored together.

As in Clipper's adaptive batching (Crankshaw and others 2017, section 4.3), but without its delay: a batch
holds what has come by then, and a row that comes alone is scored at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Row", "RowBatcher"]

Row = dict[str, Any]

QUIET_SECONDS = 0.00005  # with so long since the last reply, no burst of requests is under way


class RowBatcher:
    """Gives each row's reply as a future, and asks for the replies to many rows at once.

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
        self._pending: list[tuple[Row, asyncio.Future[bytes]]] = []
        self._last_size = 0
        self._flushed_at = 0.0

    def submit(self, row: Row) -> asyncio.Future[bytes]:
        """A row's reply, or what scoring it raised; the future is done already when no other row is near.

        Scoring takes less than half as long for each row of many. But waiting for others costs a turn of the
        event loop, so it is only done where there are others: after a batch of several, or shortly after one.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        self._pending.append((row, future))
        if len(self._pending) > 1:
            return future
        if self._last_size > 1 or time.perf_counter() - self._flushed_at < QUIET_SECONDS:
            loop.call_soon(self._flush)
        else:
            self._flush()
        return future

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        for first in range(0, len(pending), self._max_rows):
            self._settle(pending[first : first + self._max_rows])
        self._last_size = len(pending)
        self._flushed_at = time.perf_counter()

    def _settle(self, batch: list[tuple[Row, asyncio.Future[bytes]]]) -> None:
        try:
            replies = self._answer([row for row, _ in batch])
        except Exception as exc:  # noqa: BLE001 - whoever awaits the future meets it
            self._settle_singly(batch, exc)
            return
        for (_, future), reply in zip(batch, replies, strict=True):
            if not future.done():  # nobody cancelled it
                future.set_result(reply)

    def _settle_singly(self, batch: list[tuple[Row, asyncio.Future[bytes]]], exc: Exception) -> None:
        """A row at fault fails alone."""
        if len(batch) > 1:
            for pair in batch:
                self._settle([pair])
        elif not batch[0][1].done():
            batch[0][1].set_exception(exc)
