"""What the bootstrap rows say is normal for each signal, season by season.

Rows become scores that are near zero while nothing changes, whatever the season:

- a number has two scores: its mid-rank among the reference of the same season, from -1 to 1, which a shift
  moves, and that rank's distance from the middle, which a change of spread moves;
- a category has one for each of its frequent values: 1 or 0, whether the row has it, minus its share in that
  season.

Features that are calendars move on by themselves and get no scores; whether they are missing or out of range
is watched elsewhere (:mod:`online.drift.rare_events`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from online.core.schema import Schema
from online.drift.season import Season, SlotNumbers
from online.features.value_encoder import Encoder

__all__ = ["PREDICTION", "Reference", "Signal"]

Floats = npt.NDArray[np.float64]
SlotRows = tuple[int, npt.NDArray[np.int64]]

PREDICTION = "prediction"
MIN_VALUE_SHARE = 0.01  # of the rows with a category, for a score of its own
MAX_CATEGORIES = 8  # categories with a score of their own
MAX_SLOT_VALUES = (
    4000  # of a number kept in a season's slot: ranks are good to 1 in 4000, and memory is bounded
)
MIN_CHANGE_RATE = 0.01  # share of rows with another category than the row before; below it is a calendar


class Signal(NamedTuple):
    """What is watched for drift: a feature, or the prediction.

    ``columns`` are its encoded columns, ``series`` its scores' columns, ``values`` its categories with a
    score of their own, none for a number.
    """

    name: str
    columns: slice
    series: slice
    values: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether it is a number."""
        return not self.values


class Reference:
    """Scores of rows against the bootstrap rows.

    Parameters
    ----------
    schema
        The stream.
    rows
        Encoded bootstrap rows in the order of time with the target as last column, (n, columns + 1).
    """

    def __init__(self, schema: Schema, rows: Floats) -> None:
        self.season = Season.of(schema.used, rows)
        self.signals: list[Signal] = []
        self.width = 0
        self._sorted: dict[str, list[Floats]] = {}  # a number's values in each slot
        self._shares: dict[str, Floats] = {}  # (slots, values) of a category
        self._value_columns: dict[str, list[int]] = {}  # which of a category's columns have a score
        first, second, weight = self.season.neighbours(rows)
        nearest = np.where(weight < 0.5, first, second)
        slots = [rows[nearest == slot] for slot in range(self.season.slots)]
        start = 0
        for feature in schema.used:
            names = Encoder((feature,)).columns
            columns = slice(start, start + len(names))
            start = columns.stop
            if feature.kind == "numeric":
                self._add_number(feature.name, columns, slots)
            elif feature.kind == "category" and change_rate(rows[:, columns]) >= MIN_CHANGE_RATE:
                self._add_category(feature.name, columns, slots, feature.values)
        # the target stands for the predictions until enough of these were seen
        self._add_number(PREDICTION, slice(start, start + 1), slots)

    def scores(self, rows: Floats) -> Floats:
        """Scores (n, width) of encoded rows, the prediction their last column; 0 where a value is missing."""
        first, second, weight = self.season.neighbours(rows)
        nearest = [(1.0 - weight, group_by_slot(first)), (weight, group_by_slot(second))]
        scores = np.zeros((len(rows), self.width))
        for signal in self.signals:
            values = rows[:, signal.columns]
            if signal.numeric:
                scores[:, signal.series] = self._rank_scores(signal.name, values[:, 0], nearest)
            else:
                shares = self._shares[signal.name]
                usual = shares[first] + weight[:, None] * (shares[second] - shares[first])
                scores[:, signal.series] = values[:, self._value_columns[signal.name]] - usual
        return np.nan_to_num(scores)

    def _rank_scores(self, name: str, values: Floats, nearest: list[tuple[Floats, list[SlotRows]]]) -> Floats:
        """Mid-ranks from -1 to 1 and their distance from the middle, between the two nearest slots' ranks."""
        rank = np.zeros(len(values))
        for weight, slots in nearest:
            for slot, rows in slots:
                ordered, slot_values = self._sorted[name][slot], values[rows]
                twice_below = ordered.searchsorted(slot_values, "left") + ordered.searchsorted(
                    slot_values, "right"
                )
                rank[rows] += weight[rows] * (twice_below / max(len(ordered), 1) - 1.0)
        rank[np.isnan(values)] = np.nan
        # of a uniform rank, the mean distance from the middle is a half
        return np.column_stack([rank, np.abs(rank) - 0.5])

    def _add_number(self, name: str, columns: slice, slots: list[Floats]) -> None:
        self._sorted[name] = []
        for rows in slots:
            values = rows[:, columns.start]
            values = values[~np.isnan(values)]
            self._sorted[name].append(np.sort(values[:: max(1, len(values) // MAX_SLOT_VALUES)]))
        self.signals.append(Signal(name, columns, slice(self.width, self.width + 2)))
        self.width += 2

    def _add_category(self, name: str, columns: slice, slots: list[Floats], values: tuple[str, ...]) -> None:
        shares = np.nan_to_num(np.array([np.nanmean(rows[:, columns], axis=0) for rows in slots]))
        most_frequent = np.argsort(-shares.mean(axis=0), kind="stable")[:MAX_CATEGORIES]
        frequent = np.sort(most_frequent[shares.mean(axis=0)[most_frequent] >= MIN_VALUE_SHARE])
        value_columns: list[int] = frequent.tolist() or [0]
        self._shares[name] = shares[:, value_columns]
        self._value_columns[name] = value_columns
        series = slice(self.width, self.width + len(value_columns))
        self.signals.append(Signal(name, columns, series, tuple(values[i] for i in value_columns)))
        self.width += len(value_columns)


def group_by_slot(slots: SlotNumbers) -> list[SlotRows]:
    """The slots that rows (n,) lie in, and the indices of the rows in each."""
    order = np.argsort(slots, kind="stable")
    numbers, starts = np.unique(slots[order], return_index=True)
    return list(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


def change_rate(cells: Floats) -> float:
    """Share of rows that differ from the row before, missing values left out."""
    known = cells[~np.isnan(cells[:, 0])]
    return float((np.diff(known, axis=0) != 0.0).any(axis=1).mean()) if len(known) > 1 else 0.0
