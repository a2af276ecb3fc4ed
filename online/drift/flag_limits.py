"""The limits by which scorers flag a served row as a drifted input, and the file they travel in.

A value out of the bootstrap's range flags a row at once. The limits here add three more reasons: a wide
interval, experts that disagree, and a segment whose recent error is high. The drift monitor works them out
from served rows and outcomes (:mod:`online.drift.flag_limit_estimator`) and writes them to
``data/marks.json``; every scorer reads that file again when it changes. Flagging costs a row a few
comparisons.
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
from online.storage.served_predictions import EXPERTS_DISAGREE, HIGH_RECENT_ERROR, WIDE_INTERVAL

if TYPE_CHECKING:
    from online.scoring.scored import Scored  # which would bring along the whole of scoring

__all__ = ["NO_LIMIT", "FlagLimits", "FlagLimitsWatcher"]

log = logging.getLogger(__name__)

NO_LIMIT = 1e300  # more than any interval is wide; JSON has no infinity


class FlagLimits(msgspec.Struct, frozen=True):
    """What a served row must not exceed, in target units.

    The file keeps the short member names that scorers of earlier releases read.

    Parameters
    ----------
    interval_width
        Widest usual interval, upper minus lower bound.
    expert_spread
        Largest usual difference between the highest and the lowest expert.
    high_error_segments
        Key and slot, by number (:class:`~online.features.segments.Segments`), of segments whose recent error
        is high.
    """

    interval_width: float = msgspec.field(default=NO_LIMIT, name="width")
    expert_spread: float = msgspec.field(default=NO_LIMIT, name="spread")
    high_error_segments: frozenset[tuple[int, int]] = msgspec.field(default=frozenset(), name="hot")

    def save(self, path: Path) -> None:
        """Replace the file. Raises OSError."""
        write_atomically(path, msgspec.json.encode(self))

    def add(self, scored: Scored, segments: Segments) -> None:
        """Append the reasons that hold to each row's list of reasons.

        Parameters
        ----------
        scored
            Rows just scored; their ``drifted`` lists are extended in place.
        segments
            Tells which segment a row lies in.
        """
        if self.interval_width < NO_LIMIT:
            for reasons, low, high in zip(scored.drifted, scored.lower, scored.upper, strict=True):
                if high - low > self.interval_width:
                    reasons.append(WIDE_INTERVAL)
        if self.expert_spread < NO_LIMIT:
            for row_index in self._disagreeing(scored.experts):
                scored.drifted[row_index].append(EXPERTS_DISAGREE)
        if self.high_error_segments:
            for reasons, row in zip(scored.drifted, scored.rows, strict=True):
                if segments.segment_of(row) in self.high_error_segments:
                    reasons.append(HIGH_RECENT_ERROR)

    def _disagreeing(self, experts: Sequence[Sequence[float]] | np.ndarray) -> list[int]:
        """Indices of the rows whose experts' outputs, (n, experts), lie too far apart."""
        if isinstance(experts, np.ndarray):
            spreads = np.ptp(experts, axis=1)
            row_indices: list[int] = np.flatnonzero(spreads > self.expert_spread).tolist()
            return row_indices
        # one row or a few: building an array would cost more than it saves
        return [i for i, outputs in enumerate(experts) if max(outputs) - min(outputs) > self.expert_spread]


class FlagLimitsWatcher:
    """Keeps the newest limits at hand: scorers read ``limits``, one reference, and never wait.

    Parameters
    ----------
    path
        ``data/marks.json``; while it does not exist, no limit applies.
    poll_seconds
        How often to look for a new file.
    """

    def __init__(self, path: Path, poll_seconds: float = 0.5) -> None:
        self._path = path
        self.limits = FlagLimits()
        self._file = FileWatcher(path, self._load, poll_seconds, "flag-limits")
        self._file.refresh()
        self._file.start()

    def refresh(self) -> None:
        """Look now; a file that cannot be read leaves the limits as they are."""
        self._file.refresh()

    def close(self) -> None:
        """Stop looking."""
        self._file.close()

    def _load(self) -> None:
        try:
            self.limits = msgspec.json.decode(self._path.read_bytes(), type=FlagLimits)
        except (OSError, msgspec.MsgspecError) as exc:
            log.warning("%s cannot be read, the limits stay as they are: %s", self._path, exc)
