"""Where in the year a row stands, by whatever calendar its features carry."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from online.core.schema import Feature
from online.features.encoder import Encoder

__all__ = ["SLOTS", "Season"]

Floats = npt.NDArray[np.float64]

SLOTS = 12
FEWEST_ROWS = 50  # of the reference in every slot
FEWEST_CYCLES = 0.9
YEARDAYS = 365.25


class Season:
    """A slow calendar column: the one that went round most slowly in the reference, yet all the way.

    Parameters
    ----------
    column
        Its place among the encoded columns, -1 for none: then all rows stand in one slot.
    period
        Its length.
    """

    def __init__(self, column: int = -1, period: float = 1.0) -> None:
        self.column = column
        self.period = period
        self.slots = SLOTS if column >= 0 else 1

    @property
    def known(self) -> bool:
        """Whether there is a calendar."""
        return self.column >= 0

    @classmethod
    def of(cls, features: tuple[Feature, ...], rows: Floats) -> Season:
        """The season of a reference: encoded rows (n, columns) in the order of time."""
        found: list[tuple[float, Season]] = []
        for column, period in calendars(features):
            season = cls(column, period)
            phases = season.phases(rows)
            steps = np.abs((np.diff(phases) + 0.5) % 1.0 - 0.5)
            filled = np.bincount((phases * SLOTS).astype(int) % SLOTS, minlength=SLOTS).min() >= FEWEST_ROWS
            if filled and steps.sum() >= FEWEST_CYCLES:
                found.append((float(steps.sum()), season))
        return min(found, key=lambda one: one[0])[1] if found else cls()

    def phases(self, rows: Floats) -> Floats:
        """Share of the cycle gone, (n,) in [0, 1); a row without a date stands where the one before it
        did."""
        if self.column < 0:
            return np.zeros(len(rows))
        values = rows[:, self.column]
        known = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
        return np.nan_to_num(values[known] / self.period) % 1.0

    def places(self, rows: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
        """The two slots each row stands between, and the share of the second."""
        at = self.phases(rows) * self.slots - 0.5
        lower = np.floor(at)
        first = lower.astype(np.int64) % self.slots
        return first, (first + 1) % self.slots, at - lower


def calendars(features: tuple[Feature, ...]) -> list[tuple[int, float]]:
    """Columns that go round, and their periods."""
    found = []
    start = 0
    for feature in features:
        columns = Encoder((feature,)).columns
        if feature.kind == "cyclic":
            found.append((start, float(len(feature.values) or feature.period or 1.0)))
        elif feature.kind == "time" and "yearday" in feature.parts:
            found.append((start + columns.index(f"{feature.name}:yearday"), YEARDAYS))
        start += len(columns)
    return found
