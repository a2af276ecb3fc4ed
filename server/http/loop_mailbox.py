"""Calls that other threads have the event loop make: all that wait are made in one go."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
from collections.abc import Callable
from typing import Any

__all__ = ["Handover"]


class Handover:
    """Where threads leave calls for an event loop.

    Waking the loop costs more than most calls, so it is woken for the first one only, and makes whatever has
    been left by then.

    Parameters
    ----------
    loop
        Makes the calls; once it is closed, none are made.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: collections.deque[Callable[[], None]] = collections.deque()
        self._woken = False

    def leave(self, call: Callable[..., None], *arguments: Any) -> None:
        """Leave a call. Any thread may."""
        self._calls.append(functools.partial(call, *arguments))
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._make)

    def _make(self) -> None:
        self._woken = False  # before any is taken: one that is left from now on wakes the loop again
        for _ in range(len(self._calls)):
            self._calls.popleft()()
