"""What the bootstrap rows say is normal for each feature, season by season.

Rows become scores that are near zero while nothing changes, whatever the season: for a number its mid-rank
among the reference of the same season, as place (-1 to 1) and as distance from the middle; for a category,
whether it is there minus how often it is in that season. Features that are calendars move on by
themselves and get no scores; that they are missing or out of range is looked at elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from online.core.schema import Schema
from online.drift.season import Season
from online.features.encoder import Encoder

__all__ = ["PREDICTION", "Reference", "Subject"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Group = tuple[int, Places]

PREDICTION = "prediction"
RAREST = 0.01  # share of a category that gets a score of its own
MOST_VALUES = 8
PER_SLOT = 4000  # values kept of a season's slot
OFTEN = 0.01  # share of rows with another category than the row before; one that changes less is a calendar


class Subject(NamedTuple):
    """A feature, or the prediction: its encoded columns, its scores, and its categories if it has any."""

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
        self.subjects: list[Subject] = []
        self._shares: dict[str, Floats] = {}
        self._ranked: dict[str, list[Floats]] = {}
        first, second, share = self.season.places(rows)
        nearest = np.where(share < 0.5, first, second)
        slots = [rows[nearest == slot] for slot in range(self.season.slots)]
        self.width = 0
        start = 0
        for feature in schema.used:
            names = Encoder((feature,)).columns
            columns = slice(start, start + len(names))
            start = columns.stop
            if feature.kind == "numeric":
                self._add_number(feature.name, columns, slots)
            elif feature.kind == "category" and changes(rows[:, columns]) >= OFTEN:
                self._add_category(feature.name, columns, slots, feature.values)
        self._add_number(PREDICTION, slice(start, start + 1), slots)

    def scores(self, rows: Floats) -> Floats:
        """Scores (n, width) of encoded rows, the prediction their last column; 0 where a value is missing."""
        first, second, share = self.season.places(rows)
        nearest = [(1.0 - share, groups(first)), (share, groups(second))]
        found = np.zeros((len(rows), self.width))
        for subject in self.subjects:
            values = rows[:, subject.columns]
            if subject.numeric:
                found[:, subject.series] = self._ranks(subject.name, values[:, 0], nearest)
            else:
                expected = self._shares[subject.name]
                usual = expected[first] + share[:, None] * (expected[second] - expected[first])
                found[:, subject.series] = values[:, self._kept(subject)] - usual
        return np.nan_to_num(found)

    def _ranks(self, name: str, values: Floats, nearest: list[tuple[Floats, list[Group]]]) -> Floats:
        """Mid-ranks from -1 to 1 and their distance from the middle, between the two nearest slots' ranks."""
        rank = np.zeros(len(values))
        for weight, of_slots in nearest:
            for slot, rows in of_slots:
                ordered, mine = self._ranked[name][slot], values[rows]
                below = ordered.searchsorted(mine, "left") + ordered.searchsorted(mine, "right")
                rank[rows] += weight[rows] * (below / max(len(ordered), 1) - 1.0)
        rank[np.isnan(values)] = np.nan
        return np.column_stack([rank, np.abs(rank) - 0.5])

    def _add_number(self, name: str, columns: slice, slots: list[Floats]) -> None:
        self._ranked[name] = []
        for rows in slots:
            values = rows[:, columns.start]
            values = values[~np.isnan(values)]
            self._ranked[name].append(np.sort(values[:: max(1, len(values) // PER_SLOT)]))
        self.subjects.append(Subject(name, columns, slice(self.width, self.width + 2)))
        self.width += 2

    def _add_category(self, name: str, columns: slice, slots: list[Floats], values: tuple[str, ...]) -> None:
        usual = np.nan_to_num(np.array([np.nanmean(rows[:, columns], axis=0) for rows in slots]))
        often = np.argsort(-usual.mean(axis=0), kind="stable")[:MOST_VALUES]
        kept = np.sort(often[usual.mean(axis=0)[often] >= RAREST])
        names = tuple(values[i] for i in kept) or (values[0],)
        self._shares[name] = usual[:, [values.index(one) for one in names]]
        self.subjects.append(Subject(name, columns, slice(self.width, self.width + len(names)), names))
        self._places = getattr(self, "_places", {}) | {name: [values.index(one) for one in names]}
        self.width += len(names)

    def _kept(self, subject: Subject) -> list[int]:
        places: list[int] = self._places[subject.name]
        return places


def groups(slots: Places) -> list[Group]:
    """The slots that rows (n,) lie in, and which rows those are."""
    order = np.argsort(slots, kind="stable")
    found, starts = np.unique(slots[order], return_index=True)
    return list(zip(found.tolist(), np.split(order, starts[1:]), strict=True))


def changes(cells: Floats) -> float:
    """Share of rows that differ from the row before, missing values left out."""
    known = cells[~np.isnan(cells[:, 0])]
    return float((np.diff(known, axis=0) != 0.0).any(axis=1).mean()) if len(known) > 1 else 0.0
