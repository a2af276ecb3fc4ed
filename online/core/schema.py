"""What the rows of a stream look like: its features, their kinds and ranges, and its target."""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import msgspec

from online.core.errors import SchemaError

__all__ = ["LARGEST", "TEXT_LIMIT", "ContextFeature", "Feature", "Kind", "Schema", "Target", "check_same"]

Kind = Literal["numeric", "category", "cyclic", "time", "dropped"]

# A value further from the bootstrap's range than so many times its width is taken for a fault.
ABSURD_WIDTHS = 10.0
# Groups of each calendar part; days of the year are numbered up to 366.
PART_SIZES = {"hour": 24, "weekday": 7, "yearday": 367}
UNKNOWN_RANGE = 1e15  # beyond it a value is a fault in any unit, where the bootstrap saw no range
LARGEST_TABLE = 1_000_000  # cells of one context feature
MOST_LABELS = 1000  # kept of a group, at most
LARGEST = 1e30  # beyond this no value and no label is taken in: squares of squares still have to be finite
TEXT_LIMIT = 256  # characters; a longer text is no number and no known category


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One input column.

    Parameters
    ----------
    name
        The column's name in rows and requests.
    kind
        ``numeric``: a number. ``category``: one of ``values``. ``cyclic``: a number that wraps at
        ``period``, or, with ``values``, a name whose place among them wraps (weekdays, months).
        ``time``: a timestamp, from which ``parts`` are taken. ``dropped``: known, and not used.
    low, high
        The range seen at bootstrap, in the column's unit (numeric and cyclic).
    period
        Length of the cycle, in the column's unit (cyclic).
    values
        Known categories, or names in cyclic order.
    parts
        Calendar parts used of a ``time`` feature: ``hour``, ``weekday``, ``yearday``.
    reason
        Why bootstrap chose this kind, for people.
    """

    name: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    period: float | None = None
    values: tuple[str, ...] = ()
    parts: tuple[Literal["hour", "weekday", "yearday"], ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuse a feature that cannot be encoded, naming it."""
        if not self.name:
            raise SchemaError("features: a feature needs a name")
        if self.kind == "category" and not self.values:
            raise SchemaError(f"feature {self.name!r}: a category needs its values")
        if self.kind == "cyclic" and not (self.values or 1e-9 <= (self.period or 0) <= 1e9):
            raise SchemaError(
                f"feature {self.name!r}: a cyclic feature needs a period from 1e-9 to 1e9, or values"
            )
        if len({value.casefold() for value in self.values}) < len(self.values) and self.kind == "cyclic":
            raise SchemaError(
                f"feature {self.name!r}: its values repeat (case does not count); name each once"
            )
        if len(set(self.values)) < len(self.values):
            raise SchemaError(f"feature {self.name!r}: its values repeat; name each once")
        if any(len(value) > TEXT_LIMIT for value in self.values):
            raise SchemaError(f"feature {self.name!r}: a value is longer than {TEXT_LIMIT} characters")
        if self.kind in ("numeric", "cyclic") and not self.values:
            check_range(f"feature {self.name!r}", self.low, self.high)

    @property
    def groups(self) -> dict[str, int]:
        """What context features can go by: names, and how many groups each makes."""
        if self.kind == "time":
            return {f"{self.name}:{part}": PART_SIZES[part] for part in self.parts}
        if self.kind in ("category", "cyclic"):
            return {self.name: len(self.values) or math.ceil(self.period or 1.0) + 1}
        return {}

    @property
    def plausible(self) -> tuple[float, float]:
        """Bounds beyond which a value is a fault, not a surprise."""
        return plausible_range(self.low, self.high)


class ContextFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the labels that have arrived say of a row, by the values of ``by``.

    Parameters
    ----------
    name
        What the feature is called in the ledger, the journal and reports.
    by
        Names of category or cyclic features, or ``<time feature>:<part>``; none for all rows.
    fading
        Share of a new label in a mean, in (0, 1]; for ``near``, the share an older label counts less.
    kind
        ``mean``: the group's faded mean. ``recent``: the mean of its last ``labels`` labels. ``lag``: the
        one that came ``labels`` labels ago, 1 for the last. ``near``: the mean of the last ``labels`` labels
        of the rest of ``by``, those near to the row in the cycle that ``by`` ends with counting most.
        ``age``: how many labels of any group came since the group's last, as log(1 + n).
    labels
        How many labels ``recent``, ``lag`` and ``near`` go back, 1 to 1,000.
    reason
        What it brought when bootstrap chose it, for people.
    """

    name: str
    by: tuple[str, ...] = ()
    fading: float = 0.1
    kind: Literal["mean", "recent", "lag", "near", "age"] = "mean"
    labels: int = 1
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuse a feature that makes no sense, naming it."""
        if not 0.0 < self.fading <= 1.0:
            raise SchemaError(f"context {self.name!r}: fading must be above 0 and at most 1")
        if not 1 <= self.labels <= MOST_LABELS:
            raise SchemaError(f"context {self.name!r}: labels must be 1 to {MOST_LABELS:,}")


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The column to predict; ``low`` and ``high`` are the range seen at bootstrap, in its own unit."""

    name: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        """Refuse a target without a name or with an empty range."""
        if not self.name:
            raise SchemaError("target: it needs a name")
        if self.name == "id":
            raise SchemaError("target 'id': that name is taken by a row's id; rename the column")
        check_range(f"target {self.name!r}", self.low, self.high)

    @property
    def plausible(self) -> tuple[float, float]:
        """Bounds beyond which a label is quarantined."""
        return plausible_range(self.low, self.high)


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stream's name, target and features."""

    stream: str
    target: Target
    features: tuple[Feature, ...]
    context: tuple[ContextFeature, ...] = ()

    def __post_init__(self) -> None:
        """Refuse repeated names, names the protocol uses itself, and context by what is not there."""
        names = [feature.name for feature in self.features]
        for name in names:
            if names.count(name) > 1:
                raise SchemaError(f"feature {name!r}: named twice; name each once")
            if name in ("id", self.target.name):
                raise SchemaError(f"feature {name!r}: that name is taken by the id or the target")
        for spec in self.context:
            self._check_context(spec)
        if len({spec.name for spec in self.context}) < len(self.context):
            raise SchemaError("context: its names repeat; name each once")

    def _check_context(self, spec: ContextFeature) -> None:
        sizes = {name: size for feature in self.used for name, size in feature.groups.items()}
        for name in spec.by:
            if name not in sizes:
                raise SchemaError(f"context {spec.name!r}: cannot go by {name!r}; it can by {list(sizes)}")
        if math.prod(sizes[name] for name in spec.by) * spec.labels > LARGEST_TABLE:
            raise SchemaError(
                f"context {spec.name!r}: makes more than {LARGEST_TABLE:,} groups and labels; go by less"
            )
        categories = {feature.name for feature in self.used if feature.kind == "category"}
        if spec.kind == "near" and (not spec.by or spec.by[-1] in categories):
            raise SchemaError(f"context {spec.name!r}: near needs a cycle as the last it goes by")

    @property
    def used(self) -> tuple[Feature, ...]:
        """The features a prediction uses, in order."""
        return tuple(feature for feature in self.features if feature.kind != "dropped")

    @property
    def hash(self) -> str:
        """Identifies what encoding depends on: everything but the reasons. 16 hex digits."""
        features, context = (
            [msgspec.structs.replace(spec, reason="") for spec in specs]
            for specs in (self.features, self.context)
        )
        content = msgspec.json.encode((self.stream, self.target, features, context), order="deterministic")
        return hashlib.sha256(content).hexdigest()[:16]


def check_same(made_for: Schema, schema: Schema, model: str) -> None:
    """Refuse settings whose schema is not the one a model was made for.

    Parameters
    ----------
    made_for
        The model's schema.
    schema
        That of millrace.toml.
    model
        What the model is called.

    Raises
    ------
    SchemaError
        They differ in more than their reasons.
    """
    if made_for.hash != schema.hash:
        raise SchemaError(
            f"the stream, target or features in millrace.toml are not those of {model}:"
            " undo the edit, or bootstrap again in a new home"
        )


def check_range(owner: str, low: float | None, high: float | None) -> None:
    """Refuse a range that is half given, not finite, or empty."""
    if low is None and high is None:
        return
    if low is None or high is None:
        raise SchemaError(f"{owner}: give both low and high, or neither")
    if not -LARGEST <= low <= high <= LARGEST:
        raise SchemaError(f"{owner}: low must be at most high, and both within {LARGEST:g} of 0")


def plausible_range(low: float | None, high: float | None) -> tuple[float, float]:
    """The bootstrap range widened by ``ABSURD_WIDTHS`` of its width on both sides."""
    if low is None or high is None:
        return -UNKNOWN_RANGE, UNKNOWN_RANGE
    # a range without width, of a column with one value, is as wide as the value is far from 0
    margin = ABSURD_WIDTHS * ((high - low) or max(abs(low), 1.0))
    return max(low - margin, -LARGEST), min(high + margin, LARGEST)
