"""From one CSV to training and validation rows, cut in time order."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path

import pandas as pd

from online.core.errors import InputError
from online.core.home import Home, write_atomically

__all__ = ["FRACTION", "read_frame", "split_rows", "write_split"]

FRACTION = 0.2  # share of the rows, the last ones, kept for validation

# "NA" and "None" stay text here: the former may be a country. Where numbers are meant they read as missing.
MISSING_CELLS = ("", "#N/A", "N/A", "n/a", "<NA>", "NaN", "nan", "-nan", "-NaN", "NULL", "null", "NaT")


def read_frame(path: Path) -> pd.DataFrame:
    """Read a CSV, also a compressed one (``.csv.gz``), as it is: columns in file order, numbers exact.

    Raises
    ------
    InputError
        The file is missing, no CSV in UTF-8, or has two columns of one name; it is named.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of cells beyond the header
            frame = pd.read_csv(
                path, index_col=False, keep_default_na=False, na_values=list(MISSING_CELLS), low_memory=False
            )
        # pandas would call the second of two columns "a" by a name of its own, "a.1"
        names = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
    except FileNotFoundError as exc:
        raise InputError(f"{path} is missing: give a CSV file with --data", field="data") from exc
    except (
        OSError,
        EOFError,
        zlib.error,
        UnicodeDecodeError,
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        pd.errors.EmptyDataError,
    ) as exc:
        raise InputError(f"{path} cannot be read as CSV: {exc}", field="data") from exc
    repeated = names[names.duplicated() & (names != "")]
    if len(repeated):
        raise InputError(f"{path}: column {repeated.iloc[0]!r} is named twice; name each column once", "data")
    return frame


def split_rows(frame: pd.DataFrame, fraction: float = FRACTION) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut rows that are in time order into the first part, to train on, and the last, to validate on.

    Parameters
    ----------
    frame
        At least two rows.
    fraction
        Share of the rows in the last part, above 0 and below 1; both parts get at least one row.

    Returns
    -------
    tuple of two DataFrames
        The rows to train on, and those to validate on, each numbered from 0.

    Raises
    ------
    InputError
        The fraction is out of its range, or there are fewer than two rows.
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction: {fraction} is not above 0 and below 1", field="fraction")
    if len(frame) < 2:
        raise InputError(f"the data have {len(frame)} usable rows; a split needs 2 or more", field="data")
    cut = min(max(round(len(frame) * (1 - fraction)), 1), len(frame) - 1)
    return frame.iloc[:cut].reset_index(drop=True), frame.iloc[cut:].reset_index(drop=True)


def write_split(home: Home, train: pd.DataFrame, validation: pd.DataFrame) -> None:
    """Write ``data/train.csv`` and ``data/validation.csv``, each whole or not at all.

    Parameters
    ----------
    home
        The home; its folders are made where they are missing.
    train, validation
        The two parts, in time order.
    """
    home.create()
    write_atomically(home.data / "train.csv", train.to_csv(index=False).encode())
    write_atomically(home.data / "validation.csv", validation.to_csv(index=False).encode())
