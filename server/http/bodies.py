"""Request bodies in, replies out: JSON and MessagePack both ways; NDJSON and CSV in."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from litestar import Request, Response
from litestar.exceptions import InternalServerException

from online.core.csv_rows import csv_lines, csv_rows
from online.core.errors import InputError
from online.features.value_encoder import number

__all__ = ["RequestRows", "decode_rows", "read_body", "reply"]

JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"  # what 'curl -d' says of anything: taken for JSON
MSGPACK_TYPES = ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack")
NDJSON_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
CSV_TYPE = "text/csv"


class RequestRows(NamedTuple):
    """Rows of a request; ``single`` when it was one object and no array."""

    rows: list[dict[str, Any]]
    single: bool


async def read_body(request: Request[Any, Any, Any]) -> bytes:
    """A request's whole body.

    Raises
    ------
    InputError
        The body is compressed, or its client went away before its end.
    """
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() not in ("", "identity"):
        raise WrongMediaType(f"content encoding {coding[:80]!r} is not understood: send the body as it is")
    try:
        return await request.body()
    except InternalServerException as exc:  # what Litestar makes of a disconnect: no fault of ours
        raise InputError("the client went away before the body's end") from exc


def decode_rows(body: bytes, content_type: str, *, limit: int, numbers: tuple[str, ...] = ()) -> RequestRows:
    """Read a request body.

    Parameters
    ----------
    body, content_type
        As they came; a missing content type is taken for JSON.
    limit
        Rows accepted at most.
    numbers
        Columns read as numbers in CSV, where everything is text.

    Returns
    -------
    RequestRows
        The rows, and whether it was one alone.

    Raises
    ------
    InputError
        The body is malformed, holds something else than objects, or too many of them.
    """
    decode = decoder(content_type.partition(";")[0].strip().lower() or JSON_TYPE, numbers)
    try:
        content = decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, csv.Error, RecursionError) as exc:
        raise InputError(f"the body is not well-formed {content_type or JSON_TYPE}: {exc}") from exc
    single = isinstance(content, dict)
    rows = [content] if single else content
    if not isinstance(rows, list):
        raise InputError("the body must be one object, or an array of objects")
    if len(rows) > limit:
        raise TooManyRows(f"{len(rows)} rows in one request: send at most {limit}")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"row {index} is no object", index=index)
    return RequestRows(rows, single)


class TooManyRows(InputError):
    """More rows than one request may hold."""


class WrongMediaType(InputError):
    """A content type that is not understood."""


def decoder(media: str, numbers: tuple[str, ...]) -> Callable[[bytes], Any]:
    """What reads a media type."""
    if media in (JSON_TYPE, FORM_TYPE) or media.endswith("+json"):
        return msgspec.json.decode
    if media in MSGPACK_TYPES:
        return msgspec.msgpack.decode
    if media in NDJSON_TYPES:
        return msgspec.json.Decoder().decode_lines
    if media == CSV_TYPE:
        return lambda body: read_csv(body, numbers)
    known = ", ".join((JSON_TYPE, MSGPACK_TYPES[0], NDJSON_TYPES[0], CSV_TYPE))
    raise WrongMediaType(f"content type {media!r} is not understood: send one of {known}")


def read_csv(body: bytes, numbers: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of a CSV with a header; an empty cell is a missing value, a surplus one an error."""
    rows = []
    for row in csv_rows(csv_lines(body)):
        cells: dict[str, Any] = {name: text for name, text in row.items() if text is not None}
        for name in numbers:
            if name in cells:
                cells[name] = cells[name] if (read := number(cells[name])) is None else read
        rows.append(cells)
    return rows


def reply(request: Request[Any, Any, Any], content: object, status: int = 200) -> Response[bytes]:
    """Answer in the format asked for; MessagePack is answered with MessagePack when nothing is asked for.

    Parameters
    ----------
    request
        What is answered.
    content
        What msgspec can encode.
    status
        Of the reply.

    Returns
    -------
    Response
        JSON or MessagePack.
    """
    media = wanted(request.headers)
    encode = msgspec.msgpack.encode if media in MSGPACK_TYPES else msgspec.json.encode
    return Response(encode(content), status_code=status, media_type=media)


def wanted(headers: Mapping[str, str]) -> str:
    """The media type to answer with."""
    accept = headers.get("accept", "").lower()
    liked = preferences(accept)
    for media in MSGPACK_TYPES:
        if liked.get(media, 0.0) > 0.0 and liked[media] >= liked.get(JSON_TYPE, 0.0):
            return media
    sent = headers.get("content-type", "").partition(";")[0].strip().lower()
    return sent if sent in MSGPACK_TYPES and accept in ("", "*/*") else JSON_TYPE


def preferences(accept: str) -> dict[str, float]:
    """How much each media type of an Accept header is liked: its q, 0 for never to 1 (RFC 9110, 12.5.1)."""
    liked = {}
    for entry in accept.split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        weights = [number(part[2:]) for part in parameters if part.startswith("q=")]
        liked[media] = 1.0 if not weights or weights[0] is None else weights[0]
    return liked
