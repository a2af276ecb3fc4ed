"""A stretch of rows that many experts go through, one expert after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from river import base

from online.features.matrix import Floats, rows_to_matrix

__all__ = ["LineExpert", "LineScaler", "Seen", "Step", "Stretch", "View"]

Row = Mapping[str, Any]


class Seen(NamedTuple):
    """The targets seen by then: the lowest, the highest, the mean; infinity, minus infinity, 0 before any."""

    low: float
    high: float
    mean: float

    @property
    def some(self) -> bool:
        """Whether there were any."""
        return self.low <= self.high

    def held(self, output: float) -> float:
        """An output held to that range; the mean where it is NaN or infinite, or before any target."""
        if self.low <= output <= self.high:
            return output
        if not self.some or not math.isfinite(output):
            return self.mean
        return min(max(output, self.low), self.high)


class Step(NamedTuple):
    """A row that scaler and experts are to learn, or, without a target, experts to answer."""

    row: Row
    target: float | None
    seen: Seen  # before it


class View(NamedTuple):
    """What an expert reads of a row: standardised or as it came, all columns or those named."""

    scaled: bool = True
    columns: frozenset[str] | None = None

    def of(self, row: Row) -> Row:
        """The columns of a row that are read."""
        return row if self.columns is None else {c: v for c, v in row.items() if c in self.columns}


@runtime_checkable
class LineExpert(Protocol):
    """An expert that goes through many rows faster than one by one."""

    def follow_lines(
        self, names: tuple[str, ...], lines: Floats, targets: Sequence[float]
    ) -> list[float] | None:
        """Learn and answer rows in order, to the last bit as one by one.

        Parameters
        ----------
        names
            The features, in the order of their names.
        lines
            Their values, (n, features), C-contiguous.
        targets
            The targets, (n,), NaN for rows that are asked about.

        Returns
        -------
        list or None
            The predictions for those, in target units; None, and nothing was done, when it does not know just
            these features.
        """


@runtime_checkable
class LineScaler(Protocol):
    """A scaler that goes through many rows faster than one by one."""

    def follow_lines(self, names: tuple[str, ...], lines: Floats, asked: Sequence[bool]) -> bool:
        """Learn rows and scale them in place, in order, to the last bit as one by one.

        Parameters
        ----------
        names
            The features.
        lines
            Their values, (n, features), C-contiguous.
        asked
            Which are scaled only, (n,).

        Returns
        -------
        bool
            False, and nothing was done, when it does not know just these features in this order.
        """


class Stretch:
    """Rows as they came and standardised, for one expert after the other.

    Parameters
    ----------
    steps
        The rows, at least one.
    scaler
        Standardises them, and learns those with a target before it does.
    """

    def __init__(self, steps: Sequence[Step], scaler: base.Transformer) -> None:
        self._targets = [math.nan if step.target is None else step.target for step in steps]
        self._asked = [step.target is None for step in steps]
        raw = [step.row for step in steps]
        names = tuple(raw[0])
        self._raw = Rows(raw, rows_to_matrix(names, raw) if len(raw) > 1 else None)
        self._scaled = self._at_once(scaler, names) or self._one_by_one(scaler, names)
        if len(raw) > 1:
            order = sorted(range(len(names)), key=lambda place: str(names[place]))
            self._names = tuple(names[place] for place in order)
            self._raw, self._scaled = self._raw.ordered(order), self._scaled.ordered(order)

    def _at_once(self, scaler: base.Transformer, names: tuple[str, ...]) -> Rows | None:
        """All rows standardised as lines, where there are lines and the scaler does that."""
        if self._raw.lines is None or not isinstance(scaler, LineScaler):
            return None
        lines = self._raw.lines.copy()
        if not scaler.follow_lines(names, lines, self._asked):
            return None
        return Rows([dict(zip(names, line, strict=True)) for line in lines.tolist()], lines)

    def _one_by_one(self, scaler: base.Transformer, names: tuple[str, ...]) -> Rows:
        """All rows standardised."""
        scaled = []
        for row, asked in zip(self._raw.dicts, self._asked, strict=True):
            if not asked:
                scaler.learn_one(row)
            scaled.append(scaler.transform_one(row))
        return Rows(scaled, rows_to_matrix(names, scaled) if len(scaled) > 1 else None)

    def through(self, expert: base.Regressor, view: View) -> list[float]:
        """Have an expert learn and answer the rows in order; its outputs, in target units."""
        rows = self._scaled if view.scaled else self._raw
        if rows.lines is not None and view.columns is None and isinstance(expert, LineExpert):
            found = expert.follow_lines(self._names, rows.lines, self._targets)
            if found is not None:
                return found
        outputs = []
        for row, target, asked in zip(rows.dicts, self._targets, self._asked, strict=True):
            if asked:
                outputs.append(expert.predict_one(view.of(row)))
            else:
                expert.learn_one(view.of(row), target)
        return outputs


class Rows(NamedTuple):
    """The same rows by name and as lines (n, features); no lines where their features differ."""

    dicts: Sequence[Row]
    lines: Floats | None

    def ordered(self, order: Sequence[int]) -> Rows:
        """With the lines' features in another order."""
        return self if self.lines is None else Rows(self.dicts, np.ascontiguousarray(self.lines[:, order]))
