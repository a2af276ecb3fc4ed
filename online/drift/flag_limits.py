"""What makes a served row a drifted input, beside values out of what is known: the limits scorers mark
rows by.

The watcher works them out from what was served and how wrong it was, and writes them to ``data/marks.json``;
scorers look at the file now and then. Marking costs a row a few comparisons.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from online.core.file_watcher import FileWatcher
from online.core.home import write_atomically
from online.features.segments import Segments

if TYPE_CHECKING:
    from online.scoring.scored import Scored  # what it brings along, the watcher has no use for

__all__ = ["DISAGREE", "HOT", "NO_LIMIT", "WIDE", "Marks", "MarksWatch"]

log = logging.getLogger(__name__)

NO_LIMIT = 1e300
WIDE, DISAGREE, HOT = "wide interval", "experts disagree", "high recent error"


class Marks(msgspec.Struct, frozen=True):
    """Limits in target units: of an interval's width and of the experts' spread; and places of high error.

    ``hot`` holds keys and slots, by number as :class:`~online.features.segments.Segments` gives them.
    """

    width: float = NO_LIMIT
    spread: float = NO_LIMIT
    hot: frozenset[tuple[int, int]] = frozenset()

    def save(self, path: Path) -> None:
        """Write the file."""
        write_atomically(path, msgspec.json.encode(self))

    def add(self, scored: Scored, slots: Segments) -> None:
        """Add the reasons that hold to what each row is marked with."""
        if self.width < NO_LIMIT:
            for drifted, low, high in zip(scored.drifted, scored.lower, scored.upper, strict=True):
                if high - low > self.width:
                    drifted.append(WIDE)
        if self.spread < NO_LIMIT:
            for place in self._disagreeing(scored.experts):
                scored.drifted[place].append(DISAGREE)
        if self.hot:
            for drifted, row in zip(scored.drifted, scored.rows, strict=True):
                if slots.segment_of(row) in self.hot:
                    drifted.append(HOT)

    def _disagreeing(self, experts: Sequence[Sequence[float]] | np.ndarray) -> list[int]:
        """The places of those rows whose experts' outputs (n, experts) stand too far apart."""
        if isinstance(experts, np.ndarray):
            places: list[int] = np.flatnonzero(np.ptp(experts, axis=1) > self.spread).tolist()
            return places
        return [place for place, row in enumerate(experts) if max(row) - min(row) > self.spread]


class MarksWatch:
    """Keeps the newest marks at hand, without waiting for them.

    Parameters
    ----------
    path
        ``data/marks.json``; until it is there, nothing is marked.
    poll_seconds
        How often to look.
    """

    def __init__(self, path: Path, poll_seconds: float = 0.5) -> None:
        self._path = path
        self.marks = Marks()
        self._file = FileWatcher(path, self._load, poll_seconds, "marks")
        self._file.refresh()
        self._file.start()

    def refresh(self) -> None:
        """Look now; a file that cannot be read leaves the marks as they are."""
        self._file.refresh()

    def close(self) -> None:
        """Stop looking."""
        self._file.close()

    def _load(self) -> None:
        try:
            self.marks = msgspec.json.decode(self._path.read_bytes(), type=Marks)
        except (OSError, msgspec.MsgspecError) as exc:
            log.warning("%s cannot be read, the limits stay as they are: %s", self._path, exc)
