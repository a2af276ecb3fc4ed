"""What each kind of context feature remembers of the labels, by group.

Every memory is bounded by its groups and labels, is deterministic, and has one value a group between two
labels: ``cells`` is that dense table, which scoring looks up.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from online.core.schema import ContextFeature
from online.features.context import GroupColumn, group_count
from online.features.matrix import MISSING

__all__ = ["ContextMemory", "new_context_memory"]

STEPS_A_CYCLE = 24.0  # a label a 24th of the cycle away counts 1/e: an hour of a day


class ContextMemory(abc.ABC):
    """What one context feature remembers of the labels; a kind of feature is a subclass."""

    cells: list[float]

    def get(self, group: int) -> float:
        """The group's value; NaN when there is none yet."""
        return self.cells[group]

    @abc.abstractmethod
    def update(self, group: int | None, target: float) -> None:
        """Learn the next label.

        Parameters
        ----------
        group
            The group of the label's row; None when a value to group by is missing.
        target
            The label, in target units.
        """


class FadedMean(ContextMemory):
    """Exponentially weighted mean of a group's labels: each new one has the share ``fading``."""

    def __init__(self, size: int, fading: float) -> None:
        self.cells = [MISSING] * size
        self._fading = fading

    def update(self, group: int | None, target: float) -> None:
        """Move the group's mean towards the label."""
        if group is not None:
            mean = self.cells[group]
            self.cells[group] = target if mean != mean else mean + self._fading * (target - mean)


class LastLabels(ContextMemory):
    """A group's last labels: their mean, or the oldest of them once there are that many (``lag``)."""

    def __init__(self, size: int, labels: int, lag: bool) -> None:
        self.cells = [MISSING] * size
        self._labels = labels
        self._lag = lag
        self._kept: dict[int, list[float]] = {}

    def update(self, group: int | None, target: float) -> None:
        """Remember the label, forget the one too old."""
        if group is None:
            return
        last = self._kept.setdefault(group, [])
        last.append(target)
        if len(last) > self._labels:
            del last[0]
        if not self._lag:
            self.cells[group] = sum(last) / len(last)
        elif len(last) == self._labels:
            self.cells[group] = last[0]


class Age(ContextMemory):
    """How many labels came since a group's last one, as log(1 + n): how stale what is known of it is."""

    def __init__(self, size: int) -> None:
        self._last = [MISSING] * size
        self._count = 0

    def get(self, group: int) -> float:
        """The group's age."""
        return math.log1p(self._count - self._last[group])

    @property
    def cells(self) -> list[float]:  # type: ignore[override] # they all change with every label
        """The ages of all groups."""
        return [math.log1p(self._count - last) for last in self._last]

    def update(self, group: int | None, target: float) -> None:  # noqa: ARG002 - as every kind of memory
        """Count the label."""
        self._count += 1
        if group is not None:
            self._last[group] = float(self._count)


class NearbyMean(ContextMemory):
    """Mean of a key's last labels, weighted by how near in a cycle and how recent they are.

    Rows of a day may come shuffled: then the last label is of any hour, and the one that says most of this
    row is of an hour beside it. A kernel regression (Nadaraya 1964, Watson 1964) of the target on the
    position in the cycle, over the labels kept: exp(-distance) in 24ths of the cycle, times
    (1 - fading) for every newer label.

    Parameters
    ----------
    keys
        How many keys there are; groups count positions within keys.
    cycle
        The cycle.
    fading
        The share an older label counts less.
    labels
        How many labels of a key are kept.
    """

    def __init__(self, keys: int, cycle: GroupColumn, fading: float, labels: int) -> None:
        self._size = cycle.size
        self._labels = labels
        gap = np.arange(cycle.size) % cycle.period
        distance = np.minimum(gap, cycle.period - gap) * (STEPS_A_CYCLE / cycle.period)
        self._closeness: list[float] = np.exp(-distance).tolist()
        self._recency: list[float] = ((1.0 - fading) ** np.arange(labels)).tolist()
        self._groups = keys * cycle.size
        self._kept: dict[int, list[tuple[int, float]]] = {}  # newest first
        self._reset_cells()

    def get(self, group: int) -> float:
        """The mean as seen from the group's position."""
        key, position = divmod(group, self._size)
        weights = total = 0.0
        labels = self._kept.get(key, ())
        for (label_position, target), recency in zip(labels, self._recency, strict=False):
            weight = recency * self._closeness[abs(position - label_position)]
            weights += weight
            total += weight * target
        return total / weights if weights > 0.0 else MISSING

    @property
    def cells(self) -> list[float]:  # type: ignore[override] # brought up to date only when asked for
        """The means as seen from every group."""
        for key in sorted(self._stale):
            first = key * self._size
            for group in range(first, first + self._size):
                self._cells[group] = self.get(group)
        self._stale.clear()
        return self._cells

    def update(self, group: int | None, target: float) -> None:
        """Remember the label, forget the one too old."""
        if group is None:
            return
        key, position = divmod(group, self._size)
        last = self._kept.setdefault(key, [])
        last.insert(0, (position, target))
        del last[self._labels :]
        self._stale.add(key)

    def _reset_cells(self) -> None:
        self._cells = [MISSING] * self._groups
        self._stale = set(self._kept)

    def __getstate__(self) -> dict[str, Any]:
        # the cells follow from the labels kept; which of them are stale depends on when a plan was compiled,
        # and a snapshot must not
        return {name: value for name, value in self.__dict__.items() if name not in ("_cells", "_stale")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset_cells()


def new_context_memory(spec: ContextFeature, by: Sequence[GroupColumn]) -> ContextMemory:
    """A context feature's memory before any label.

    Parameters
    ----------
    spec
        The context feature.
    by
        The columns to group by; for a feature of kind "near" the last is the cycle.

    Returns
    -------
    ContextMemory
        Of the feature's kind.
    """
    size = group_count(by)
    if spec.kind == "mean":
        return FadedMean(size, spec.fading)
    if spec.kind == "age":
        return Age(size)
    if spec.kind == "near":
        return NearbyMean(group_count(by[:-1]), by[-1], spec.fading, spec.labels)
    return LastLabels(size, spec.labels, lag=spec.kind == "lag")
