"""Where in the world a row belongs, for people: its key (which source) and its slot (which hour)."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from online.core.schema import Feature, Schema
from online.features.encoder import category_text, number

__all__ = ["ELSEWHERE", "Slots"]

ELSEWHERE = -1  # the number of an unknown key, or a slot that cannot be read
MOST_KEYS = 40
MOST_SLOTS = 60
DAY = 24.0

Reader = Callable[[Any], int]


class Slots:
    """Sorts rows by one category and one cycle of a stream, as far as it has them.

    Parameters
    ----------
    schema
        The stream. The key is its first category of at most 40 values. The slot is the hour of the day where
        a feature tells it, else the first cycle of at most 60 steps.

    Attributes
    ----------
    key, slot : str
        The features sorted by; empty where the stream has none.
    keys, slots : tuple of str
        Names of the keys and slots by number; one nameless key or slot where there is no feature.
    """

    def __init__(self, schema: Schema) -> None:
        key = next((f for f in schema.used if f.kind == "category" and len(f.values) <= MOST_KEYS), None)
        slot = slot_feature(schema.used)
        self.key, self.slot = name_of(key), name_of(slot)
        self.keys = key.values if key else ("",)
        self.slots = slot_names(slot) if slot else ("",)
        self._key = places(self.keys, category_text) if key else nowhere
        self._slot = slot_reader(slot) if slot else nowhere

    def locate(self, row: Mapping[str, Any]) -> tuple[int, int]:
        """The numbers of a raw row's key and slot; ``ELSEWHERE`` for what is missing or unknown."""
        return self._key(row.get(self.key)), self._slot(row.get(self.slot))


def name_of(feature: Feature | None) -> str:
    """A feature's name, empty for none."""
    return feature.name if feature else ""


def slot_feature(features: Sequence[Feature]) -> Feature | None:
    """The feature that tells the hour of the day, else the shortest cycle."""
    cycles = [f for f in features if f.kind == "time" and "hour" in f.parts]
    cycles += [f for f in features if f.kind == "cyclic" and f.period == DAY]
    cycles += [f for f in features if f.kind == "cyclic" and len(f.values or slot_names(f)) <= MOST_SLOTS]
    return cycles[0] if cycles else None


def slot_names(feature: Feature) -> tuple[str, ...]:
    """A cycle's steps, by the numbers people know them by."""
    if feature.values:
        return feature.values
    period = DAY if feature.kind == "time" else feature.period or 1.0
    return tuple(str(step) for step in range(max(1, round(period))))


def slot_reader(feature: Feature) -> Reader:
    """What reads a row's slot."""
    if feature.kind == "time":
        return hour_of
    if feature.values:
        return places(feature.values, lambda value: str(value).casefold())
    size = len(slot_names(feature))

    def step(value: Any) -> int:
        read = number(value)
        return ELSEWHERE if read is None else int(read % size)

    return step


def places(names: Sequence[str], text: Callable[[Any], str]) -> Reader:
    """What reads a value's place among names."""
    known = {text(name): place for place, name in enumerate(names)}
    return lambda value: ELSEWHERE if value is None else known.get(text(value), ELSEWHERE)


def hour_of(value: Any) -> int:
    """The hour of an ISO 8601 timestamp."""
    try:
        return datetime.datetime.fromisoformat(value).hour
    except (TypeError, ValueError):
        return ELSEWHERE


def nowhere(value: Any) -> int:
    """The only place there is."""
    return 0
