"""From a row as a client sends it to the numbers the model sees, the same for learning and scoring."""

from __future__ import annotations

import datetime
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from online.core.schema import TEXT_LIMIT, Feature, Schema

__all__ = [
    "CACHED_ENCODERS",
    "Cell",
    "CellReader",
    "Encoded",
    "Encoder",
    "category_text",
    "clean",
    "number",
    "reader",
    "shortcut",
]

SWITCH_VALUES = {"true": 1.0, "false": 0.0}  # as the bootstrap reads them, and as CSV bodies spell them
LARGEST_INTEGER = 2**63 - 1  # of MessagePack and SQLite
CACHED_ENCODERS = 8  # one plan after the other has the same schema
CYCLE_TABLE_SIZE = 400  # cycles of so many positions (hours, days of a year) have their sines in a table


class Cell(NamedTuple):
    """One feature's columns: a value each (NaN when missing), and whether it lay outside what is known."""

    values: tuple[float, ...]
    drifted: bool = False


class Encoded(NamedTuple):
    """One encoded row.

    ``values`` has one float a column, NaN where a value is to be imputed; ``imputed`` names the features
    that were missing, unreadable or absurd; ``drifted`` names those outside the bootstrap range or with
    an unknown category.
    """

    values: list[float]
    imputed: list[str]
    drifted: list[str]


class Encoder:
    """Encodes rows of one schema. Immutable after construction; any thread may call it.

    Parameters
    ----------
    features
        The features used, in order.
    """

    def __init__(self, features: tuple[Feature, ...]) -> None:
        readers = [(feature, *reader(feature)) for feature in features]
        self._readers: list[tuple[Any, ...]] = [
            (feature.name, *shortcut(feature), read, (math.nan,) * len(columns))
            for feature, read, columns in readers
        ]
        self.columns = [column for _, _, columns in readers for column in columns]

    @classmethod
    @functools.lru_cache(maxsize=CACHED_ENCODERS)
    def of(cls, schema: Schema) -> Encoder:
        """The encoder of a schema's used features; all callers share one."""
        return cls(schema.used)

    def encode(self, row: Mapping[str, Any]) -> Encoded:
        """Encode a row: any mapping at all, dirty values included."""
        values: list[float] = []
        imputed: list[str] = []
        drifted: list[str] = []
        # every row passes here twice: what is nearly always the case is tested in place, without a call
        for name, kind, known, low, high, read, gap in self._readers:
            value: Any = row.get(name)
            if type(value) is kind:
                if kind is float:
                    if low <= value <= high:
                        values.append(value)
                        continue
                elif value in known:
                    values += known[value]
                    continue
            elif kind is float and type(value) is int and low <= value <= high:
                values.append(float(value))
                continue
            cell = read(value)
            if cell is None:
                imputed.append(name)
                values += gap
            else:
                values += cell[0]
                if cell[1]:
                    drifted.append(name)
        return Encoded(values, imputed, drifted)


def clean(row: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Reduce a row to its known fields, as JSON scalars of bounded size: what is written to disk.

    Encoding the cleaned row gives what encoding the row itself gives.

    Parameters
    ----------
    row
        A raw row.
    names
        The fields to keep.

    Returns
    -------
    dict
        The fields that the row has, by name.
    """
    cleaned = dict(row)
    for name in cleaned.keys() - names:
        del cleaned[name]
    for name, value in cleaned.items():
        kind = type(value)
        if kind is float:
            if value - value == 0.0:  # neither NaN nor infinite
                continue
        elif kind is str:
            if len(value) <= TEXT_LIMIT:
                continue
        elif kind is int and -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
            continue
        cleaned[name] = scalar(value)
    return cleaned


def scalar(value: object) -> Any:
    """A JSON scalar that encodes as the value does, or None when it can only be imputed."""
    if isinstance(value, str):
        return value[: TEXT_LIMIT + 1]  # one more than can be read, so that it still cannot be
    if number(value) is None:
        return None
    large = isinstance(value, int) and abs(value) > LARGEST_INTEGER
    return scalar(str(value)) if large else value  # MessagePack has no such number; its text reads the same


def number(value: object) -> float | None:
    """Read a finite number, from text too; None when there is none.

    ``1_21`` is none, nor are digits of other scripts: Python reads them, but in data they are codes.
    """
    if isinstance(value, str):
        if len(value) > TEXT_LIMIT or "_" in value or not value.strip().isascii():
            return None
    elif not isinstance(value, (int, float)):
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return read if math.isfinite(read) else None


CellReader = Callable[[Any], Cell | None]


def shortcut(feature: Feature) -> tuple[type, dict[Any, tuple[float, ...]], float, float]:
    """The values that need no careful reading: their type, the known ones, the range of a number."""
    if feature.kind == "numeric":
        low, high = (1.0, 0.0) if feature.low is None or feature.high is None else (feature.low, feature.high)
        return float, {}, low, high
    if feature.kind == "category":
        return str, {text: cell.values for text, cell in one_hot(feature.values).items() if text}, 0.0, 0.0
    if feature.kind == "cyclic" and feature.values:
        size = len(feature.values)
        return str, {text: wave(step, size) for step, text in enumerate(feature.values)}, 0.0, 0.0
    steps = whole_steps(feature) if feature.kind == "cyclic" else range(0)
    return int, {step: wave(step, feature.period or 1.0) for step in steps}, 0.0, 0.0


def whole_steps(feature: Feature) -> range:
    """The whole numbers of a cycle that were seen, so that their sines are computed once."""
    low, high = feature.low, feature.high
    if low is None or high is None or high - low > CYCLE_TABLE_SIZE:
        return range(0)
    return range(math.ceil(low), math.floor(high) + 1)


def reader(feature: Feature) -> tuple[CellReader, list[str]]:
    """The function that reads a feature's values, and the names of the columns it gives."""
    name = feature.name
    if feature.kind == "numeric":
        return functools.partial(read_numeric, feature, feature.plausible), [name]
    if feature.kind == "category":
        read = functools.partial(read_category, one_hot(feature.values), len(feature.values))
        return read, [f"{name}={v}" for v in feature.values]
    if feature.kind == "cyclic" and feature.values:
        size = len(feature.values)
        cells = {text.casefold(): Cell(wave(step, size)) for step, text in enumerate(feature.values)}
        return functools.partial(read_cyclic_name, cells), [name, f"{name}:sin", f"{name}:cos"]
    if feature.kind == "cyclic":
        return functools.partial(read_cyclic, feature), [name, f"{name}:sin", f"{name}:cos"]
    columns = [f"{name}:{part}{wave}" for part in feature.parts for wave in ("", ":sin", ":cos")]
    return functools.partial(read_time, feature.parts), columns


def one_hot(values: tuple[str, ...]) -> dict[str, Cell]:
    """A cell for each known category."""
    return {v: Cell(tuple(float(i == j) for j in range(len(values)))) for i, v in enumerate(values)}


def wave(position: float, period: float) -> tuple[float, float, float]:
    """A position in a cycle as itself, sine and cosine."""
    angle = 2.0 * math.pi * position / period
    return float(position), math.sin(angle), math.cos(angle)


def read_numeric(feature: Feature, plausible: tuple[float, float], value: object) -> Cell | None:
    """A plausible number as it is."""
    read = SWITCH_VALUES.get(value.casefold()) if isinstance(value, str) else None
    read = number(value) if read is None else read
    if read is None or not plausible[0] <= read <= plausible[1]:
        return None
    beyond = feature.low is not None and feature.high is not None and not feature.low <= read <= feature.high
    return Cell((read,), beyond)


def read_category(cells: dict[str, Cell], width: int, value: object) -> Cell | None:
    """One column a known category; an unknown one is all zeros and drifted."""
    if isinstance(value, bool) or value == "" or not (isinstance(value, str) or number(value) is not None):
        return None
    known = cells.get(category_text(value))
    if known is None and isinstance(value, str):
        known = cells.get(category_text(number(value)))  # a code as a file has it: "3.0" for "3"
    return known if known is not None else Cell((0.0,) * width, True)


def category_text(value: object) -> str:
    """A category's name: ``3`` and ``3.0`` are the same one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def read_cyclic_name(cells: dict[str, Cell], value: object) -> Cell | None:
    """A weekday's or month's position in its cycle; None for a name that is none of them."""
    return cells.get(value.casefold()) if isinstance(value, str) else None


def read_cyclic(feature: Feature, value: object) -> Cell | None:
    """A number that wraps; None for one more than a period outside the range seen."""
    read = number(value)
    period = feature.period or 1.0
    low, high = (0.0, period) if feature.low is None or feature.high is None else (feature.low, feature.high)
    if read is None or not low - period <= read <= high + period:
        return None
    return Cell(wave(read, period), not low <= read <= high)


def read_time(parts: tuple[str, ...], value: object) -> Cell | None:
    """Calendar parts of an ISO 8601 timestamp."""
    if not isinstance(value, str):
        return None
    try:
        when = datetime.datetime.fromisoformat(value)
    except ValueError:
        return None
    cycles = {
        "hour": (when.hour + when.minute / 60.0, 24.0),
        "weekday": (float(when.weekday()), 7.0),
        "yearday": (float(when.timetuple().tm_yday), 365.25),
    }
    return Cell(tuple(v for part in parts for v in wave(*cycles[part])))
