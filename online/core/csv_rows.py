"""Rows of a CSV with a header, as they stand there: every cell a text."""

from __future__ import annotations

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
        A row has more cells than the header; ``index`` is that of the row.
    csv.Error
        Quotes do not match.
    """
    for index, row in enumerate(csv.DictReader(lines, strict=True)):
        if None in row:  # where DictReader puts what is beyond the header
            raise InputError(f"row {index} has more cells than the header", index=index)
        yield {name: cell or None for name, cell in row.items()}
