"""The learner's memory stops growing: a short soak; ``make soak`` is the long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from online.core.home import Home
from tests.support.rows import stream_rows
from tests.support.soaking import soak


@pytest.mark.slow
def test_the_learners_memory_stays_as_it_is_while_labels_come(home: Path) -> None:
    rows, labels = stream_rows(home, 600)

    def rows_of(count: int, _: int) -> tuple[list[dict[str, Any]], list[float]]:
        return rows[:count], labels[:count]

    found = soak(Home(home), 4000, 400, rows_of, Console(quiet=True))
    assert found["labels"] == 4000
    sizes = list(found["resident_mb"].values())
    assert len(sizes) == 10
    assert sizes[-1] < 1.5 * sizes[0]
