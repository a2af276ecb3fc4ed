"""Threads that work behind those that answer requests."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

__all__ = ["work_behind"]

NICENESS = 5  # above that of the process


def work_behind(work: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread that lets the other threads of its process go first.

    Only Linux gives threads a niceness of their own.
    """

    def run() -> None:
        if sys.platform == "linux":
            os.nice(NICENESS)
        work()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
