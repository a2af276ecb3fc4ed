"""Memory that a learner holds while it learns a long stream of labels in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

from online.core import config as configuration
from online.core.home import Home
from online.learning.learner import Learner
from online.storage.journal import Journal
from online.storage.records import Submission
from tests.support.processes import resident_mb

__all__ = ["soak"]

MakeRows = Callable[[int, int], tuple[list[dict[str, Any]], list[float]]]


def soak(home: Home, labels: int, part: int, make_rows: MakeRows, console: Console) -> dict[str, Any]:
    """Learn labels, and measure this process after every tenth of them.

    Parameters
    ----------
    home
        A bootstrapped home.
    labels
        How many to learn.
    part
        How many are put into the journal at a time.
    make_rows
        Makes so many rows and their labels from a seed.
    console
        Where each measurement is shown.

    Returns
    -------
    dict
        ``resident_mb``: megabytes by the number of labels learned by then; ``labels`` and
        ``labels_per_second``.
    """
    config = configuration.load(home.config)
    journal = Journal(home.journal, config.stream)
    resident: dict[int, float] = {}
    began = time.perf_counter()
    with Learner(home, config) as learner:
        for done in range(part, labels + 1, part):
            rows, targets = make_rows(part, done)
            now = time.time()
            journal.append([Submission(y, now, None, row) for row, y in zip(rows, targets, strict=True)])
            learner.catch_up()
            if done % (labels // 10) < part:
                resident[done] = resident_mb(os.getpid())
                console.print(f"{done:,} labels: {resident[done]:.0f} MB")
    journal.close()
    seconds = time.perf_counter() - began
    return {"labels": labels, "resident_mb": resident, "labels_per_second": labels / seconds}
