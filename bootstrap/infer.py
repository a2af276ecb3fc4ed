"""From a CSV's columns to a schema: what kind each column is and why, for a person to check and edit."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.table import Table
from rich.text import Text

from online.encoding import category_text, number
from online.errors import SchemaError
from online.schema import ABSURD_WIDTHS, TEXT_LIMIT, Feature, Schema, Target

__all__ = ["infer_schema", "order_rows", "schema_table"]

MAX_VALUES = 50  # categories kept; rarer ones are scored as unknown
MAX_CODES = 12  # distinct whole numbers that may be codes rather than amounts
MAX_PAIRED = 400  # distinct values up to which two columns in step are called duplicates
MOSTLY = 0.9  # share of cells that must read as a number or time for the column to be one
CARRIED = 0.99  # share of rows on which a column must be in step with a calendar part to carry it

MISSING_MARKS = frozenset({"", "-", "--", ".", "?", "na", "n/a", "nan", "none", "null"})
NAMES = {
    "weekday": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "month": (
        "January", "February", "March", "April", "May", "June", "July",
        "August", "September", "October", "November", "December",
    ),
}  # fmt: skip

# Words in a column's name, after it is split into lower-case words.
SPAN = re.compile(
    r"\b(since|until|past|lag|count|duration|total|per|elapsed|remaining|left|age|mean|average|avg|sum|is|has"
    r"|hours|hrs|days|weeks|months)\b"
)
AMOUNT = re.compile(
    r"\b(count|number|num|level|rank|grade|score|rating|year|yr|qty|quantity|size|age|total)\b"
)
CODE = re.compile(r"\w (id|no|nr|code|key)$")
PLACE = re.compile(r"\b(store|shop|site|station|sensor|zone|region|position|line|machine)\b")
FOREIGN_DATE = re.compile(r"\s*\d{1,4}[/.]\d{1,2}[/.]\d{1,4}\b")


class Cycle(NamedTuple):
    """A calendar cycle: its length, the whole numbers it may hold, and how columns of it are named."""

    label: str
    period: float
    spans: tuple[tuple[int, int], ...]
    hint: re.Pattern[str]
    telling: bool = False  # the full set of values tells it, whatever the column's name
    decimals: bool = False  # holds any number in its span, not whole ones only


CYCLES = (
    Cycle("hour of day", 24.0, ((0, 23), (1, 24)), re.compile(r"hour|\bhr\b"), telling=True),
    Cycle(
        "day of year",
        365.25,
        ((1, 366), (0, 365)),
        re.compile(r"day ?of ?year|year ?day|\bdoy\b|\byday\b"),
        telling=True,
    ),
    Cycle(
        "weekday",
        7.0,
        ((0, 6), (1, 7)),
        re.compile(r"week ?day|day ?of ?week|\bdow\b|\bwday\b|\bday ?name\b"),
    ),
    Cycle(
        "month", 12.0, ((1, 12), (0, 11)), re.compile(r"(?<!day of )(?<!dayof)month|\bmnth\b|\bmon\b|\bmth\b")
    ),
    Cycle("week of year", 365.25 / 7, ((1, 53), (0, 53)), re.compile(r"\bweek\b|week ?of ?year")),
    Cycle(
        "direction in degrees",
        360.0,
        ((0, 360), (-180, 180)),
        re.compile(r"\bdir\b|\bdirec\b|direction|bearing|azimuth|heading"),
        decimals=True,
    ),
)

Codes = npt.NDArray[np.int64]


class Column(NamedTuple):
    """One column as read: ``numbers`` and ``times`` are None unless most cells read as such."""

    name: str
    cells: pd.Series[Any]
    codes: Codes  # which distinct value each row has, -1 where missing
    distinct: int
    numbers: pd.Series[float] | None
    times: pd.Series[pd.Timestamp] | None

    @property
    def words(self) -> str:
        """The name as lower-case words: ``DayOfYear`` and ``Day_of_Year`` are both ``day of year``."""
        spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", self.name).casefold()
        return " ".join(re.split(r"[\W_]+", spaced)).strip()

    @property
    def whole(self) -> set[int] | None:
        """The distinct values when all are whole numbers."""
        if self.numbers is None:
            return None
        values = self.numbers.dropna().unique()
        whole = bool((np.abs(values) < 2**53).all() and (values == np.floor(values)).all())
        return {int(value) for value in values} if whole else None

    @property
    def decimal(self) -> bool:
        """Whether the numbers were written as decimals: whole ones are read so only beside missing cells."""
        return pd.api.types.is_float_dtype(self.cells) and not self.cells.isna().any()


def infer_schema(frame: pd.DataFrame, *, stream: str, target: str, drop: Sequence[str] = ()) -> Schema:
    """Choose a kind for every column but the target, and say why.

    Parameters
    ----------
    frame
        The rows as read from CSV, any number of columns. A column ``id`` identifies rows and is left out.
    stream
        The stream's name.
    target
        The column to predict.
    drop
        Columns not to use.

    Raises
    ------
    SchemaError
        The target or a column to drop is missing, the target is no number, or there are no rows.
    """
    check_names(frame, target, drop)
    labels = read_target(frame, target)
    columns = [read_column(frame[name]) for name in frame.columns if name not in ("id", target)]
    features = [choose(column, labels, frozenset(drop)) for column in columns]
    features = without_duplicates(columns, features)
    features = with_calendar_parts(columns, features)
    low, high, _ = value_range(labels)
    return Schema(stream, Target(target, low, high), tuple(features))


def order_rows(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The rows in time order, without those whose label is missing, no number or absurd.

    The first column of the schema that holds times gives the order; rows of the same time keep theirs, and
    rows already in order are not moved. Subtract the lengths to know how many rows were dropped.
    Raises SchemaError when the target column is missing or no row has a usable label.
    """
    check_names(frame, schema.target.name, ())
    labels = read_target(frame, schema.target.name)
    low, high = schema.target.plausible
    kept = frame[labels.between(low, high)]
    names = [f.name for f in schema.features if f.kind in ("time", "dropped") and f.name in frame.columns]
    times = next((t for t in (read_times(kept[name], utc=True) for name in names) if t is not None), None)
    if times is not None:
        times = times.ffill().bfill()
        if not times.is_monotonic_increasing:
            kept = kept.iloc[np.argsort(times.to_numpy(), kind="stable")]
    return kept.reset_index(drop=True)


def schema_table(schema: Schema) -> Table:
    """The schema as a table for people: name, kind, details and reason of each column."""
    table = Table(title=Text(f"stream {schema.stream}"))
    for heading, style in (("column", "bold"), ("kind", "cyan"), ("details", ""), ("why", "dim")):
        table.add_column(heading, style=style, overflow="fold")
    target = schema.target
    table.add_row(Text(target.name), "target", span_text(target.low, target.high), "the column to predict")
    for f in schema.features:
        table.add_row(Text(f.name), f.kind, Text(details(f)), Text(f.reason))
    for spec in schema.context:
        groups = f"by {', '.join(spec.by)}" if spec.by else "over all rows"
        table.add_row(Text(spec.name), "context", groups, f"mean of past labels, fading {spec.fading:g}")
    return table


def details(feature: Feature) -> str:
    """A feature's range, period or values in a few words."""
    if feature.kind == "time":
        return ", ".join(feature.parts)
    if feature.values:
        shown = ", ".join(feature.values[:4])
        return f"{len(feature.values)} values: {shown}{', …' if len(feature.values) > 4 else ''}"
    span = span_text(feature.low, feature.high)
    return f"period {feature.period:g}, {span}" if feature.period else span


def span_text(low: float | None, high: float | None) -> str:
    """A range in a few words."""
    return "" if low is None or high is None else f"{low:.6g} to {high:.6g}"


# reading


def check_names(frame: pd.DataFrame, target: str, drop: Sequence[str]) -> None:
    """Refuse names the frame does not have, and frames without rows."""
    there = ", ".join(map(str, frame.columns)) or "none"
    if target not in frame.columns:
        raise SchemaError(f"target {target!r}: no such column; there are {there}")
    for name in drop:
        if name not in frame.columns:
            raise SchemaError(f"drop {name!r}: no such column; there are {there}")
        if name == target:
            raise SchemaError(
                f"drop {name!r}: that is the target; drop another column or choose another target"
            )
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise SchemaError(f"column {str(repeated[0])!r}: named twice; name each column once")
    if not len(frame):
        raise SchemaError(f"target {target!r}: the data have no rows, only the columns {there}")


def read_target(frame: pd.DataFrame, target: str) -> pd.Series[float]:
    """The labels, NaN where unusable. Raises SchemaError when they are no numbers or all missing."""
    labels = read_numbers(frame[target])
    if labels is not None:
        return labels
    present = frame[target].dropna()
    found = f"it holds text such as {str(present.iloc[0])!r}" if len(present) else "all its cells are missing"
    numeric = [str(n) for n in frame.columns if n != target and read_numbers(frame[n]) is not None]
    raise SchemaError(
        f"target {target!r}: no number column, {found}; numbers are in {', '.join(numeric) or 'none'}"
    )


def read_column(cells: pd.Series[Any]) -> Column:
    """Read a column as whatever it is."""
    numbers = read_numbers(cells)
    times = None if numbers is not None else read_times(cells)
    codes, values = pd.factorize(cells if numbers is None else numbers)
    return Column(str(cells.name), cells, codes.astype(np.int64), len(values), numbers, times)


def read_numbers(cells: pd.Series[Any]) -> pd.Series[float] | None:
    """The cells as finite numbers, NaN where there is none; None when too few are numbers."""
    if pd.api.types.is_datetime64_any_dtype(cells):
        return None
    if pd.api.types.is_numeric_dtype(cells):  # booleans too
        numbers = cells.astype(float).where(lambda n: np.isfinite(n))
        return numbers if numbers.notna().any() else None
    return read_mostly(cells, lambda text: number(text), "float64")


def read_times(cells: pd.Series[Any], *, utc: bool = False) -> pd.Series[pd.Timestamp] | None:
    """ISO 8601 texts as the clock shows them (or in UTC); None when too few are timestamps."""
    if pd.api.types.is_numeric_dtype(cells):
        return None
    texts = cells.map(str, na_action="ignore") if pd.api.types.is_datetime64_any_dtype(cells) else cells
    return read_mostly(texts, lambda text: timestamp(text, utc), "datetime64[us]")


def read_mostly(cells: pd.Series[Any], read: Callable[[Any], Any], dtype: str) -> pd.Series[Any] | None:
    """Each cell read, or missing; None when fewer than ``MOSTLY`` of those not missing can be."""
    codes, values = pd.factorize(cells)
    found = pd.Series([read(value) for value in values], dtype=dtype)
    marks = np.array([str(value).strip().casefold() in MISSING_MARKS for value in values], dtype=bool)
    counts = np.bincount(codes[codes >= 0], minlength=len(values))
    readable, told = counts[found.notna().to_numpy()].sum(), counts[~marks].sum()
    if not readable or readable < MOSTLY * told:
        return None
    column: pd.Series[Any] = found.reindex(codes)
    return column.set_axis(cells.index)


def timestamp(text: object, utc: bool) -> datetime.datetime | None:
    """One ISO 8601 timestamp without its zone, or None."""
    if not isinstance(text, str):
        return None
    try:
        when = datetime.datetime.fromisoformat(text)
        return (when.astimezone(datetime.UTC) if utc and when.tzinfo else when).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def value_range(numbers: pd.Series[float]) -> tuple[float, float, int]:
    """Lowest and highest value, and how many lie so far out that they are left out as faults.

    A fault lies more than ``ABSURD_WIDTHS`` times the width of the central 98 % away from it.
    """
    values = np.sort(numbers.dropna().to_numpy())
    edge = math.ceil(0.01 * len(values))
    low, high = (
        values[edge if len(values) > 2 * edge else 0],
        values[-1 - edge if len(values) > 2 * edge else -1],
    )
    slack = ABSURD_WIDTHS * (high - low) or math.inf
    kept = values[(values >= low - slack) & (values <= high + slack)]
    return float(kept[0]), float(kept[-1]), len(values) - len(kept)


# choosing a kind


def choose(column: Column, labels: pd.Series[float], drop: frozenset[str]) -> Feature:
    """The column's kind: the first rule that knows one."""
    if column.name in drop:
        return dropped(column, "dropped on request")
    if column.numbers is not None and column.numbers.equals(labels):
        return dropped(column, "equal to the target: it would give the answer away")
    rules = (useless, time, calendar_name, cycle, amount_or_code, text_kind)
    return next(feature for rule in rules if (feature := rule(column)) is not None)


def dropped(column: Column, reason: str) -> Feature:
    """A feature known and not used."""
    return Feature(column.name, "dropped", reason=reason)


def useless(column: Column) -> Feature | None:
    """Columns that say nothing: empty, constant, or counting the rows."""
    if column.distinct == 0 or (column.numbers is None and not column.cells.notna().any()):
        return dropped(column, "every cell is missing")
    if column.distinct == 1:
        return dropped(column, "constant: every row has the same value")
    if column.numbers is not None and column.distinct == len(column.cells) > 2:
        if column.whole is not None and column.numbers.diff().dropna().nunique() == 1:
            return dropped(column, "only counts the rows")
        if column.whole is not None and CODE.search(column.words):
            return dropped(column, "an identifier, unique to each row")
    return None


def time(column: Column) -> Feature | None:
    """Timestamps; which parts are used is settled once all columns are known."""
    return Feature(column.name, "time", reason="ISO 8601 timestamps") if column.times is not None else None


def calendar_name(column: Column) -> Feature | None:
    """Names of weekdays or months, full or short."""
    if column.numbers is not None or not 3 <= column.distinct <= MAX_VALUES:
        return None
    texts = {str(value).capitalize() for value in column.cells.dropna().unique()}
    for label, names in NAMES.items():
        spelled = {full: text for text in texts for full in names if abbreviates(text, full)}
        if len(spelled) == len(texts) >= 3:
            short = any(len(text) < len(full) for full, text in spelled.items())
            values = tuple(spelled.get(full, full[:3] if short else full) for full in names)
            return Feature(
                column.name, "cyclic", values=values, reason=f"names of {label}s, in calendar order"
            )
    return None


def abbreviates(text: str, full: str) -> bool:
    """Whether a text is a name, or its first three letters or more."""
    return len(text) >= 3 and full.startswith(text)


def cycle(column: Column) -> Feature | None:
    """Numbers that wrap: the name hints at a cycle the values fit, or the values are exactly one."""
    if column.numbers is None or column.distinct < 3 or SPAN.search(column.words):
        return None
    low, high = float(column.numbers.min()), float(column.numbers.max())
    for known in CYCLES:
        why = fits(known, column, low, high)
        if why:
            period, reason = known.period, known.label + why
            return Feature(column.name, "cyclic", low=low, high=high, period=period, reason=reason)
    return None


def fits(known: Cycle, column: Column, low: float, high: float) -> str:
    """Why a column holds this cycle, empty when it does not."""
    whole = column.whole
    if known.decimals:
        inside = high - low > known.period / 2 and any(a <= low and high <= b for a, b in known.spans)
    else:
        inside = whole is not None and any(a <= low and high <= b for a, b in known.spans)
    if inside and known.hint.search(column.words):
        return ", by its name and values"
    first, last = known.spans[0]
    contradicted = any(pattern.search(column.words) for pattern in (AMOUNT, CODE, PLACE))
    if known.telling and whole == set(range(first, last + 1)) and not contradicted:
        return f": its values are exactly {first} to {last}"
    return ""


def amount_or_code(column: Column) -> Feature | None:
    """Numbers: codes become categories, all others stay numbers."""
    if column.numbers is None:
        return None
    whole = column.whole
    if whole is not None and len(whole) > 2:
        if CODE.search(column.words):
            return category(column, "whole numbers named as an identifier")
        consecutive = min(whole) in (0, 1) and len(whole) == max(whole) - min(whole) + 1
        plain = not (column.decimal or AMOUNT.search(column.words))
        if consecutive and plain and len(whole) <= MAX_CODES:
            return category(
                column, f"{len(whole)} consecutive whole numbers, taken for codes without an order"
            )
    low, high, faults = value_range(column.numbers)
    kind = "two values, a switch" if column.distinct == 2 else "numbers"
    note = f"; {faults} absurd values left out of the range" if faults else ""
    return Feature(column.name, "numeric", low=low, high=high, reason=f"{kind}{gaps(column.numbers)}{note}")


def gaps(cells: pd.Series[Any]) -> str:
    """How much is missing, in words."""
    share = float(cells.isna().mean())
    return f"; {max(share, 0.001):.1%} missing, to be imputed" if share else ""


def text_kind(column: Column) -> Feature:
    """Text: categories, unless nearly every row has its own."""
    present = column.cells.dropna()
    if (present.astype(str).str.match(FOREIGN_DATE)).mean() >= MOSTLY:
        return dropped(column, "dates, but not ISO 8601: rewrite them as 2020-01-31T13:00 to use them")
    if column.distinct == len(present):
        return dropped(column, "text unique to each row")
    if column.distinct > max(MAX_VALUES, len(present) / 2):
        return dropped(column, "free text: most rows have their own")
    return category(column, "text")


def category(column: Column, reason: str) -> Feature:
    """The most frequent values; the rest is scored as unknown."""
    cells = column.cells if column.numbers is None else column.numbers
    counts = cells.dropna().map(category_text).value_counts(sort=True)
    known = [str(v) for v in counts.index if v != "" and len(str(v)) <= TEXT_LIMIT]
    if not known:
        return dropped(column, "no readable value")
    rest = len(counts) - min(len(known), MAX_VALUES)
    note = f"; the {rest} rarer ones are scored as unknown" if rest else ""
    return Feature(
        column.name, "category", values=tuple(known[:MAX_VALUES]), reason=f"{reason}{note}{gaps(cells)}"
    )


# comparing columns


def in_step(one: Codes, other: Codes) -> float:
    """Share of rows on which two columns map one to one, 0 when values repeat too seldom to tell."""
    both = (one >= 0) & (other >= 0)
    one, other = one[both], other[both]
    rows = len(one)
    if not rows or rows < 3 * max(len(np.unique(one)), len(np.unique(other))):
        return 0.0
    width = int(other.max()) + 1
    pairs, counts = np.unique(one * width + other, return_counts=True)
    shares = []
    for side in (pairs // width, pairs % width):
        best = np.zeros(int(side.max()) + 1, dtype=np.int64)
        np.maximum.at(best, side, counts)
        shares.append(float(best.sum()) / rows)
    return min(shares)


def without_duplicates(columns: Sequence[Column], features: Sequence[Feature]) -> list[Feature]:
    """Drop each column that an earlier one determines and is determined by."""
    kept: list[tuple[Column, Feature]] = []
    settled = []
    for column, feature in zip(columns, features, strict=True):
        if feature.kind not in ("dropped", "time"):
            twin = next((f.name for c, f in kept if same(c, f, column, feature)), None)
            if twin is not None:
                feature = dropped(column, f"says the same as {twin}: one to one in every row")
            else:
                kept.append((column, feature))
        settled.append(feature)
    return settled


def same(earlier: Column, known: Feature, column: Column, feature: Feature) -> bool:
    """Whether a column adds nothing to an earlier one."""
    if earlier.distinct < column.distinct or ((column.codes >= 0) & (earlier.codes < 0)).any():
        return False
    if known.kind == feature.kind == "cyclic" and length(known) != length(feature):
        return False
    paired = column.distinct <= MAX_PAIRED and earlier.distinct == column.distinct
    if paired and in_step(earlier.codes, column.codes) == 1.0:
        return True
    if earlier.numbers is None or column.numbers is None:
        return False
    return bool((earlier.numbers == column.numbers)[column.codes >= 0].all())


def length(feature: Feature) -> int:
    """A cycle's length in whole steps, 0 when the feature is not cyclic."""
    return round(feature.period or len(feature.values)) if feature.kind == "cyclic" else 0


Part = Literal["hour", "weekday", "yearday"]
PART_STEPS: Mapping[Part, int] = {"hour": 24, "weekday": 7, "yearday": 365}


def with_calendar_parts(columns: Sequence[Column], features: Sequence[Feature]) -> list[Feature]:
    """Give each time column the parts no other column carries; without any it only orders the rows."""
    carriers = [
        (c.name, length(f), c.codes)
        for c, f in zip(columns, features, strict=True)
        if f.kind not in ("dropped", "time")
    ]
    settled = []
    for column, feature in zip(columns, features, strict=True):
        if feature.kind == "time":
            feature, own = settle_time(column, carriers)
            carriers += own
        settled.append(feature)
    return settled


def settle_time(
    column: Column, carriers: Sequence[tuple[str, int, Codes]]
) -> tuple[Feature, list[tuple[str, int, Codes]]]:
    """One time column's feature, and what it now carries itself."""
    own: dict[Part, tuple[str, int, Codes]] = {}
    others: list[str] = []
    for part, codes in part_codes(column).items():
        steps = PART_STEPS[part]
        carrier = next((n for n, s, c in carriers if s in (0, steps) and in_step(c, codes) >= CARRIED), None)
        if carrier is None:
            own[part] = (f"{column.name}'s {part}", steps, codes)
        else:
            others.append(f"{carrier} carries its {part}")
    if not own:
        return dropped(column, "; ".join(["only orders the rows", *others])), []
    reason = "; ".join(["ISO 8601 timestamps", *others])
    return Feature(column.name, "time", parts=tuple(own), reason=reason), list(own.values())


def part_codes(column: Column) -> dict[Part, Codes]:
    """The calendar parts that vary in a time column, as codes a row."""
    when = column.times.dt  # type: ignore[union-attr]
    values: dict[Part, Any] = {
        "hour": when.hour * 60 + when.minute,
        "weekday": when.day_of_week,
        "yearday": when.day_of_year,
    }
    found = {part: pd.factorize(value)[0].astype(np.int64) for part, value in values.items()}
    return {part: codes for part, codes in found.items() if codes.max() > 0}
