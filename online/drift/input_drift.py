"""Drift of the features and of the predictions, seen without labels.

Each signal is watched by Page's CUSUM on its scores (:mod:`online.drift.cusum`) and by two-sample tests of
its last rows (:mod:`online.drift.window_tests`); each feature also by sums for missing values and for values
out of range or of an unseen category (:mod:`online.drift.rare_events`).

A signal has changed when it lies far from last month *and* far from the same season at bootstrap: the first
alone would be a season, the second alone an old change already told of.

The rates of false alarms of all tests add up to the budget, whatever depends on what (Boole's inequality):
each test gets an equal part of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from online.core.schema import Feature, Schema
from online.drift.cusum import ALLOWANCES, DIRECTIONS, CusumBank, long_run_deviation
from online.drift.detection import Detection
from online.drift.last_month import BASELINE_STEP, LastMonth
from online.drift.rare_events import RareEventCusum
from online.drift.reference import PREDICTION, Reference, Signal
from online.drift.window_tests import HOP_ROWS, WINDOW_ROWS, WindowTests
from online.features.value_encoder import Encoder
from online.storage.metrics_store import format_quantity

__all__ = ["InputDriftDetector"]

Floats = npt.NDArray[np.float64]

MAX_RECENT_ROWS = 3000  # kept, to describe a change by
PREDICTION_MONTHS = 3  # of predictions seen before they are watched: until then the target stands for them
INPUT_LAG_ROWS = (
    250  # between last month and now: a drift found within so many rows is not part of last month
)
EVENT_DETECTORS = ("missing", "range")  # the two kinds of rare event of every feature, as an alarm names them


class InputDriftDetector:
    """The detectors of one stream's inputs and predictions.

    Parameters
    ----------
    schema
        The stream.
    rows
        Encoded bootstrap rows in the order of time with the target as last column, (n, columns + 1).
    month
        Rows in a month.
    rows_per_alarm
        Rows after which all detectors together may have alarmed falsely once.
    """

    def __init__(self, schema: Schema, rows: Floats, month: int, rows_per_alarm: float) -> None:
        self._features = [(feature, encoded_columns(schema, feature)) for feature in schema.used]
        self._reference = Reference(schema, rows)
        self._signals = self._reference.signals
        # few bootstrap rows have a shorter month, so that there are rows to calibrate with beside it
        lag = min(INPUT_LAG_ROWS, len(rows) // 8)
        scores = self._reference.scores(rows)
        self._month = LastMonth(scores, min(month, len(rows) // 4), lag)
        self._quiet_rows = month
        sums = self._reference.width * len(ALLOWANCES) * len(DIRECTIONS)
        rare_events = len(EVENT_DETECTORS) * len(self._features)
        windows = len(self._signals)
        run_length = rows_per_alarm * (sums + rare_events + windows)
        # first the distances from the bootstrap rows, then those from last month
        both = np.hstack(LastMonth.history(scores, self._month.rows, lag))
        self._bank = CusumBank(long_run_deviation(both), run_length, self._month.rows)
        self._bank.calibrate(both)
        for signal in self._signals:
            if not signal.numeric:  # ones and zeros are too skewed for the quickest sum, of the largest k
                for half in (0, self._reference.width):
                    self._bank.limits[half + signal.series.start : half + signal.series.stop, -1] = np.inf
        self._rare = RareEventCusum(self._events(rows), run_length)
        self._windows = WindowTests(self._reference, scores, run_length)
        self._recent = rows[-MAX_RECENT_ROWS:].copy()
        self._quiet_until: dict[str, int] = {PREDICTION: PREDICTION_MONTHS * self._month.rows}
        self.distances: dict[str, float] = {}
        self.rows = 0

    def scores(self, rows: Floats) -> Floats:
        """What rows score against the bootstrap rows; many at once take little longer than a few."""
        return self._reference.scores(rows)

    def update(self, rows: Floats, scores: Floats | None = None) -> Iterator[Detection]:
        """Take in served rows. What is found does not depend on how they are cut into calls.

        Parameters
        ----------
        rows
            Encoded, with the prediction as last column, (n, columns + 1).
        scores
            Theirs, where they are known already, (n, width).

        Yields
        ------
        Detection
            A change, its indices counted from the first row ever taken in.
        """
        scores = self.scores(rows) if scores is None else scores
        while len(rows):
            size = BASELINE_STEP - self.rows % BASELINE_STEP
            yield from self._step(rows[:size], scores[:size])
            rows, scores = rows[size:], scores[size:]

    def _step(self, rows: Floats, scores: Floats) -> Iterator[Detection]:
        """Take in rows that do not reach over a multiple of BASELINE_STEP."""
        first = self.rows
        self.rows += len(rows)
        self._recent = np.concatenate([self._recent, rows])[-MAX_RECENT_ROWS:]
        levels, starts = self._bank.update(np.hstack([scores, self._month.shifts(scores)]), first)
        yield from self._shifted(levels, starts[:, self._reference.width :], first)
        yield from self._frequent(*self._rare.update(self._events(rows), first), first)
        if first < PREDICTION_MONTHS * self._month.rows <= self.rows:
            self._learn_predictions()
        if self.rows % HOP_ROWS == 0:
            yield from self._compared()

    def _learn_predictions(self) -> None:
        """Learn how much the predictions vary: not as the targets do that stood for them."""
        scores = self._reference.scores(self._recent[-PREDICTION_MONTHS * self._month.rows :])
        _, shifts = LastMonth.history(scores, self._month.rows, self._month.lag)
        # the prediction's two scores are the last ones
        self._bank.rescale(self._reference.width + np.arange(shifts.shape[1])[-2:], shifts[:, -2:])

    def _shifted(self, levels: Floats, starts: npt.NDArray[np.int64], first: int) -> Iterator[Detection]:
        """The signals far from last month, and from the same season at bootstrap where that is known.

        ``levels`` are sums over thresholds, (n, 2 width, allowances, directions), ``starts`` where those
        against last month began to grow, (n, width, allowances, directions).
        """
        to_bootstrap, to_month = np.split(levels, 2, axis=1)
        for signal in self._signals:
            level = to_month[:, signal.series]
            if self._reference.season.known and signal.name != PREDICTION:
                level = np.minimum(level, to_bootstrap[:, signal.series])
            level = level.reshape(len(levels), -1)
            if self._is_quiet(signal.name, first):
                self._reset(signal)
            elif level.max() > 1.0:
                row = int(np.argmax(level.max(axis=1) > 1.0))
                start = int(starts[row, signal.series].reshape(-1)[int(level[row].argmax())])
                yield self._changed(signal, "cusum", first + row, start)

    def _frequent(self, levels: Floats, starts: npt.NDArray[np.int64], first: int) -> Iterator[Detection]:
        """The rare events that became frequent."""
        for kind, exceeded in enumerate(levels.max(axis=0) > 1.0):
            if not exceeded:
                continue
            feature, _ = self._features[kind // 2]
            row = int(np.argmax(levels[:, kind] > 1.0))
            self._rare.reset(kind, self.rows)
            name = f"{feature.name}/{kind % 2}"
            if not self._is_quiet(name, first):
                self._quiet_until[name] = self.rows + self._quiet_rows
                yield self._describe_event(kind, feature, first + row, int(starts[row, kind]))

    def _compared(self) -> Iterator[Detection]:
        """The signals whose last rows are far from what is usual; notes every signal's distance."""
        distances = self._windows.distances(self._month.last(WINDOW_ROWS), self._month.before)
        for signal, distance, limit in zip(self._signals, distances, self._windows.limits, strict=True):
            self.distances[signal.name] = float(distance / limit)
            if distance > limit and signal.name != PREDICTION and not self._is_quiet(signal.name, self.rows):
                test = "kolmogorov-smirnov" if signal.numeric else "chi-square"
                # on average a change that a window shows began half a window ago
                yield self._changed(signal, test, self.rows - 1, self.rows - WINDOW_ROWS // 2)

    def _is_quiet(self, name: str, index: int) -> bool:
        return self._quiet_until.get(name, -1) > index

    def _changed(self, signal: Signal, detector: str, index: int, change_index: int) -> Detection:
        """Describe a shift; the signal is then quiet until last month has it too."""
        self._quiet_until[signal.name] = self.rows + self._quiet_rows
        self._reset(signal)
        cut = len(self._recent) - max(1, self.rows - change_index)
        before = self._recent[: max(cut, 1)][-self._month.rows :, signal.columns]
        after = self._recent[max(cut, 0) :, signal.columns]
        if signal.numeric:
            usual, now = known_median(before), known_median(after)
            change = f"typically {format_quantity(usual)} before, {format_quantity(now)} since"
        else:
            usual, now, change = self._share_change(signal, before, after)
        if signal.name == PREDICTION:
            message = f"the predictions changed: {change}"
            return Detection("prediction", PREDICTION, detector, index, change_index, usual, now, message)
        message = f"{signal.name} changed: {change}"
        return Detection("feature", signal.name, detector, index, change_index, usual, now, message)

    def _reset(self, signal: Signal) -> None:
        """Begin the sums against last month anew; those against the bootstrap rows go on."""
        width = self._reference.width
        self._bank.reset(np.arange(width + signal.series.start, width + signal.series.stop), self.rows)

    def _share_change(self, signal: Signal, before: Floats, after: Floats) -> tuple[float, float, str]:
        """Shares before and since of the category whose share changed most, and a sentence's end."""
        names = next(feature.values for feature, _ in self._features if feature.name == signal.name)
        usual, now = np.nan_to_num(np.nanmean(before, axis=0)), np.nan_to_num(np.nanmean(after, axis=0))
        most = int(np.abs(now - usual).argmax())
        text = f"{names[most]} in {usual[most]:.1%} of the rows before, in {now[most]:.1%} since"
        return float(usual[most]), float(now[most]), text

    def _describe_event(self, kind: int, feature: Feature, index: int, change_index: int) -> Detection:
        """Describe a rare event that became frequent."""
        events = self._events(self._recent[-max(1, self.rows - change_index) :])[:, kind]
        usual, now = float(self._rare.usual[kind]), float(events.mean())
        unknown = (
            "of an unseen category" if feature.kind == "category" else "out of the range seen at bootstrap"
        )
        what = ("missing or unreadable", unknown)[kind % 2]
        message = f"{feature.name} is {what} in {now:.1%} of the rows, {usual:.1%} at bootstrap"
        detector = EVENT_DETECTORS[kind % 2]
        return Detection("feature", feature.name, detector, index, change_index, usual, now, message)

    def _events(self, rows: Floats) -> Floats:
        """For each feature whether it is missing, and whether it is out of what is known, (n, 2 features)."""
        events = np.zeros((len(rows), len(EVENT_DETECTORS) * len(self._features)))
        for i, (feature, columns) in enumerate(self._features):
            values = rows[:, columns]
            events[:, 2 * i] = np.isnan(values[:, 0])
            if feature.kind == "category":
                events[:, 2 * i + 1] = values.sum(axis=1) == 0.0  # no column of a known category is 1
            elif feature.kind == "numeric" and feature.low is not None and feature.high is not None:
                events[:, 2 * i + 1] = (values[:, 0] < feature.low) | (values[:, 0] > feature.high)
        return events


def encoded_columns(schema: Schema, feature: Feature) -> slice:
    """A feature's columns among the encoded ones."""
    start = 0
    for other in schema.used:
        stop = start + len(Encoder((other,)).columns)
        if other.name == feature.name:
            return slice(start, stop)
        start = stop
    raise KeyError(feature.name)


def known_median(values: Floats) -> float:
    """The median of the values that are not missing; 0.0 where all are."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else 0.0
