"""Generated streams whose drifts are known to the row, and a small online model that is served on them.

Days of 36 rows with a calendar, weather that depends on the season, and a site. What drifts is one
feature, the mix of sites, or only the concept: how the target follows from the features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from online.core.schema import Feature, Schema, Target
from online.features.value_encoder import Encoder

__all__ = ["AT", "BOOTSTRAP", "KINDS", "STREAM_ROWS", "DriftStream", "make", "schema"]

Floats = npt.NDArray[np.float64]

DAY_ROWS = 36  # rows
YEAR = 366
BOOTSTRAP = DAY_ROWS * YEAR
STREAM_ROWS = 10_000
AT = 5000  # the row of the stream at which it drifts
GRADUAL = 2000  # rows a gradual drift takes
PERIOD = 2500  # rows a recurring drift stays, and stays away
LABEL_DELAY = 24  # rows a label is late
FITTED_LABELS = 2000  # labels the model is fitted to

KINDS = (
    "stationary",
    "seasonal",
    "abrupt feature",
    "abrupt categories",
    "abrupt concept",
    "gradual feature",
    "gradual concept",
    "recurring feature",
    "recurring concept",
)
NUMBERS = ("temperature", "wind", "load")
CALENDAR = 6  # encoded columns the model does without: it would extrapolate a gradual drift
STREAM_SITES = ("A", "B", "C")


class DriftStream(NamedTuple):
    """Encoded rows (n, columns), predictions, absolute errors and half-widths (n,) as served, and the
    drifts."""

    schema: Schema
    bootstrap: Floats
    rows: Floats
    predictions: Floats
    errors: Floats
    half_widths: Floats
    drifts: tuple[int, ...]


def make(kind: str, seed: int) -> DriftStream:
    """One stream; equal seeds give equal streams.

    Parameters
    ----------
    kind
        One of ``KINDS``.
    seed
        Which of the streams of that kind.

    Returns
    -------
    DriftStream
        The stream, with its drifts' rows.
    """
    rng = np.random.default_rng([KINDS.index(kind), seed])
    n = BOOTSTRAP + STREAM_ROWS
    strength, drifts = strengths(kind)
    season = np.cos(2 * np.pi * (np.arange(n) // DAY_ROWS % YEAR) / YEAR)
    level = 1.5 if kind != "stationary" else 0.0
    numbers = np.column_stack(
        [-level * season + autocorrelated(rng, n, 0.8), autocorrelated(rng, n, 0.5), rng.normal(size=n)]
    )
    if kind.endswith("feature"):
        numbers[:, 1] += strength
    share = 0.2 + 0.3 * strength if kind.endswith("categories") else np.full(n, 0.2)
    site = np.where(rng.random(n) < share, 2, rng.integers(0, 2, n))
    concept = numbers @ np.array([2.0, 1.0, 0.5]) + np.array([0.0, 1.5, -1.5])[site]
    target = concept + rng.normal(size=n)
    if kind.endswith("concept"):
        target += strength * target[:BOOTSTRAP].std()
    stream_schema = schema(numbers[:BOOTSTRAP], target[:BOOTSTRAP])
    encoder = Encoder.of(stream_schema)
    rows = np.array([encoder.encode(row(i, numbers[i], site[i])).values for i in range(n)])
    predictions, half_widths = served(rows, target)
    errors = np.abs(predictions - target)
    rows_and_target = np.column_stack([rows, target])
    return DriftStream(
        stream_schema,
        rows_and_target[:BOOTSTRAP],
        rows[BOOTSTRAP:],
        predictions[BOOTSTRAP:],
        errors[BOOTSTRAP:],
        half_widths[BOOTSTRAP:],
        drifts,
    )


def strengths(kind: str) -> tuple[Floats, tuple[int, ...]]:
    """How much of the drift there is at each row, 0 to 1, and the rows of the stream at which it begins."""
    row_numbers = np.arange(-BOOTSTRAP, STREAM_ROWS)
    if kind in ("stationary", "seasonal"):
        return np.zeros(len(row_numbers)), ()
    if kind.startswith("gradual"):
        return np.clip((row_numbers - AT) / GRADUAL, 0.0, 1.0) * 1.5, (AT,)
    if kind.startswith("recurring"):
        return ((row_numbers >= PERIOD) & (row_numbers // PERIOD % 2 == 1)).astype(float), (
            PERIOD,
            3 * PERIOD,
        )
    return (row_numbers >= AT).astype(float), (AT,)


def schema(numbers: Floats, targets: Floats) -> Schema:
    """The stream's schema, its ranges those of the bootstrap rows.

    Parameters
    ----------
    numbers
        The bootstrap rows' numeric features, (rows, columns).
    targets
        Their labels.

    Returns
    -------
    Schema
        The schema.
    """
    ranges = zip(NUMBERS, numbers.min(axis=0), numbers.max(axis=0), strict=True)
    return Schema(
        "generated",
        Target("target", float(targets.min()), float(targets.max())),
        (
            Feature("day", "cyclic", low=0, high=YEAR - 1, period=YEAR),
            Feature("hour", "cyclic", low=0, high=23, period=24),
            *(Feature(name, "numeric", low=float(low), high=float(high)) for name, low, high in ranges),
            Feature("site", "category", values=STREAM_SITES),
        ),
    )


def row(i: int, numbers: Floats, site: int) -> dict[str, object]:
    """A row as a client sends it."""
    named = dict(zip(NUMBERS, numbers.tolist(), strict=True))
    return {
        "day": i // DAY_ROWS % YEAR,
        "hour": i % DAY_ROWS * 24 // DAY_ROWS,
        "site": STREAM_SITES[site],
    } | named


def autocorrelated(rng: np.random.Generator, n: int, rho: float) -> Floats:
    """AR(1) noise of unit variance."""
    noise = rng.normal(size=n) * np.sqrt(1 - rho**2)
    series = np.empty(n)
    last = rng.normal()
    for i in range(n):
        last = series[i] = rho * last + noise[i]
    return series


def served(rows: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Predictions and half-widths of a ridge regression, fitted anew every day to labels that come late."""
    x = np.column_stack([rows[:, CALENDAR:], np.ones(len(rows))])
    x[:, :-1] = (x[:, :-1] - x[:BOOTSTRAP, :-1].mean(axis=0)) / x[:BOOTSTRAP, :-1].std(axis=0)
    predictions, half_widths = np.zeros(len(x)), np.zeros(len(x))
    for start in range(0, len(x), DAY_ROWS):
        known = slice(max(0, start - LABEL_DELAY - FITTED_LABELS), max(0, start - LABEL_DELAY))
        a, y = x[known], target[known]
        weights = np.linalg.solve(a.T @ a + np.eye(a.shape[1]), a.T @ y)
        predictions[start : start + DAY_ROWS] = x[start : start + DAY_ROWS] @ weights
        missed = np.abs(target[known] - predictions[known])
        half_widths[start : start + DAY_ROWS] = np.quantile(missed, 0.9) if len(missed) else 0.0
    return predictions, half_widths
