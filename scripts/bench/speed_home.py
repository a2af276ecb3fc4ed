"""A home to measure speed in: a made stream of ten features, bootstrapped with the default pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from bootstrap.choose_context import choose_context
from bootstrap.reading.bootstrap_rows import pairs
from bootstrap.reading.infer import infer_schema
from bootstrap.reading.split import split_rows
from bootstrap.train import train
from online.core import config as configuration
from online.core.config import Config
from online.core.home import Home

__all__ = ["TARGET", "made_frame", "made_rows", "make_home"]

TARGET = "load"
MADE_SITES = ("north", "east", "south", "west")


def made_frame(rows: int, seed: int = 1) -> pd.DataFrame:
    """A stream of hourly loads: eight numbers, a site and the hour, and what they make of the target.

    Parameters
    ----------
    rows
        How many.
    seed
        Equal seeds give equal rows.

    Returns
    -------
    DataFrame
        The features, and the target ``load``.
    """
    rng = np.random.default_rng(seed)
    numbers = {f"x{number}": rng.normal(size=rows).round(4) for number in range(8)}
    hour = np.arange(rows) % 24
    site = rng.choice(MADE_SITES, size=rows)
    load = (
        40 + 10 * np.sin(2 * np.pi * hour / 24) + 5 * np.where(site == "north", numbers["x0"], numbers["x1"])
    )
    load += 3 * np.where(numbers["x2"] > 0, numbers["x3"], -numbers["x4"]) + rng.normal(size=rows)
    return pd.DataFrame({**numbers, "site": site, "hour": hour, TARGET: load.round(4)})


def made_rows(rows: int, seed: int = 2) -> tuple[list[dict[str, Any]], list[float]]:
    """Rows as a client sends them, and their labels.

    Parameters
    ----------
    rows
        How many.
    seed
        Equal seeds give equal rows.

    Returns
    -------
    tuple of list of dict and list of float
        The rows, and their labels.
    """
    records: list[Any] = made_frame(rows, seed).to_dict("records")
    return records, [row.pop(TARGET) for row in records]


def make_home(root: Path, rows: int) -> Home:
    """Bootstrap a model on so many rows in a folder; what is there already is used again.

    Parameters
    ----------
    root
        The folder.
    rows
        How many rows the model is trained and validated on.

    Returns
    -------
    Home
        The bootstrapped home.
    """
    home = Home(root).create()
    if home.plan.exists():
        return home
    frame = made_frame(rows)
    schema = infer_schema(frame, stream="speed", target=TARGET)
    schema = choose_context(schema, *zip(*pairs(frame, schema), strict=True))
    config = Config(schema.stream, schema.target, schema.features, schema.context)
    home.config.write_text(configuration.dump(config))
    for name, part in zip(("train", "validation"), split_rows(frame, 0.2), strict=True):
        part.to_csv(home.data / f"{name}.csv", index=False)
    train(home, config, Console(quiet=True))
    return home
