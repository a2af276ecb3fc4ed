"""Files of rows, read and written a part at a time: CSV, NDJSON, and Parquet where pyarrow is installed."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from online.core.csv_rows import csv_rows
from online.core.errors import InputError

__all__ = ["Row", "Sink", "read_rows", "writing"]

Row = dict[str, Any]
CSV_ENDINGS, NDJSON_ENDINGS, PARQUET_ENDINGS = (".csv",), (".ndjson", ".jsonl"), (".parquet",)


class Sink(Protocol):
    """Where rows go."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write some rows; all have the columns of the first."""


def read_rows(path: Path, size: int) -> Iterator[tuple[list[Row], float]]:
    """Parts of at most ``size`` rows, each with the share of the file read so far.

    Parameters
    ----------
    path
        A CSV, NDJSON or Parquet file, by its ending.
    size
        The most rows of a part.

    Yields
    ------
    tuple of list of dict and float
        The next rows, and the share of the file read by then, from 0 to 1.

    Raises
    ------
    InputError
        The file is missing, of an unknown kind, or a row of it malformed: the row is named.
    """
    reading = by_kind(
        path, {CSV_ENDINGS: read_csv, NDJSON_ENDINGS: read_ndjson, PARQUET_ENDINGS: read_parquet}
    )
    try:
        yield from reading(path, size)
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror or exc}") from exc


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Sink]:
    """A sink that makes a whole file or, when anything fails, none: what stood there stays."""
    kind = by_kind(path, {CSV_ENDINGS: CsvSink, NDJSON_ENDINGS: NdjsonSink, PARQUET_ENDINGS: ParquetSink})
    part = path.with_name(f".{path.name}.part")  # beside it: a rename is whole only within a file system
    try:
        with part.open("wb") as file:
            sink = kind(file)
            yield sink
            sink.close()
        part.replace(path)
    except OSError as exc:
        raise InputError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    finally:
        part.unlink(missing_ok=True)


def by_kind(path: Path, kinds: dict[tuple[str, ...], Any]) -> Any:
    """What belongs to a file's ending."""
    for endings, chosen in kinds.items():
        if path.suffix.lower() in endings:
            return chosen
    known = ", ".join(ending for endings in kinds for ending in endings)
    raise InputError(f"{path.name}: its ending says what it holds, and must be one of {known}")


def parts(rows: Iterator[Row], size: int, share: Callable[[], float]) -> Iterator[tuple[list[Row], float]]:
    """Rows in parts."""
    part: list[Row] = []
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield part, share()
            part = []
    if part:
        yield part, 1.0


def read_csv(path: Path, size: int) -> Iterator[tuple[list[Row], float]]:
    """A CSV with a header: every cell a text, an empty one a missing value."""
    file_bytes = max(1, path.stat().st_size)
    with path.open("rb") as file:
        # decoded line by line, so that tell() below stays true; a text file reads ahead
        lines = (line.decode("utf-8-sig") for line in file)
        try:
            yield from parts(named_csv_rows(lines, path), size, lambda: file.tell() / file_bytes)
        except (UnicodeDecodeError, csv.Error) as exc:
            raise InputError(f"{path} is no well-formed CSV: {exc}") from exc


def named_csv_rows(lines: Iterator[str], path: Path) -> Iterator[Row]:
    """Rows by the header's names."""
    try:
        yield from csv_rows(lines)
    except InputError as exc:
        raise InputError(f"{path}, {exc}", index=exc.index) from exc


def read_ndjson(path: Path, size: int) -> Iterator[tuple[list[Row], float]]:
    """A JSON object a line; empty lines are passed over."""
    file_bytes = max(1, path.stat().st_size)
    with path.open("rb") as file:
        yield from parts(ndjson_rows(file, path), size, lambda: file.tell() / file_bytes)


def ndjson_rows(file: BinaryIO, path: Path) -> Iterator[Row]:
    """Rows line by line."""
    decode = msgspec.json.Decoder(Row).decode
    for index, line in enumerate(line for line in file if line.strip()):
        try:
            yield decode(line)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise InputError(f"{path}, row {index}: it is no JSON object: {exc}", index=index) from exc


def read_parquet(path: Path, size: int) -> Iterator[tuple[list[Row], float]]:
    """A Parquet file."""
    pyarrow = arrow()
    done = 0
    try:
        file = pyarrow.parquet.ParquetFile(path)
        for batch in file.iter_batches(size):
            done += len(batch)
            yield [plain(row) for row in batch.to_pylist()], done / max(1, file.metadata.num_rows)
    except pyarrow.ArrowException as exc:
        raise InputError(f"{path} is no well-formed Parquet: {exc}") from exc


def plain(row: Row) -> Row:
    """A row with its times as ISO 8601 texts, as other files and requests have them."""
    return {name: cell.isoformat() if hasattr(cell, "isoformat") else cell for name, cell in row.items()}


class CsvSink:
    """Writes CSV; a missing value is an empty cell."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._columns: list[str] = []

    def write(self, rows: Sequence[Row]) -> None:
        """Write some rows."""
        out = Lines()
        writer = csv.writer(out, lineterminator="\n")
        if not self._columns:
            self._columns = list(rows[0])
            writer.writerow(self._columns)
        writer.writerows([row.get(name) for name in self._columns] for row in rows)
        self._file.write("".join(out.lines).encode())

    def close(self) -> None:
        """Nothing is held back."""


class Lines:
    """Collects what csv writes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        """Take a line."""
        self.lines.append(line)


class NdjsonSink:
    """Writes a JSON object a line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, rows: Sequence[Row]) -> None:
        """Write some rows."""
        self._file.write(msgspec.json.Encoder().encode_lines(rows))

    def close(self) -> None:
        """Nothing is held back."""


class ParquetSink:
    """Writes Parquet."""

    def __init__(self, file: BinaryIO) -> None:
        self._arrow = arrow()
        self._file = file
        self._writer: Any = None

    def write(self, rows: Sequence[Row]) -> None:
        """Write some rows."""
        schema = None if self._writer is None else self._writer.schema
        try:
            table = self._arrow.Table.from_pylist(list(rows), schema=schema)
        except self._arrow.ArrowException as exc:
            raise InputError(f"a column's cells are not of one type, as Parquet needs them: {exc}") from exc
        if self._writer is None:
            self._writer = self._arrow.parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """Write the footer."""
        if self._writer is not None:
            self._writer.close()


def arrow() -> Any:
    """The pyarrow package. Raises InputError when it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise InputError("Parquet needs the package pyarrow: pip install pyarrow, or give a CSV") from exc
    return pyarrow
