"""Drift of the features and of the predictions, seen without labels.

Every subject is watched by Page-Hinkley's test on its scores, by two-sample tests of its last rows, and,
a feature, by sums for missing values and for values that are out of range or of an unseen category. The
rates at which all of them alarm falsely add up to the budget, whatever depends on what: each gets an
equal part of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from online.core.schema import Feature, Schema
from online.drift.cusum import ALLOWANCES, CusumBank, long_run_deviation
from online.drift.detection import Detection
from online.drift.rare import RareEvents
from online.drift.reference import PREDICTION, Reference, Subject
from online.drift.shift import STEP, LastMonth
from online.drift.windows import HOP, WINDOW, WindowTest
from online.features.encoder import Encoder
from online.storage.metrics_store import in_words

__all__ = ["InputDrift"]

Floats = npt.NDArray[np.float64]

KEPT = 3000  # rows at hand to describe a change by
LEARNING = 3  # months of predictions seen before they are watched
LAG = 250  # rows between last month and now


class InputDrift:
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
        self._features = [(feature, cells(schema, feature)) for feature in schema.used]
        self._reference = Reference(schema, rows)
        self._subjects = self._reference.subjects
        lag = min(LAG, len(rows) // 8)
        scores = self._reference.scores(rows)
        self._month = LastMonth(scores, min(month, len(rows) // 4), lag)
        self._quiet = month
        # sums in two directions, sums of rare events, windows
        tests = self._reference.width * len(ALLOWANCES) * 2 + 2 * len(self._features) + len(self._subjects)
        run_length = rows_per_alarm * tests
        both = np.hstack(LastMonth.history(scores, self._month.rows, lag))
        self._bank = CusumBank(long_run_deviation(both), run_length, self._month.rows)
        self._bank.calibrate(both)
        for subject in self._subjects:
            if not subject.numeric:  # too skewed for the quickest sum
                for half in (0, self._reference.width):
                    self._bank.limits[half + subject.series.start : half + subject.series.stop, -1] = np.inf
        self._rare = RareEvents(self._events(rows), run_length)
        self._windows = WindowTest(self._reference, scores, run_length)
        self._kept = rows[-KEPT:].copy()
        self._muted: dict[str, int] = {PREDICTION: LEARNING * self._month.rows}
        self.distances: dict[str, float] = {}
        self.place = 0

    def scores(self, rows: Floats) -> Floats:
        """What rows score against the bootstrap rows; many at once take little longer than a few."""
        return self._reference.scores(rows)

    def update(self, rows: Floats, scores: Floats | None = None) -> Iterator[Detection]:
        """Take in served rows, encoded, with the prediction as last column, (n, columns + 1).

        ``scores`` are theirs, where they are known already.
        """
        scores = self.scores(rows) if scores is None else scores
        while len(rows):
            size = STEP - self.place % STEP
            yield from self._step(rows[:size], scores[:size])
            rows, scores = rows[size:], scores[size:]

    def _step(self, rows: Floats, scores: Floats) -> Iterator[Detection]:
        """Rows that do not reach over a multiple of STEP."""
        first = self.place
        self.place += len(rows)
        self._kept = np.concatenate([self._kept, rows])[-KEPT:]
        levels, begun = self._bank.update(np.hstack([scores, self._month.shifts(scores)]), first)
        yield from self._shifted(levels, begun[:, self._reference.width :], first)
        yield from self._rarities(*self._rare.update(self._events(rows), first), first)
        if first < LEARNING * self._month.rows <= self.place:
            self._learn_predictions()
        if self.place % HOP == 0:
            yield from self._compared()

    def _learn_predictions(self) -> None:
        """What is usual among predictions, which vary otherwise than the targets of the reference."""
        scores = self._reference.scores(self._kept[-LEARNING * self._month.rows :])
        _, shifts = LastMonth.history(scores, self._month.rows, self._month.lag)
        self._bank.rescale(self._reference.width + np.arange(shifts.shape[1])[-2:], shifts[:, -2:])

    def _shifted(self, levels: Floats, begun: npt.NDArray[np.int64], first: int) -> Iterator[Detection]:
        """Those that lie far from last month, and from the same season at bootstrap where that is known."""
        to_bootstrap, to_month = np.split(levels, 2, axis=1)
        for subject in self._subjects:
            mine = to_month[:, subject.series]
            if self._reference.season.known and subject.name != PREDICTION:
                mine = np.minimum(mine, to_bootstrap[:, subject.series])
            mine = mine.reshape(len(levels), -1)
            if self._silent(subject.name, first):
                self._reset(subject)
            elif mine.max() > 1.0:
                row = int(np.argmax(mine.max(axis=1) > 1.0))
                since = int(begun[row, subject.series].reshape(-1)[int(mine[row].argmax())])
                yield self._changed(subject, "page-hinkley", first + row, since)

    def _rarities(self, levels: Floats, begun: npt.NDArray[np.int64], first: int) -> Iterator[Detection]:
        for kind, over in enumerate(levels.max(axis=0) > 1.0):
            feature, _ = self._features[kind // 2]
            if not over:
                continue
            row = int(np.argmax(levels[:, kind] > 1.0))
            self._rare.reset(kind, self.place)
            name = f"{feature.name}/{kind % 2}"
            if not self._silent(name, first):
                self._muted[name] = self.place + self._quiet
                yield self._frequent(kind, feature, first + row, int(begun[row, kind]))

    def _compared(self) -> Iterator[Detection]:
        found = self._windows.distances(self._month.last(WINDOW), self._month.before)
        for subject, distance, limit in zip(self._subjects, found, self._windows.limits, strict=True):
            self.distances[subject.name] = float(distance / limit)
            if distance > limit and subject.name != PREDICTION and not self._silent(subject.name, self.place):
                test = "kolmogorov-smirnov" if subject.numeric else "chi-square"
                yield self._changed(subject, test, self.place - 1, self.place - WINDOW // 2)

    def _silent(self, name: str, place: int) -> bool:
        return self._muted.get(name, -1) > place

    def _changed(self, subject: Subject, detector: str, place: int, since: int) -> Detection:
        """Describe a shift; the subject is silent until last month has it."""
        self._muted[subject.name] = self.place + self._quiet
        self._reset(subject)
        cut = len(self._kept) - max(1, self.place - since)
        before, after = self._kept[: max(cut, 1)][-self._month.rows :], self._kept[max(cut, 0) :]
        before, after = before[:, subject.columns], after[:, subject.columns]
        if subject.numeric:
            was, now = middle(before), middle(after)
            what = f"typically {in_words(was)} before, {in_words(now)} since"
        else:
            was, now, what = self._share(subject, before, after)
        if subject.name == PREDICTION:
            text = f"the predictions changed: {what}"
            return Detection("prediction", PREDICTION, detector, place, since, was, now, text)
        text = f"{subject.name} changed: {what}"
        return Detection("feature", subject.name, detector, place, since, was, now, text)

    def _reset(self, subject: Subject) -> None:
        """Begin the sums against last month anew; those against the bootstrap rows go on."""
        width = self._reference.width
        self._bank.reset(np.arange(width + subject.series.start, width + subject.series.stop), self.place)

    def _share(self, subject: Subject, before: Floats, after: Floats) -> tuple[float, float, str]:
        """The category whose share changed most."""
        names = next(f.values for f, _ in self._features if f.name == subject.name)
        was, now = np.nan_to_num(np.nanmean(before, axis=0)), np.nan_to_num(np.nanmean(after, axis=0))
        most = int(np.abs(now - was).argmax())
        text = f"{names[most]} in {was[most]:.1%} of the rows before, in {now[most]:.1%} since"
        return float(was[most]), float(now[most]), text

    def _frequent(self, kind: int, feature: Feature, place: int, since: int) -> Detection:
        """Describe events that became frequent."""
        events = self._events(self._kept[-max(1, self.place - since) :])[:, kind]
        usual, now = float(self._rare.usual[kind]), float(events.mean())
        beyond = (
            "of an unseen category" if feature.kind == "category" else "out of the range seen at bootstrap"
        )
        what = ("missing or unreadable", beyond)[kind % 2]
        text = f"{feature.name} is {what} in {now:.1%} of the rows, {usual:.1%} at bootstrap"
        return Detection(
            "feature", feature.name, ("missing", "range")[kind % 2], place, since, usual, now, text
        )

    def _events(self, rows: Floats) -> Floats:
        """For each feature whether it is missing, and whether it is out of what is known, (n, 2 features)."""
        found = np.zeros((len(rows), 2 * len(self._features)))
        for i, (feature, columns) in enumerate(self._features):
            values = rows[:, columns]
            found[:, 2 * i] = np.isnan(values[:, 0])
            if feature.kind == "category":
                found[:, 2 * i + 1] = values.sum(axis=1) == 0.0
            elif feature.kind == "numeric" and feature.low is not None and feature.high is not None:
                found[:, 2 * i + 1] = (values[:, 0] < feature.low) | (values[:, 0] > feature.high)
        return found


def cells(schema: Schema, feature: Feature) -> slice:
    """Where a feature stands among the encoded columns."""
    start = 0
    for other in schema.used:
        stop = start + len(Encoder((other,)).columns)
        if other.name == feature.name:
            return slice(start, stop)
        start = stop
    raise KeyError(feature.name)


def middle(values: Floats) -> float:
    """The median of what is there; 0.0 where nothing is."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else 0.0
