"""Requests that are tried again: what may pass, how often, and how long to wait in between."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import httpx
import tenacity

__all__ = ["TransientError", "asked_seconds", "retrying"]


class TransientError(Exception):
    """An attempt failed in a way that may pass.

    Parameters
    ----------
    reason
        What happened, for people.
    asked
        Seconds that the other side asked to wait, if it did.
    """

    def __init__(self, reason: str, asked: float | None = None) -> None:
        super().__init__(reason)
        self.asked = asked


def retrying(
    stop: tenacity.stop.StopBaseT,
    *,
    first_seconds: float,
    longest_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    jitter: random.Random | None = None,
) -> tenacity.Retrying:
    """What calls a function again while it raises :class:`TransientError`.

    Parameters
    ----------
    stop
        When to give up, as tenacity says it; the last error is then raised.
    first_seconds
        The wait after the first attempt; each further one is twice as long.
    longest_seconds
        No wait is longer, also where the other side asks for it.
    sleep
        How to wait.
    jitter
        Makes each wait that nobody asked for longer or shorter by up to a half, so that clients which failed
        together do not come again together.

    Returns
    -------
    tenacity.Retrying
        Call it with the function.
    """

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, TransientError) and error.asked is not None:
            return min(error.asked, longest_seconds)
        seconds = min(first_seconds * 2.0 ** (state.attempt_number - 1), longest_seconds)
        return seconds * (jitter.uniform(0.5, 1.5) if jitter else 1.0)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        stop=stop,
        wait=wait,
        sleep=sleep,
        reraise=True,
    )


def asked_seconds(reply: httpx.Response) -> float | None:
    """The whole seconds in a reply's ``Retry-After``; None where there are none."""
    header = reply.headers.get("retry-after", "").strip()
    return float(header) if header.isdigit() else None
