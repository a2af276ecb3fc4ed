"""Reads what was served and how wrong it was, finds drift, and writes alarms; beside scoring and learning.

All it knows follows from the bootstrap rows, the prediction log and the metrics store, so it keeps no state
of its own: after a restart it reads the last served rows again and goes on as if it had not been away. The
drift log has a bookmark of its own (:mod:`online.drift.drift_log`).
"""

from __future__ import annotations

import collections
import logging
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from online.core.config import Config
from online.core.csv_rows import csv_rows
from online.core.home import Home
from online.core.schema import Schema
from online.drift.alarms import WEEK_SECONDS, AlarmPolicy, DetectionContext
from online.drift.detection import Detection
from online.drift.drift_log import DriftLog
from online.drift.error_drift import ErrorDriftDetector
from online.drift.flag_limit_estimator import FlagLimitEstimator
from online.drift.flag_limits import FlagLimits
from online.drift.input_drift import InputDriftDetector
from online.drift.store import DriftScoreStore, LabelledOutcome, PredictionReader
from online.drift.window_tests import HOP_ROWS
from online.features.batch_encoder import BatchEncoder
from online.features.value_encoder import Encoder, number
from online.storage.metrics_store import Alarm, MetricsStore
from online.storage.served_predictions import Served, encoded_values

__all__ = ["STEP_ROWS", "DriftMonitor"]

log = logging.getLogger(__name__)

STEP_ROWS = 2000  # read at once: a step takes well under a second, so a stop is soon heard
REREAD_ROWS = 50_000  # read again after a start: more than any detector remembers
MAX_BOOTSTRAP_ROWS = 50_000  # hourly rows of five years; more would cost memory and tell no more
MIN_BOOTSTRAP_ROWS = 200  # windows and months need some
WRITE_SECONDS = 1.0  # alarms that grow, and scores over time, are written so often
STATUS_KEY = "watcher"  # under which the metrics store keeps how far this has come


class DriftMonitor:
    """Watches the stream of one home. Use as a context manager; one thread, one process a home.

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
        self._skipping = False  # whether rows are being left out

    def __enter__(self) -> DriftMonitor:
        home, config = self._home, self._config
        self._schema = config.schema
        self._schema_hash = self._schema.hash
        self._encoder = BatchEncoder.of(self._schema)
        self._history = MetricsStore(home.create().history, config.learner.history_rows)
        self._store = DriftScoreStore(home.history)
        self._ledger = PredictionReader(home.ledger, self._schema)
        settings = config.drift
        self._log = DriftLog(home.drift_log, self._schema, settings.log_bytes, settings.log_files)
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        for database in (self._ledger, self._store, self._history):
            database.close()

    def step(self) -> int:
        """Take in what has come since the last step, at most STEP_ROWS served rows and as many outcomes.

        Returns
        -------
        int
            How many there were, of whichever were more.

        Raises
        ------
        sqlite3.Error, OSError
            A file could not be read or written. What was taken in is lost to this object: open a new one.
        """
        newest = self._ledger.last()
        if newest < self._row:
            log.warning("the ledger was begun anew; so is what is known of it")
            self._log.row = 0
            self._begin()
        self._skip_rows(newest)
        rows = self._ledger.after(self._row, STEP_ROWS)
        outcomes = self._store.outcomes(self._seq, STEP_ROWS)
        self._log.append([(n, row) for n, row in rows if row.drifted and n > self._log.row])
        self._add_served(rows)
        self._add_outcomes(outcomes)
        self._write()
        return max(len(rows), len(outcomes))

    def _begin(self) -> None:
        """Begin with the bootstrap rows alone, REREAD_ROWS before where the last run ended."""
        settings, budget = self._config.drift, self._config.drift.alarms_per_week
        # a third of the budget is for false alarms of the inputs, a third for those of the error
        rows_per_alarm = 3.0 * settings.rows_per_week / budget
        rows = bootstrap_rows(self._home, self._schema)
        self._inputs: InputDriftDetector | None = None
        if len(rows) >= MIN_BOOTSTRAP_ROWS:
            self._inputs = InputDriftDetector(self._schema, rows, settings.month_rows, rows_per_alarm)
        else:
            log.warning("no bootstrap rows in %s: inputs are not watched", self._home.data)
        self._errors = ErrorDriftDetector(settings.month_rows, rows_per_alarm)
        self._known = {alarm.key: alarm for alarm in self._history.alarms()}
        week_ago = self._clock() - WEEK_SECONDS
        rung = [a.at for a in self._known.values() if a.since and not a.muted and a.at > week_ago]
        self._policy = AlarmPolicy(settings.cooldown_rows, budget, rung)
        self._estimator = FlagLimitEstimator()
        self._written_limits = FlagLimits()
        self._done = self._history.status().get(STATUS_KEY, {"row": 0, "seq": 0})
        self._row = max(0, min(self._ledger.last(), self._done["row"]) - REREAD_ROWS)
        self._seq = max(0, self._done["seq"] - REREAD_ROWS)
        # when recent rows were served, with their numbers; and recent labels' rows, by label
        self._served_at: collections.deque[tuple[float, int]] = collections.deque(maxlen=REREAD_ROWS)
        self._label_served_at: collections.deque[float] = collections.deque(maxlen=REREAD_ROWS)
        self._unwritten_alarms: dict[str, Alarm] = {}
        self._unwritten_scores: list[tuple[int, float, dict[str, float]]] = []
        self._wrote_at = 0.0

    def _skip_rows(self, newest: int) -> None:
        """Go on nearer to the newest row when more are behind than can be caught up with."""
        limit, behind = self._config.drift.max_lag_rows, newest - self._row
        if behind > limit:
            self._row = newest - limit // 2
            if not self._skipping:
                log.warning("%d served rows behind: drift is watched for in some of them only", behind)
        # said again only after it has once caught up
        self._skipping = behind > limit or (self._skipping and behind > STEP_ROWS)

    def _add_served(self, rows: Sequence[tuple[int, Served]]) -> None:
        """Take in served rows, HOP_ROWS at a time, so that scores are kept about every HOP_ROWS rows."""
        if not rows:
            return
        values = self._encoded(rows)
        scores = values if self._inputs is None else self._inputs.scores(values)
        for start in range(0, len(rows), HOP_ROWS):
            chunk, part = rows[start : start + HOP_ROWS], slice(start, start + HOP_ROWS)
            self._row = chunk[-1][0]
            self._served_at.extend((row.served_at, n) for n, row in chunk)
            self._estimator.add_served([row for _, row in chunk])
            if self._inputs is None:
                continue
            before = self._inputs.rows
            for detection in self._inputs.update(values[part], scores[part]):
                rows_ago = min(max(1, before + len(chunk) - detection.change_index), len(self._served_at))
                self._add_detection(detection, *self._served_at[-rows_ago])
            if self._inputs.rows // HOP_ROWS > before // HOP_ROWS:
                distances = dict(self._inputs.distances)
                self._unwritten_scores.append((self._row, chunk[-1][1].served_at, distances))

    def _encoded(self, rows: Sequence[tuple[int, Served]]) -> np.ndarray:
        """The rows' encoded features, the prediction as last column: (n, columns + 1)."""
        values = np.empty((len(rows), self._encoder.width + 1))
        values[:, :-1] = encoded_values([row for _, row in rows], self._encoder, self._schema_hash)
        values[:, -1] = [row.prediction for _, row in rows]
        return values

    def _add_outcomes(self, outcomes: Sequence[LabelledOutcome]) -> None:
        for outcome in outcomes:
            self._seq = outcome.seq
            self._label_served_at.append(outcome.served_at)
            self._estimator.add_error(outcome.segment, outcome.error)
            if self._policy.add_error(outcome.served_at, outcome.error):
                self._keep_last_alarm()
            errors, half_widths = np.array([outcome.error]), np.array([outcome.half_width])
            for detection in self._errors.update(errors, half_widths):
                labels_ago = max(1, self._errors.labels - detection.change_index)
                since = self._label_served_at[-min(labels_ago, len(self._label_served_at))]
                since_row = next((n for at, n in self._served_at if at >= since), self._row)
                self._add_detection(detection, since, since_row)

    def _add_detection(self, detection: Detection, since: float, since_row: int) -> None:
        """Note the alarm that a detection makes or belongs to."""
        context = DetectionContext(self._clock(), self._row, self._seq, since, since_row)
        alarm = self._policy.add(detection, context)
        if alarm.times == 1 and alarm.key not in self._known and not self._rereading:
            log.warning("alarm: %s", alarm.message)
        self._keep_last_alarm()

    @property
    def _rereading(self) -> bool:
        """Whether what is read now was read before this start."""
        return bool(self._row <= self._done["row"] and self._seq <= self._done["seq"])

    def _keep_last_alarm(self) -> None:
        """Keep the last alarm to be written.

        An alarm met again after a restart keeps the moment it was raised at. One that only rereading finds
        was no alarm in its time, when the calibration was another, and is none now.
        """
        last = self._policy.last
        if last is None:
            return
        known = self._known.get(last.key)
        if known is None and self._rereading:
            return
        if known is not None:
            last = msgspec.structs.replace(last, at=known.at, seq=known.seq, muted=known.muted)
        self._known[last.key] = self._unwritten_alarms[last.key] = last

    def _write(self) -> None:
        """Write new alarms at once, the rest every WRITE_SECONDS."""
        now = self._clock()
        due = now - self._wrote_at >= WRITE_SECONDS
        new = any(alarm.times == 1 and alarm.cost_labels == 0 for alarm in self._unwritten_alarms.values())
        if not due and not new:
            return
        self._wrote_at = now
        self._store.add(self._unwritten_scores)
        status = {"row": max(self._row, self._done["row"]), "seq": max(self._seq, self._done["seq"])}
        alarms = list(self._unwritten_alarms.values())
        self._history.write((), alarms, {STATUS_KEY: status | {"updated_at": now}})
        self._unwritten_scores.clear()
        self._unwritten_alarms.clear()
        limits = self._estimator.limits()
        # while rereading, the limits are those of a moment long gone, and the file has newer ones
        if limits != self._written_limits and not self._rereading:
            limits.save(self._home.flag_limits)
            self._written_limits = limits


def bootstrap_rows(home: Home, schema: Schema) -> np.ndarray:
    """The last rows the model was bootstrapped with, encoded, the target as last column: (n, columns + 1)."""
    encoder = Encoder.of(schema)
    rows: collections.deque[list[float]] = collections.deque(maxlen=MAX_BOOTSTRAP_ROWS)
    for part in ("train", "validation"):  # the order of time
        path = home.data / f"{part}.csv"
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv_rows(file):
                    target = number(row.get(schema.target.name))
                    if target is not None:
                        rows.append([*encoder.encode(row).values, target])
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(encoder.columns) + 1)
