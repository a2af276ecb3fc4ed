"""From a data endpoint to a CSV file: one GET, repeated with patience, checked, and written whole."""

from __future__ import annotations

import csv
import email.utils
import hashlib
import io
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import tenacity
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from bootstrap.sources.retry import TransientError, retrying
from online.core.errors import FetchError
from online.core.home import write_atomically

__all__ = ["FetchLimits", "Fetched", "fetch"]

FIRST_RETRY_WAIT = 0.5  # doubled at each attempt
LONGEST_RETRY_WAIT = 60.0  # a server that asks for longer is given up


class Fetched(NamedTuple):
    """What came: data rows without the header, and the SHA-256 of the body as it came, in hex."""

    rows: int
    sha256: str


class FetchLimits(NamedTuple):
    """How much is taken, and with how much patience.

    ``max_bytes`` bound the body. A connection error, a 429 and a 5xx are tried ``attempts`` times. Each
    attempt waits ``timeout_seconds`` for a connection, and for the next bytes. ``sleep`` waits between them,
    for times that ``jitter`` varies.
    """

    max_bytes: int = 512 * 2**20
    attempts: int = 5
    timeout_seconds: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    jitter: random.Random | None = None


def fetch(
    url: str,
    to: Path,
    *,
    sha256: str | None = None,
    limits: FetchLimits | None = None,
    console: Console | None = None,
) -> Fetched:
    """GET a CSV, or JSON rows, and write them as CSV.

    Parameters
    ----------
    url
        An endpoint answering with CSV, with a JSON array of objects, or with ``{"data": [...]}``.
    to
        The CSV file to write, whole or not at all; its folder is created.
    sha256
        The expected digest of the body, in hex; None takes any.
    limits
        How much is taken, and with how much patience; the defaults of :class:`FetchLimits` when None.
    console
        Where the progress bar is drawn; None draws none.

    Returns
    -------
    Fetched
        What was written.

    Raises
    ------
    FetchError
        No usable answer: it says what came. ``to`` is as it was.
    """
    limits = limits or FetchLimits(jitter=random.Random())  # noqa: S311 - no secret
    body = download_patiently(url, limits, console)
    digest = hashlib.sha256(body).hexdigest()
    if sha256 is not None and digest != sha256.strip().lower():
        raise FetchError(f"{url}: the body's SHA-256 is {digest}, not {sha256}; nothing was written")
    content, rows = to_csv(body, url)
    to.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(to, content)
    return Fetched(rows, digest)


def download_patiently(url: str, limits: FetchLimits, console: Console | None) -> bytes:
    """The body, after as many attempts as it takes. Raises FetchError with the last failure."""
    if limits.attempts < 1:
        raise FetchError(f"attempts: {limits.attempts} is too few; give 1 or more")
    again = retrying(
        lambda state: state.attempt_number >= limits.attempts or asks_too_long(state),
        first_seconds=FIRST_RETRY_WAIT,
        longest_seconds=LONGEST_RETRY_WAIT,
        sleep=limits.sleep,
        jitter=limits.jitter,
    )
    try:
        return again(download, url, limits, console)
    except TransientError as exc:
        done = again.statistics["attempt_number"]
        raise FetchError(f"{url}: gave up after {done} attempts: {exc}") from exc


def asks_too_long(state: tenacity.RetryCallState) -> bool:
    """Whether the server asks to wait longer than anybody would."""
    error = state.outcome.exception() if state.outcome else None
    return isinstance(error, TransientError) and (error.asked or 0.0) > LONGEST_RETRY_WAIT


def download(url: str, limits: FetchLimits, console: Console | None) -> bytes:
    """One attempt: the body, or TransientError when trying again may help."""
    try:
        with httpx.stream("GET", url, timeout=limits.timeout_seconds, follow_redirects=True) as response:
            check_status(response, url)
            return read_body(response, url, limits.max_bytes, console)
    except httpx.TransportError as exc:
        if isinstance(exc, httpx.UnsupportedProtocol):
            raise FetchError(f"{url}: give an address that starts with http:// or https://") from exc
        raise TransientError(f"{type(exc).__name__}: {exc}") from exc
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise FetchError(f"{url}: {exc}") from exc


def check_status(response: httpx.Response, url: str) -> None:
    """Raise TransientError for an answer that may pass, FetchError for any other that is not 200."""
    status = f"{response.status_code} {response.reason_phrase}".strip()
    if response.status_code == 429 or response.status_code >= 500:
        raise TransientError(
            f"the server answered {status}", retry_after(response.headers.get("retry-after"))
        )
    if response.status_code != 200:
        raise FetchError(f"{url}: the server answered {status}; check the address and your right to it")


def retry_after(header: str | None) -> float | None:
    """Seconds a server asks to wait, given as seconds or as a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header) if header.strip().isdigit() else until(header))
    except (TypeError, ValueError):
        return None


def until(date: str) -> float:
    """Seconds until an HTTP date."""
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()


def read_body(response: httpx.Response, url: str, max_bytes: int, console: Console | None) -> bytes:
    """The body, its bytes counted on a progress bar and against the limit."""
    length = response.headers.get("content-length", "")
    total = int(length) if length.isdigit() and "content-encoding" not in response.headers else None
    body = bytearray()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=console is None,
        transient=True,
    )
    with bar:
        task = bar.add_task("fetching", total=total)
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > max_bytes:
                raise FetchError(
                    f"{url}: the body exceeds the limit of {max_bytes} bytes; nothing was written"
                )
            bar.advance(task, len(chunk))
    return bytes(body)


def to_csv(body: bytes, url: str) -> tuple[bytes, int]:
    """The body as CSV in UTF-8, and its number of data rows."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise FetchError(
            f"{url}: the body is neither CSV nor JSON in UTF-8; it starts {body[:40]!r}"
        ) from exc
    if text.lstrip()[:1] in ("[", "{"):
        return rows_to_csv(json_rows(text, url), url)
    return text.encode(), count_rows(text, url)


def count_rows(text: str, url: str) -> int:
    """Data rows of a CSV. Raises FetchError when it is no table."""
    beginning = f"it starts {text[:40]!r}"
    if text.lstrip()[:1] == "<":
        raise FetchError(f"{url}: HTML or XML came instead of CSV or JSON; {beginning}")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        widths = [len(row) for row in reader if row]
    except csv.Error as exc:
        raise FetchError(f"{url}: no readable CSV ({exc}); {beginning}") from exc
    if len(header) < 2 or not widths:
        raise FetchError(f"{url}: no CSV of two columns or more with at least one row; {beginning}")
    if max(widths) > len(header):
        raise FetchError(
            f"{url}: a CSV row has {max(widths)} cells under {len(header)} column names; {beginning}"
        )
    return len(widths)


def json_rows(text: str, url: str) -> list[dict[str, Any]]:
    """The objects of a JSON answer."""
    try:
        content = msgspec.json.decode(text)
        return msgspec.convert(
            content.get("data") if isinstance(content, dict) else content, list[dict[str, Any]]
        )
    except msgspec.ValidationError as exc:
        wanted = 'an array of objects, or {"data": [...]}'
        raise FetchError(f"{url}: the JSON is not {wanted}: {exc}") from exc
    except msgspec.DecodeError as exc:
        raise FetchError(f"{url}: no readable JSON: {exc}; it starts {text[:40]!r}") from exc


def rows_to_csv(rows: list[dict[str, Any]], url: str) -> tuple[bytes, int]:
    """Objects as CSV, columns in the order in which they first appear."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise FetchError(f"{url}: the JSON holds no rows")
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: cell(value, name, url) for name, value in row.items()})
    return out.getvalue().encode(), len(rows)


def cell(value: object, name: str, url: str) -> object:
    """A JSON scalar as a CSV cell."""
    if isinstance(value, (dict, list)):
        raise FetchError(f"{url}: field {name!r} holds an object or array; a row needs plain values")
    return value
