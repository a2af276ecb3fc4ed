"""What one detector says when it fires."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Detection"]


class Detection(msgspec.Struct, frozen=True):
    """A change in one subject, seen by one detector.

    ``place`` is where it fired and ``since`` where the change began, both counted in rows of the series the
    detector watches; ``before`` and ``after`` are typical values in the subject's unit.
    """

    kind: Literal["error", "feature", "prediction"]
    subject: str
    detector: str
    place: int
    since: int
    before: float
    after: float
    message: str
