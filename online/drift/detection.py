"""What a detector reports when it fires."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Detection"]


class Detection(msgspec.Struct, frozen=True):
    """A change of one signal, seen by one detector.

    Parameters
    ----------
    kind
        What changed: the error, a feature or the predictions.
    subject
        ``error``, ``prediction`` or the feature's name.
    detector
        Which test fired, as the alarm names it.
    index, change_index
        Where it fired and where the change began, counted in rows of the series the detector watches: served
        rows for features and predictions, labels for the error.
    before, after
        Typical values in the signal's unit.
    message
        The change in a sentence.
    """

    kind: Literal["error", "feature", "prediction"]
    subject: str
    detector: str
    index: int
    change_index: int
    before: float
    after: float
    message: str
