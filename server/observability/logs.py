"""Logs on standard error: lines for people in a terminal, one JSON object a line anywhere else.

An entry is ``{"time", "level", "process", "logger", "message"}``, with ``request_id`` where it came from a
request, what the caller gave as ``extra={"fields": {...}}``, and ``exception`` where there was one. Values of
features are never logged at info or above.
"""

from __future__ import annotations

import contextvars
import datetime
import itertools
import logging
import re
import secrets
from collections.abc import Iterable
from typing import Any, Literal, TextIO

import msgspec

__all__ = ["HEADER", "REQUEST", "Format", "Level", "RequestIds", "log_to"]

Format = Literal["auto", "json", "pretty"]
Level = Literal["debug", "info", "warning", "error"]

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="")
GIVEN = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")  # what a caller may call a request
HEADER = b"x-request-id"


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The entry as JSON."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        entry: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if name := REQUEST.get():
            entry["request_id"] = name
        entry |= fields(record)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=str).decode()


class Pretty(logging.Formatter):
    """A line for people."""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s {process:<10} %(levelname)-7s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line, with its fields and the request at its end."""
        named = fields(record) | ({"request": REQUEST.get()} if REQUEST.get() else {})
        line, *trace = super().format(record).split("\n", 1)
        return "\n".join([" ".join([line, *(f"{k}={v}" for k, v in named.items())]), *trace])


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller added to an entry."""
    found: dict[str, Any] = getattr(record, "fields", {})
    return found


def log_to(stream: TextIO, process: str, form: Format = "auto", level: Level = "info") -> None:
    """Send every log to a stream.

    Parameters
    ----------
    stream
        Where to.
    process
        The name of this process in each entry.
    form
        JSON or pretty; ``auto`` is pretty in a terminal and JSON elsewhere.
    level
        What is below it is not written.
    """
    pretty = stream.isatty() if form == "auto" else form == "pretty"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Pretty(process) if pretty else JsonLines(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)


class RequestIds:
    """Names requests: as the caller does, where that can be a name, else in its own way."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    def name(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The name of a request with these headers (ASGI's, lower case)."""
        return self.given(headers) or self.new()

    def given(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """The caller's own name for a request with these headers; None when there is none, or a wrong one."""
        for header, value in headers:
            if header == HEADER and GIVEN.fullmatch(value):
                return value.decode()
        return None

    def new(self) -> str:
        """A name of our own."""
        return f"{self._prefix}-{next(self._numbers):x}"
