"""Choose the context features of a stream by progressive validation."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bootstrap.selection import Selection
from online.core.schema import ContextFeature, Schema
from online.features.context import group_columns, group_count, group_of
from online.features.context_memory import new_context_memory
from online.features.value_encoder import Encoder

__all__ = ["choose_context"]

Floats = npt.NDArray[np.float64]

CHOOSING_DELAYS = (0, 24, 168)  # rows between a prediction and its label while choosing
MAX_GROUPS = 5000  # groups of a feature at most
SHORT_CYCLE = 100  # positions of a cycle that comes round often enough for its neighbours to matter
CHOOSING_ROWS = 12_000  # the last rows are enough to choose by
KEY_GAIN = 0.1  # of the squared error's logarithm
FADINGS = (0.005, 0.02, 0.1, 0.3)
NEAR_LABELS, NEAR_FADING = 12, 0.2  # energy, no delay, RLS: .361 of a deviation; with 24 and .05 .402


def choose_context(schema: Schema, rows: Sequence[dict[str, Any]], targets: Sequence[float]) -> Schema:
    """Give a schema its context features.

    Labels are made to come 0, 24 and 168 rows late in turn. Features are added one by one to a ridge
    regression on the row's own columns, each time the one that lowers the squared error of later rows most
    over all delays, until none lowers it by half a percent or there are ten.

    Parameters
    ----------
    schema
        The schema without context.
    rows, targets
        The bootstrap rows in order, and their labels.

    Returns
    -------
    Schema
        The same schema with the context features chosen, each with its reason.
    """
    candidates = Candidates(schema, rows[-CHOOSING_ROWS:], targets[-CHOOSING_ROWS:])
    specs = list(candidates.of([(), *candidates.key()]))
    selection = candidates.selection(specs)
    chosen = tuple(
        msgspec.structs.replace(specs[index], reason=f"squared error {gain:.1%} lower with it")
        for index, gain in selection.forward()
    )
    return msgspec.structs.replace(schema, context=chosen)


class Candidates:
    """What could be chosen for a stream, and what it would have served.

    Parameters
    ----------
    schema
        The schema without context.
    rows, targets
        The rows to choose by, in order, and their labels.
    """

    def __init__(self, schema: Schema, rows: Sequence[dict[str, Any]], targets: Sequence[float]) -> None:
        encoder = Encoder.of(schema)
        self._encoded = [encoder.encode(row).values for row in rows]
        self._targets = np.array(targets, dtype=float)
        self._places = group_columns(schema.used)
        self._delays = [delay for delay in CHOOSING_DELAYS if 10 * delay < len(targets)]
        self._groups = functools.cache(self._find_groups)
        self._known = functools.cache(self._find_known)
        self._after = functools.cache(self._find_after)

    def key(self) -> list[tuple[str, ...]]:
        """The category whose rows are series of their own, if there is one.

        A category that has not been seen yet has no history, so a key must be much better than none.
        """
        keys = [(), *((name,) for name, column in self._places.items() if column.one_hot)]
        candidates = [[mean(key), *(mean((*key, cycle)) for cycle in self._finest())] for key in keys]
        candidates = [[spec for spec in specs if self._fits(spec)] for specs in candidates]
        gains = iter(self.selection([spec for specs in candidates for spec in specs]).alone().tolist())
        scores = [max((next(gains) for _ in specs), default=-math.inf) for specs in candidates]
        best = scores.index(max(scores))
        return [keys[best]] if scores[best] > scores[0] + KEY_GAIN else []

    def of(self, keys: Sequence[tuple[str, ...]]) -> Iterator[ContextFeature]:
        """All candidates by these keys, alone and with one or two cycles."""
        cycles = [name for name, column in self._places.items() if not column.one_hot]
        short = self._short()
        for key in keys:
            yield from by_key(key)
            for cycle in cycles:
                yield from (spec for spec in by_slot((*key, cycle), cycle in short) if self._fits(spec))
            for cycle in self._finest():
                yield from (spec for spec in by_hour((*key, cycle)) if self._fits(spec))
            for pair in itertools.combinations(short, 2):
                yield from (spec for spec in by_week((*key, *pair)) if self._fits(spec))

    def selection(self, specs: Sequence[ContextFeature]) -> Selection:
        """The rows' own columns and what these features would have served, to choose from."""
        own = np.array(self._encoded, dtype=float).reshape(len(self._encoded), -1)
        served = [[self._served(spec, delay) for spec in specs] for delay in self._delays]
        return Selection(own, [np.column_stack(columns) for columns in served], self._targets)

    def _short(self) -> list[str]:
        """The cycles that come round often."""
        return [
            name for name, column in self._places.items() if not column.one_hot and column.size <= SHORT_CYCLE
        ]

    def _finest(self) -> list[str]:
        """Of these the one with the most positions, if there is one."""
        return sorted(self._short(), key=lambda name: -self._places[name].size)[:1]

    def _fits(self, spec: ContextFeature) -> bool:
        return group_count([self._places[name] for name in spec.by]) <= MAX_GROUPS

    def _find_groups(self, by: tuple[str, ...]) -> list[int | None]:
        key_columns = [self._places[name] for name in by]
        return [group_of(key_columns, values) for values in self._encoded]

    def _served(self, spec: ContextFeature, delay: int) -> Floats:
        """The feature as it would have been served with labels that many rows late."""
        if spec.kind in ("near", "age"):
            return self._played(spec, delay)
        after, known = self._after(spec), self._known(spec.by, delay)
        return np.where(known >= 0, after[known], np.nan)

    def _played(self, spec: ContextFeature, delay: int) -> Floats:
        """Row for row: what a group's value is hangs on other groups' labels too."""
        table = new_context_memory(spec, [self._places[name] for name in spec.by])
        groups, targets = self._groups(spec.by), self._targets.tolist()
        served = np.full(len(groups), np.nan)
        for row_index, group in enumerate(groups):
            if row_index > delay:
                table.update(groups[row_index - delay - 1], targets[row_index - delay - 1])
            if group is not None:
                served[row_index] = table.get(group)
        return served

    def _find_after(self, spec: ContextFeature) -> Floats:
        """The value of every row's group once the row's own label is in, whatever the delay."""
        table = new_context_memory(spec, [self._places[name] for name in spec.by])
        after = np.full(len(self._targets), np.nan)
        for row_index, (group, target) in enumerate(
            zip(self._groups(spec.by), self._targets.tolist(), strict=True)
        ):
            if group is not None:
                table.update(group, target)
                after[row_index] = table.get(group)
        return after

    def _find_known(self, by: tuple[str, ...], delay: int) -> npt.NDArray[np.int64]:
        """For every row the newest row of its group whose label has arrived; -1 for none."""
        known = np.full(len(self._targets), -1, dtype=np.int64)
        newest: dict[int, int] = {}
        groups = self._groups(by)
        for row_index, group in enumerate(groups):
            arrived = groups[row_index - delay - 1] if row_index > delay else None
            if arrived is not None:
                newest[arrived] = row_index - delay - 1
            if group is not None:
                known[row_index] = newest.get(group, -1)
        return known


def mean(by: tuple[str, ...]) -> ContextFeature:
    """What a key is judged by."""
    return ContextFeature(name("mean", by), by, 0.1)


def by_key(key: tuple[str, ...]) -> Iterator[ContextFeature]:
    """Candidates by key alone."""
    yield ContextFeature(name("last", key), key, kind="lag")
    for labels in (3, 24):
        yield ContextFeature(name(f"last {labels}", key), key, kind="recent", labels=labels)
    for fading in FADINGS:
        yield ContextFeature(name(f"mean {fading}", key), key, fading)
    if key:
        yield ContextFeature(name("age", key), key, kind="age")


def by_slot(slot: tuple[str, ...], short: bool) -> Iterator[ContextFeature]:
    """Candidates by a key, if any, and a cycle."""
    for labels in (1, 2, 7) if short else (1,):
        yield ContextFeature(name(f"lag {labels}", slot), slot, kind="lag", labels=labels)
    for fading in FADINGS[1:] if short else FADINGS[2:]:
        yield ContextFeature(name(f"mean {fading}", slot), slot, fading)


def by_hour(slot: tuple[str, ...]) -> Iterator[ContextFeature]:
    """Candidates by a key, if any, and the cycle with the most positions that comes round often."""
    yield ContextFeature(name("near", slot), slot, NEAR_FADING, "near", NEAR_LABELS)
    yield ContextFeature(name("age", slot), slot, kind="age")


def by_week(slot: tuple[str, ...]) -> Iterator[ContextFeature]:
    """Candidates by a key, if any, and two cycles, such as the hours of a week."""
    yield ContextFeature(name("lag 1", slot), slot, kind="lag")
    for fading in FADINGS[2:]:
        yield ContextFeature(name(f"mean {fading}", slot), slot, fading)


def name(what: str, by: Sequence[str]) -> str:
    """A feature's name."""
    return " ".join((what, *by))
