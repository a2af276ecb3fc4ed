"""Where the real streams are, for the tests that use them. They are optional and not part of the project."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bootstrap.reading.split import read_frame

VARIABLE = "MILLRACE_STREAMS"
BESIDE = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def real_streams() -> Path | None:
    """The folder with ``streams.json`` and its ``*.csv.gz``, or None when there is none."""
    named = os.environ.get(VARIABLE)
    folder = Path(named) if named else BESIDE
    return folder.resolve() if (folder / "streams.json").exists() else None


needs_real_streams = pytest.mark.skipif(
    real_streams() is None,
    reason=f"no real streams: set {VARIABLE} to a folder with streams.json and *.csv.gz",
)


def described(name: str) -> dict[str, Any]:
    """One stream's entry in ``streams.json``."""
    folder = real_streams()
    assert folder is not None
    entry: dict[str, Any] = json.loads((folder / "streams.json").read_text())[name]
    return entry


def real_rows(name: str) -> pd.DataFrame:
    """One stream's rows."""
    folder = real_streams()
    assert folder is not None
    return read_frame(folder / described(name)["file"])
