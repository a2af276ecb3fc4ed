"""Rows of a CSV with a header, as they stand there: every cell a text."""

from __future__ import annotations

import collections
import csv
import io
from collections.abc import Iterable, Iterator

from online.core.errors import InputError

__all__ = ["csv_lines", "csv_rows"]


def csv_lines(body: bytes) -> Iterable[str]:
    """The lines of a CSV in UTF-8, with or without a byte order mark; raises UnicodeDecodeError."""
    return io.StringIO(body.decode("utf-8-sig"), newline="")  # a line feed within quotes stays as it is


def csv_rows(lines: Iterable[str]) -> Iterator[dict[str, str | None]]:
    """Read one row after the other.

    Parameters
    ----------
    lines
        The header and the rows, line ends included.

    Yields
    ------
    dict
        The cells by the header's names; a missing or empty one is None.

    Raises
    ------
    InputError
        The header has a name twice, or a row more cells than the header; ``index`` is that of the row.
    csv.Error
        Quotes do not match.
    """
    reader = csv.DictReader(lines, strict=True)
    for name, count in collections.Counter(reader.fieldnames).items():
        if name and count > 1:  # DictReader would keep the last of its cells
            raise InputError(f"column {name!r} is named twice; name each column once", field=name)
    for index, row in enumerate(reader):
        if None in row:  # where DictReader puts what is beyond the header
            raise InputError(f"row {index} has more cells than the header", index=index)
        yield {name: cell or None for name, cell in row.items()}
