"""Whether the learner is at work, from the status that it wrote last."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["learner_state"]

SILENT_SECONDS = 10.0  # it writes every second; one that has not for so long counts as down


def learner_state(status: dict[str, Any]) -> dict[str, Any]:
    """Whether the learner is at work (``alive``), since when that is known, and what keeps it from it.

    A learner that was killed has written no last word: its status says alive, and is old.
    """
    last = status.get("learner", {})
    updated_at = last.get("updated_at")
    recent = updated_at is not None and time.time() - updated_at < SILENT_SECONDS
    alive = bool(last.get("alive") and recent)
    return {"alive": alive, "updated_at": updated_at, "error": last.get("error")}
