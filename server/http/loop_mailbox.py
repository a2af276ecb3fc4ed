"""Calls that other threads ask an event loop to make."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
from collections.abc import Callable
from typing import Any

__all__ = ["LoopMailbox"]


class LoopMailbox:
    """A queue of calls that threads post to and an event loop empties.

    Waking the loop costs more than most calls (a write to its pipe and a turn of the loop), so only the first
    call wakes it, and it makes all that were posted by then.

    Parameters
    ----------
    loop
        Makes the calls; once it is closed, it makes none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: collections.deque[Callable[[], None]] = collections.deque()
        self._awake = False

    def post(self, call: Callable[..., None], *arguments: Any) -> None:
        """Have a call made by the loop. Any thread may.

        Parameters
        ----------
        call
            What is called.
        arguments
            What with.
        """
        self._calls.append(functools.partial(call, *arguments))
        if not self._awake:
            self._awake = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._make_calls)

    def _make_calls(self) -> None:
        self._awake = False  # before any is taken: one that is posted from now on wakes the loop again
        for _ in range(len(self._calls)):
            self._calls.popleft()()
