"""Rows of the generated stream, as a client holds them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from online.core.csv_rows import csv_rows

TARGET = "Production"


def stream_rows(home: Path, count: int) -> tuple[list[dict[str, Any]], list[float]]:
    """The next rows still to come: what is asked with, and the labels."""
    with (home / "data" / "stream.csv").open(newline="") as file:
        rows = list(itertools.islice(csv_rows(file), count))
    labels = [float(row.pop(TARGET) or "nan") for row in rows]
    return [{k: sent(text) for k, text in row.items() if k != "Date"} for row in rows], labels


def sent(text: str | None) -> int | str:
    """A cell as a client sends it: a whole number as one, anything else as it stands."""
    return int(text) if text and text.isdigit() else text or ""
