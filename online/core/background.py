"""Threads that work beside those that answer requests."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

__all__ = ["start_background_thread"]

THREAD_NICENESS = 5  # above that of the process


def start_background_thread(work: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread that yields the processor to the other threads of its process.

    Parameters
    ----------
    work
        Runs in the thread; the thread ends when it returns.
    name
        The thread's name, as debuggers and ``/proc/<pid>/task`` show it.

    Returns
    -------
    threading.Thread
        The thread, started.
    """

    def run() -> None:
        # POSIX gives niceness to a process, Linux to each thread (nice(2), "C library/kernel
        # differences"): anywhere else this would slow the threads that answer requests as well.
        if sys.platform == "linux":
            os.nice(THREAD_NICENESS)
        work()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
