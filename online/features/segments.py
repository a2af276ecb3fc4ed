"""The part of the world a row belongs to, for people: its key (which source) and its slot (which hour)."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from online.core.schema import Feature, Schema
from online.features.value_encoder import category_text, number

__all__ = ["OTHER_SEGMENT", "Segments"]

OTHER_SEGMENT = -1  # the number of an unknown key, or of a slot that cannot be read
MOST_KEYS = 40  # more make no table or chart that a person could read
MOST_SLOTS = 60  # as many as a cycle of minutes has
HOURS_A_DAY = 24.0

NumberReader = Callable[[Any], int]


class Segments:
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
        self._key = number_reader(self.keys, category_text) if key else always_first
        self._slot = slot_reader(slot) if slot else always_first

    def segment_of(self, row: Mapping[str, Any]) -> tuple[int, int]:
        """The numbers of a raw row's key and slot; ``OTHER_SEGMENT`` for what is missing or unknown."""
        return self._key(row.get(self.key)), self._slot(row.get(self.slot))


def name_of(feature: Feature | None) -> str:
    """A feature's name, empty for none."""
    return feature.name if feature else ""


def slot_feature(features: Sequence[Feature]) -> Feature | None:
    """The feature that tells the hour of the day, else the shortest cycle."""
    cycles = [f for f in features if f.kind == "time" and "hour" in f.parts]
    cycles += [f for f in features if f.kind == "cyclic" and f.period == HOURS_A_DAY]
    cycles += [f for f in features if f.kind == "cyclic" and len(f.values or slot_names(f)) <= MOST_SLOTS]
    return cycles[0] if cycles else None


def slot_names(feature: Feature) -> tuple[str, ...]:
    """A cycle's steps, by the numbers people know them by."""
    if feature.values:
        return feature.values
    period = HOURS_A_DAY if feature.kind == "time" else feature.period or 1.0
    return tuple(str(step) for step in range(max(1, round(period))))


def slot_reader(feature: Feature) -> NumberReader:
    """A function from a feature's raw value to the number of its slot."""
    if feature.kind == "time":
        return hour_of
    if feature.values:
        return number_reader(feature.values, lambda value: str(value).casefold())
    size = len(slot_names(feature))

    def read_step(value: Any) -> int:
        position = number(value)
        return OTHER_SEGMENT if position is None else int(position % size)

    return read_step


def number_reader(names: Sequence[str], to_text: Callable[[Any], str]) -> NumberReader:
    """A function from a raw value to the number of the name that reads the same."""
    numbers = {to_text(name): index for index, name in enumerate(names)}
    return lambda value: OTHER_SEGMENT if value is None else numbers.get(to_text(value), OTHER_SEGMENT)


def hour_of(value: Any) -> int:
    """The hour of an ISO 8601 timestamp."""
    try:
        return datetime.datetime.fromisoformat(value).hour
    except (TypeError, ValueError):
        return OTHER_SEGMENT


def always_first(_value: Any) -> int:
    """The only segment there is, for a stream without such a feature."""
    return 0
