"""The watcher: reads what was served and how wrong it was, sees drift, and says so. Off scoring and learning.

What it knows it knows from the bootstrap rows, the ledger and the history alone: a watcher that is
started again reads the last served rows again, and goes on as if it had not been away. The drift log has
a bookmark of its own.
"""

from __future__ import annotations

import collections
import csv
import logging
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from online.core.config import Config
from online.core.home import Home
from online.core.schema import Schema
from online.drift.detection import Detection
from online.drift.error_drift import ErrorDrift
from online.drift.events import WEEK, Events, Sight
from online.drift.flag_limits import Marks
from online.drift.input_drift import InputDrift
from online.drift.limits import Limits
from online.drift.log import DriftLog
from online.drift.store import Labelled, ScoreStore, ServedReader
from online.drift.windows import HOP
from online.features.column_encoder import ColumnEncoder
from online.features.encoder import Encoder, number
from online.storage.metrics_store import Alarm, History
from online.storage.served_predictions import Served

__all__ = ["CHUNK", "Watch", "bootstrap_rows"]

log = logging.getLogger(__name__)

CHUNK = 2000  # rows read at once
AGAIN = 50_000  # rows read again after a start
MOST_BOOTSTRAP_ROWS = 50_000
FEWEST_BOOTSTRAP_ROWS = 200
TELL_SECONDS = 1.0
STATUS = "watcher"


class Watch:
    """Watches one home. Use as a context manager; one thread, one process a home.

    Parameters
    ----------
    home, config
        What to watch, and how.
    clock
        Unix seconds.
    """

    def __init__(self, home: Home, config: Config, clock: Callable[[], float] = time.time) -> None:
        self._home = home
        self._config = config
        self._clock = clock
        self._late = False  # whether rows are being left out

    def __enter__(self) -> Watch:
        home, config = self._home, self._config
        self._schema = config.schema
        self._encoder = ColumnEncoder.of(self._schema)
        self._history = History(home.create().history, config.learner.history_rows)
        self._store = ScoreStore(home.history)
        self._ledger = ServedReader(home.ledger, self._schema)
        settings = config.drift
        self._log = DriftLog(home.drift_log, self._schema, settings.log_bytes, settings.log_files)
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._ledger, self._store, self._history):
            one.close()

    def step(self) -> int:
        """Take in what has come since, at most CHUNK rows or outcomes; how many."""
        last = self._ledger.last()
        if last < self._row:
            log.warning("the ledger was begun anew; so is what is known of it")
            self._log.row = 0
            self._begin()
        self._leave_out(last)
        rows = self._ledger.after(self._row, CHUNK)
        outcomes = self._store.outcomes(self._seq, CHUNK)
        self._log.append([(n, one) for n, one in rows if one.drifted and n > self._log.row])
        self._served(rows)
        self._labelled(outcomes)
        self._write()
        return max(len(rows), len(outcomes))

    def _begin(self) -> None:
        """Begin with the bootstrap rows alone, some way back."""
        settings, budget = self._config.drift, self._config.drift.alarms_per_week
        # a third of the budget is what thresholds may spend on the inputs, a third on the error
        share = 3.0 * settings.rows_per_week / budget
        rows = bootstrap_rows(self._home, self._schema)
        enough = len(rows) >= FEWEST_BOOTSTRAP_ROWS
        self._inputs = InputDrift(self._schema, rows, settings.month_rows, share) if enough else None
        if not enough:
            log.warning("no bootstrap rows in %s: inputs are not watched", self._home.data)
        self._errors = ErrorDrift(settings.month_rows, share)
        self._known = {one.key: one for one in self._history.alarms()}
        week = self._clock() - WEEK
        rung = [one.at for one in self._known.values() if one.since and not one.muted and one.at > week]
        self._events = Events(settings.cooldown_rows, budget, rung)
        self._limits = Limits()
        self._marks = Marks()
        self._done = self._history.status().get(STATUS, {"row": 0, "seq": 0})
        self._row = max(0, min(self._ledger.last(), self._done["row"]) - AGAIN)
        self._seq = max(0, self._done["seq"] - AGAIN)
        self._rows: collections.deque[tuple[float, int]] = collections.deque(maxlen=AGAIN)
        self._labels: collections.deque[float] = collections.deque(maxlen=AGAIN)
        self._alarms: dict[str, Alarm] = {}
        self._moments: list[tuple[int, float, dict[str, float]]] = []
        self._told_at = 0.0

    def _leave_out(self, last: int) -> None:
        """Go on nearer to the newest row, ``last``, when too many are to be read."""
        most, behind = self._config.drift.behind_rows, last - self._row
        if behind > most:
            self._row = last - most // 2
            if not self._late:
                log.warning("%d served rows behind: drift is watched for in some of them only", behind)
        self._late = behind > most or (self._late and behind > CHUNK)

    def _served(self, rows: Sequence[tuple[int, Served]]) -> None:
        """Take in served rows, HOP at a time, so that scores are kept about every HOP rows."""
        if not rows:
            return
        values = self._encoded(rows)
        scores = values if self._inputs is None else self._inputs.scores(values)
        for start in range(0, len(rows), HOP):
            chunk = rows[start : start + HOP]
            self._row = chunk[-1][0]
            self._rows.extend((one.served_at, n) for n, one in chunk)
            self._limits.served([one for _, one in chunk])
            if self._inputs is None:
                continue
            before, part = self._inputs.place, slice(start, start + HOP)
            for found in self._inputs.update(values[part], scores[part]):
                back = min(max(1, before + len(chunk) - found.since), len(self._rows))
                self._alarm(found, *self._rows[-back])
            if self._inputs.place // HOP > before // HOP:
                self._moments.append((self._row, chunk[-1][1].served_at, dict(self._inputs.distances)))

    def _encoded(self, rows: Sequence[tuple[int, Served]]) -> np.ndarray:
        """What rows' features encode to, with the prediction as last column: (n, columns + 1)."""
        values = np.empty((len(rows), self._encoder.width + 1))
        self._encoder.write([one.features for _, one in rows], values[:, :-1])
        values[:, -1] = [one.prediction for _, one in rows]
        return values

    def _labelled(self, outcomes: Sequence[Labelled]) -> None:
        for one in outcomes:
            self._seq = one.seq
            self._labels.append(one.served_at)
            self._limits.labelled(one.place, one.error)
            if self._events.labelled(one.served_at, one.error):
                self._note()
            for found in self._errors.update(np.array([one.error]), np.array([one.half_width])):
                since = self._labels[-min(max(1, self._errors.place - found.since), len(self._labels))]
                self._alarm(found, since, next((n for at, n in self._rows if at >= since), self._row))

    def _alarm(self, found: Detection, since: float, since_row: int) -> None:
        """Note the alarm that a detection makes or belongs to."""
        new = self._events.add(found, Sight(self._clock(), self._row, self._seq, since, since_row))
        if new.times == 1 and new.key not in self._known and not self._again:
            log.warning("alarm: %s", new.message)
        self._note()

    @property
    def _again(self) -> bool:
        """Whether what is read now was read before this start."""
        return bool(self._row <= self._done["row"] and self._seq <= self._done["seq"])

    def _note(self) -> None:
        """Keep the last event to be written; one seen again keeps its moment, or, if it never was one,
        is none."""
        last = self._events.last
        if last is None:
            return
        known = self._known.get(last.key)
        if known is None and self._again:
            return
        if known is not None:
            last = msgspec.structs.replace(last, at=known.at, seq=known.seq, muted=known.muted)
        self._known[last.key] = self._alarms[last.key] = last

    def _write(self) -> None:
        """Write alarms at once, the rest once a second."""
        now = self._clock()
        due = now - self._told_at >= TELL_SECONDS
        if not due and not any(one.times == 1 and one.cost_labels == 0 for one in self._alarms.values()):
            return
        self._told_at = now
        self._store.add(self._moments)
        status = {"row": max(self._row, self._done["row"]), "seq": max(self._seq, self._done["seq"])}
        self._history.write((), list(self._alarms.values()), {STATUS: status | {"updated_at": now}})
        self._moments.clear()
        self._alarms.clear()
        marks = self._limits.marks()
        if marks != self._marks and not self._again:
            marks.save(self._home.marks)
            self._marks = marks


def bootstrap_rows(home: Home, schema: Schema) -> np.ndarray:
    """The last rows the model was bootstrapped with, encoded, with the target as last column."""
    encoder = Encoder.of(schema)
    kept: collections.deque[list[float]] = collections.deque(maxlen=MOST_BOOTSTRAP_ROWS)
    for part in ("train", "validation"):
        path = home.data / f"{part}.csv"
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    target = number(row.get(schema.target.name))
                    if target is not None:
                        kept.append([*encoder.encode(row).values, target])
    return np.array(kept, dtype=np.float64).reshape(len(kept), len(encoder.columns) + 1)
