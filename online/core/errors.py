"""Every error Millrace raises on purpose.

MillraceError
├── ConfigError      millrace.toml or an environment variable is wrong
├── SchemaError      a schema cannot be used, or does not fit the data or the model
├── InputError       a request or row that cannot be accepted: names the field, says what to do
├── BusyError        more labels wait to be learned than may
├── FormatError      a file was written by a later Millrace
├── JournalError     the journal cannot be read or written
├── PlanError        a scoring plan is missing, torn, or cannot be compiled
├── SnapshotError    a snapshot is missing, torn, or fails its checks
├── LockError        another process already learns in this home
├── MissingLibraryError  a library of this system that an expert needs is not installed
└── FetchError       a data endpoint did not answer with usable data
"""

from __future__ import annotations

__all__ = [
    "BusyError",
    "ConfigError",
    "FetchError",
    "FormatError",
    "InputError",
    "JournalError",
    "LockError",
    "MillraceError",
    "MissingLibraryError",
    "PlanError",
    "SchemaError",
    "SnapshotError",
]


class MillraceError(Exception):
    """The root of the tree: catch it to catch everything Millrace raises on purpose."""


class ConfigError(MillraceError):
    """A setting is unknown, of the wrong type or out of its range."""


class SchemaError(MillraceError):
    """A schema cannot be used, or does not fit the data or the model."""


class InputError(MillraceError):
    """A request or row that cannot be accepted.

    Parameters
    ----------
    message
        What is wrong and what to do about it.
    field
        The field at fault, when there is one.
    index
        The position of the row in its batch, when there is one.
    """

    def __init__(self, message: str, field: str | None = None, index: int | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.index = index


class BusyError(MillraceError):
    """More labels wait to be learned than may; nothing of the request was kept.

    Parameters
    ----------
    message
        What is wrong and what to do about it.
    retry_seconds
        When to ask again, in whole seconds.
    """

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class FormatError(MillraceError):
    """A file was written by a later Millrace; nothing of it was changed."""


class JournalError(MillraceError):
    """The journal cannot be read or written; nothing of a batch was kept, unless it says so."""


class PlanError(MillraceError):
    """A scoring plan is missing, torn, or cannot be compiled."""


class SnapshotError(MillraceError):
    """A snapshot is missing, torn, or fails its checks; it was not loaded."""


class LockError(MillraceError):
    """Another process already learns in this home."""


class MissingLibraryError(MillraceError):
    """A library of this system that an expert needs is not installed; the message says which."""


class FetchError(MillraceError):
    """A data endpoint did not answer with usable data."""
