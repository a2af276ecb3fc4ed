"""Rows of the generated stream, as a client holds them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

TARGET = "Production"


def stream_rows(home: Path, count: int) -> tuple[list[dict[str, Any]], list[float]]:
    """The next rows still to come: what is asked with, and the labels."""
    with (home / "data" / "stream.csv").open(newline="") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(count), strict=False)]
    labels = [float(row.pop(TARGET)) for row in rows]
    asked = [{k: int(v) if v.isdigit() else v for k, v in row.items() if k != "Date"} for row in rows]
    return asked, labels
