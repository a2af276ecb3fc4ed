"""How a process is told to stop: by signals, or because its supervisor is gone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

__all__ = ["end_with_parent", "sleep_until_stopped", "stopped_by_signals"]

STOP_CHECK_SECONDS = 0.05


def stopped_by_signals() -> Callable[[], bool]:
    """Take SIGTERM, SIGINT and SIGHUP from now on; returns whether one has come.

    A list and no threading.Event: a handler runs in the main thread between any two instructions, also
    while that thread holds the event's lock, and setting the event would then wait for ever.
    """
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received_number, _frame: received.append(received_number))
    return lambda: bool(received)


def sleep_until_stopped(seconds: float, stopped: Callable[[], bool]) -> None:
    """Sleep, but end early when told to stop.

    Parameters
    ----------
    seconds
        How long at most.
    stopped
        Looked at every 50 ms: a Python handler does not end a sleep, which goes on after it (PEP 475).
    """
    deadline = time.monotonic() + seconds
    while not stopped() and (left := deadline - time.monotonic()) > 0.0:
        time.sleep(min(left, STOP_CHECK_SECONDS))


def end_with_parent(fd: int) -> None:
    """Terminate this process when the other end of a pipe closes: when its supervisor is gone.

    The kernel closes it however the supervisor ended, by SIGKILL too. No child stays behind to hold the
    port, the learner's lock or the prediction log.
    """

    def wait() -> None:
        os.read(fd, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
