"""Plans as bytes: safetensors, written whole and read without copying.

The format: eight bytes, little endian, with the length of a JSON object; that object, padded with spaces; the
arrays' bytes. The object names each array's dtype, shape and place. Its ``__metadata__`` has one key,
``plan``: a JSON object of ``format`` (a number), ``info`` (what the plan says of itself) and ``sha256``, that
of the info's JSON and of every array's name, dtype, shape and bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from online.core.errors import PlanError
from online.core.schema import Schema

__all__ = ["FORMAT", "PlanContent", "dumps", "keep_previous", "previous_of", "read", "read_schema"]

Array = npt.NDArray[Any]

FORMAT = 2
HEAD = "plan"
METADATA = "__metadata__"
LENGTH = 8
DTYPES: dict[str, type] = {"F64": np.float64, "I64": np.int64, "I32": np.int32}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


class Head(msgspec.Struct, frozen=True):
    """What a plan's file says of itself; ``info`` is JSON, byte for byte."""

    info: msgspec.Raw
    sha256: str = ""
    format: int = 1


class Tensor(msgspec.Struct, frozen=True):
    """Where an array lies in the data, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class PlanContent(NamedTuple):
    """What a file holds: the info's JSON, and read-only arrays by name."""

    info: bytes
    arrays: dict[str, Array]


def dumps(info: bytes, arrays: Mapping[str, Array]) -> bytes:
    """A plan's file from the info's JSON and C-contiguous arrays."""
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)  # so that all are aligned
    tensors: dict[str, object] = {}
    end = 0
    for name, array in ordered:
        end += array.nbytes
        tensors[name] = Tensor(NAMES[array.dtype], array.shape, (end - array.nbytes, end))
    head = Head(msgspec.Raw(info), digest(info, arrays), FORMAT)
    tensors[METADATA] = {HEAD: msgspec.json.encode(head).decode()}
    header = msgspec.json.encode(tensors)
    header += b" " * (-len(header) % LENGTH)
    return b"".join((len(header).to_bytes(LENGTH, "little"), header, *(raw(array) for _, array in ordered)))


def read(path: Path) -> PlanContent:
    """Read a file that :func:`dumps` made.

    Raises
    ------
    PlanError
        The file is missing, torn, damaged, of another version or no plan.
    """
    try:
        content = path.read_bytes()
        end = LENGTH + int.from_bytes(content[:LENGTH], "little")
        header = msgspec.json.decode(content[LENGTH:end], type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(header.pop(METADATA), type=dict[str, str])
        head = msgspec.json.decode(metadata[HEAD], type=Head)
        if head.format != FORMAT:
            raise PlanError(
                f"{path} is a plan of format {head.format}, this version reads {FORMAT}:"
                " start the learner, it writes the plan anew"
            )
        arrays = {
            name: tensor(content, end, msgspec.json.decode(raw, type=Tensor)) for name, raw in header.items()
        }
    except (OSError, LookupError, ValueError, OverflowError, msgspec.MsgspecError) as exc:
        raise PlanError(f"{path} is no whole plan: {exc}") from exc
    if digest(bytes(head.info), arrays) != head.sha256:
        raise PlanError(f"{path} is damaged: its sha256 is not the one it names")
    return PlanContent(bytes(head.info), arrays)


def previous_of(path: Path) -> Path:
    """Where the plan published before the one in a file is."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def keep_previous(path: Path) -> None:
    """Keep what a file holds under its second name, before the file is replaced; where links can be made."""
    spare = path.with_name(f".{path.name}.{os.getpid()}.link")
    with contextlib.suppress(OSError):
        os.link(path, spare)
        spare.replace(previous_of(path))
    spare.unlink(missing_ok=True)  # also where both names were of one file already


class Described(msgspec.Struct):
    """The part of a plan's info that says what its rows are."""

    schema: Schema


def read_schema(path: Path) -> Schema:
    """The schema of the plan in a file; no kernel is loaded. Raises PlanError as :func:`read` does."""
    try:
        return msgspec.json.decode(read(path).info, type=Described).schema
    except msgspec.MsgspecError as exc:
        raise PlanError(f"{path} is no whole plan: {exc}") from exc


def tensor(content: bytes, start: int, at: Tensor) -> Array:
    """One array, where it lies. Raises ValueError or LookupError for what is none."""
    dtype = DTYPES[at.dtype]
    count, size = math.prod(at.shape), np.dtype(dtype).itemsize
    first, last = at.data_offsets
    if first < 0 or last - first != count * size or start + last > len(content):
        raise ValueError("an array lies outside of the file")
    return np.frombuffer(content, dtype, count, start + first).reshape(at.shape)


def digest(info: bytes, arrays: Mapping[str, Array]) -> str:
    """The SHA-256 of a plan's content, in hex."""
    content = hashlib.sha256(info)
    for name, array in sorted(arrays.items()):
        content.update(f"{name} {array.dtype.str} {array.shape}".encode())
        content.update(raw(array))
    return content.hexdigest()


def raw(array: Array) -> memoryview:
    """A C-contiguous array's bytes, not copied."""
    return array.reshape(-1).view(np.uint8).data
