"""From a CSV's columns to a schema: what kind each column is and why, for a person to check and edit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from bootstrap.reading.duplicates import with_calendar_parts, without_duplicates
from bootstrap.reading.kinds import choose
from bootstrap.reading.parse_columns import read_column, read_numbers, read_times, value_range
from online.core.errors import SchemaError
from online.core.schema import Feature, Schema, Target

__all__ = ["infer_schema", "order_rows", "schema_table"]


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

    Returns
    -------
    Schema
        A feature for every other column, each with the reason for its kind; no context features yet.

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

    Parameters
    ----------
    frame
        The rows as read.
    schema
        Says which columns hold times, and what a plausible label is.

    Returns
    -------
    DataFrame
        The rows in order, numbered from 0; the difference in length is what was left out.

    Raises
    ------
    SchemaError
        The target column is missing, or no row has a usable label.
    """
    check_names(frame, schema.target.name, ())
    labels = read_target(frame, schema.target.name)
    low, high = schema.target.plausible
    usable = frame[labels.between(low, high)]
    names = [f.name for f in schema.features if f.kind in ("time", "dropped") and f.name in frame.columns]
    times = next((t for t in (read_times(usable[name], utc=True) for name in names) if t is not None), None)
    if times is not None:
        times = times.ffill().bfill()
        if not times.is_monotonic_increasing:
            usable = usable.iloc[np.argsort(times.to_numpy(), kind="stable")]
    return usable.reset_index(drop=True)


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
        table.add_row(Text(spec.name), "context", groups, Text(spec.reason))
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
    content = (
        f"it holds text such as {str(present.iloc[0])!r}" if len(present) else "all its cells are missing"
    )
    numeric = [str(n) for n in frame.columns if n != target and read_numbers(frame[n]) is not None]
    raise SchemaError(
        f"target {target!r}: no number column, {content}; numbers are in {', '.join(numeric) or 'none'}"
    )
