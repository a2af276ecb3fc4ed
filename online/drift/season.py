"""Where in the year a row lies, by the calendar among its features: a row may have no clock of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from online.core.schema import Feature
from online.features.value_encoder import Encoder

__all__ = ["Season"]

Floats = npt.NDArray[np.float64]
SlotNumbers = npt.NDArray[np.int64]

SEASON_SLOTS = 12  # months of a year; scores interpolate between two of them
MIN_SLOT_ROWS = 50  # of the reference in every slot
MIN_CYCLES = 0.9  # a year of bootstrap rows may lack some days
DAYS_PER_YEAR = 365.25


class Season:
    """A slow calendar column: the slowest one that went all the way round in the reference.

    Parameters
    ----------
    column
        Its index among the encoded columns, -1 for none: then all rows lie in one slot.
    period
        Its length, in the column's unit.
    """

    def __init__(self, column: int = -1, period: float = 1.0) -> None:
        self.column = column
        self.period = period
        self.slots = SEASON_SLOTS if column >= 0 else 1

    @property
    def known(self) -> bool:
        """Whether there is a calendar."""
        return self.column >= 0

    @classmethod
    def of(cls, features: tuple[Feature, ...], rows: Floats) -> Season:
        """The season of a reference.

        Parameters
        ----------
        features
            The features that the columns encode, in order.
        rows
            Encoded rows in the order of time, (n, columns).

        Returns
        -------
        Season
            One without a column when no calendar of the features is filled.
        """
        filled: list[tuple[float, Season]] = []
        for column, period in calendars(features):
            season = cls(column, period)
            phases = season.phases(rows)
            steps = np.abs((np.diff(phases) + 0.5) % 1.0 - 0.5)  # the short way round
            slots = (phases * SEASON_SLOTS).astype(int) % SEASON_SLOTS
            fewest = np.bincount(slots, minlength=SEASON_SLOTS).min()
            if fewest >= MIN_SLOT_ROWS and steps.sum() >= MIN_CYCLES:
                filled.append((float(steps.sum()), season))
        return min(filled, key=lambda cycles_and_season: cycles_and_season[0])[1] if filled else cls()

    def phases(self, rows: Floats) -> Floats:
        """Share of the cycle gone, (n,) in [0, 1); a row without a date has that of the row before it."""
        if self.column < 0:
            return np.zeros(len(rows))
        values = rows[:, self.column]
        last_known = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
        return np.nan_to_num(values[last_known] / self.period) % 1.0

    def neighbours(self, rows: Floats) -> tuple[SlotNumbers, SlotNumbers, Floats]:
        """The two slots each row lies between, and the weight of the second: (n,) each."""
        position = self.phases(rows) * self.slots - 0.5  # from the middle of a slot to that of the next
        lower = np.floor(position)
        first = lower.astype(np.int64) % self.slots
        return first, (first + 1) % self.slots, position - lower


def calendars(features: tuple[Feature, ...]) -> list[tuple[int, float]]:
    """Columns that go round, and their periods."""
    columns_and_periods = []
    start = 0
    for feature in features:
        columns = Encoder((feature,)).columns
        if feature.kind == "cyclic":
            columns_and_periods.append((start, float(len(feature.values) or feature.period or 1.0)))
        elif feature.kind == "time" and "yearday" in feature.parts:
            columns_and_periods.append((start + columns.index(f"{feature.name}:yearday"), DAYS_PER_YEAR))
        start += len(columns)
    return columns_and_periods
