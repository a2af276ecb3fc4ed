"""Plans as files: safetensors, whose metadata say what the plan is and what its bytes must hash to.

The metadata have one key, ``plan``: a JSON object of ``format`` (a number), ``info`` (what the plan says of
itself) and ``sha256``, that of the info's JSON and of every array's name, dtype, shape and bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors_numpy

from online.core.errors import PlanError
from online.core.schema import Schema

__all__ = ["PLAN_FORMAT", "PlanContent", "dumps", "keep_previous", "previous_of", "read", "read_schema"]

Array = npt.NDArray[Any]

PLAN_FORMAT = 3  # 2 had other names of arrays, and River's alternate trees
OLDEST_FORMAT = 2
METADATA_KEY = "plan"


class PlanHead(msgspec.Struct, frozen=True):
    """What a plan's file says of itself; ``info`` is JSON, byte for byte."""

    info: msgspec.Raw
    sha256: str = ""
    format: int = 1


class PlanContent(NamedTuple):
    """What a file holds: its format, the info's JSON, and arrays by name."""

    format: int
    info: bytes
    arrays: dict[str, Array]

    def arrays_now(self) -> dict[str, Array]:
        """The arrays as this format has them. Raises LookupError or ValueError where they are none of it."""
        if self.format == PLAN_FORMAT:
            return self.arrays
        from online.scoring.plan_format_2 import from_format_2  # kernels, and perhaps River, come with it

        return from_format_2(self.arrays)


def dumps(info: bytes, arrays: Mapping[str, Array]) -> bytes:
    """A plan's file.

    Parameters
    ----------
    info
        The info's JSON.
    arrays
        C-contiguous, by name.

    Returns
    -------
    bytes
        The same for the same plan.
    """
    head = PlanHead(msgspec.Raw(info), digest(info, arrays), PLAN_FORMAT)
    return safetensors_numpy.save(dict(arrays), {METADATA_KEY: msgspec.json.encode(head).decode()})


def read(path: Path) -> PlanContent:
    """Read a file that :func:`dumps` made.

    Raises
    ------
    PlanError
        The file is missing, torn, damaged, of another version or no plan.
    """
    try:
        # pread, not mmap: what was checked must not change afterwards, and a mapped file that someone cuts
        # short would kill the process. It is the only copy.
        with safe_open(path, framework="np", backend="pread") as file:
            head = msgspec.json.decode(file.metadata()[METADATA_KEY], type=PlanHead)
            check_format(path, head.format)
            arrays: dict[str, Array] = file.get_tensors()
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, msgspec.MsgspecError) as exc:
        raise PlanError(f"{path} is no whole plan: {exc}") from exc
    if digest(bytes(head.info), arrays) != head.sha256:
        raise PlanError(f"{path} is damaged: its sha256 is not the one it names")
    return PlanContent(head.format, bytes(head.info), arrays)


def check_format(path: Path, number: int) -> None:
    """Refuse a format that cannot be read, by name and with what helps."""
    if number < OLDEST_FORMAT:
        raise PlanError(
            f"{path} is a plan of format {number}, this version reads {OLDEST_FORMAT} to {PLAN_FORMAT}:"
            " start the learner, it writes the plan anew"
        )
    if number > PLAN_FORMAT:
        raise PlanError(
            f"{path} is a plan of format {number}, of a later release, this one reads up to {PLAN_FORMAT}:"
            " upgrade Millrace, or start the learner of this release, which writes the plan anew"
        )


def previous_of(path: Path) -> Path:
    """Where the plan published before the one in a file is."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def keep_previous(path: Path) -> None:
    """Keep what a file holds under its second name, before the file is replaced; where links can be made."""
    spare = path.with_name(f".{path.name}.{os.getpid()}.link")
    # not everywhere are there hard links, nor is there a plan the first time; only a fallback is lost then
    with contextlib.suppress(OSError):
        os.link(path, spare)
        spare.replace(previous_of(path))
    spare.unlink(missing_ok=True)  # also where both names were of one file already


class DescribedPlan(msgspec.Struct):
    """The part of a plan's info that says what its rows are."""

    schema: Schema


def read_schema(path: Path) -> Schema:
    """The schema of the plan in a file; no kernel is loaded. Raises PlanError as :func:`read` does."""
    try:
        return msgspec.json.decode(read(path).info, type=DescribedPlan).schema
    except msgspec.MsgspecError as exc:
        raise PlanError(f"{path} is no whole plan: {exc}") from exc


def digest(info: bytes, arrays: Mapping[str, Array]) -> str:
    """The SHA-256 of a plan's content, in hex."""
    content = hashlib.sha256(info)
    for name, array in sorted(arrays.items()):
        content.update(f"{name} {array.dtype.str} {array.shape}".encode())
        content.update(array.reshape(-1).view(np.uint8).data)
    return content.hexdigest()
