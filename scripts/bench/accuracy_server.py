"""Millrace's own forecasts, through the classes its server is made of, in one process.

A home is bootstrapped as ``millrace bootstrap`` does. Then each row is predicted, its label goes into the
home's journal with context and experts' outputs as served, and the fold learns the journal. A server compiles
the pipeline into a plan to score from, which says the same to 1e-9: here the pipeline itself predicts, and
every so many rows a plan is compiled and held to that. The batch experts are trained anew as often as the
settings say, but in turn with the rest, not beside it.
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from bootstrap.reading.split import split_rows, write_split
from bootstrap.train import train
from online.core.config import Config, dump, load
from online.core.home import Home
from online.learning.fold import Fold
from online.learning.refresh import Schedule, refresh
from online.scoring.compile_plan import compile_plan
from online.scoring.plan import ScoringPlan
from online.scoring.scorer import Scorer
from online.storage.journal import Journal
from online.storage.records import Submission
from online.storage.served_predictions import Served
from online.storage.snapshot import SnapshotStore
from scripts.bench.accuracy_peers import Tick
from tests.support.accuracy_figures import Forecast
from tests.support.accuracy_stream import Stream, arrivals

__all__ = ["millrace"]

HOUR = 3600.0
PLANNED = 100  # rows between two plans
EXACT = 1e-9  # relative


def millrace(stream: Stream, tick: Tick, told: bool = False) -> Forecast:
    """Bootstrap a home, then serve and learn the stream; ``told`` how late its labels will come or not.

    Parameters
    ----------
    stream
        The stream.
    tick
        Called after every row tested.
    told
        Whether the bootstrap is told how late labels will come, or takes its default.

    Returns
    -------
    Forecast
        The predictions and intervals as served, and microseconds a row by stage.
    """
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        session = Session(bootstrapped(Home(Path(folder)), stream, told), stream)
        session.spent["bootstrap"] = time.process_time() - begun
        for row_index, arrived in enumerate(arrivals(len(stream.rows), stream.bootstrap, stream.delay)):
            if row_index >= stream.bootstrap:
                session.learn([label for label in arrived if label >= stream.bootstrap])
                session.serve(row_index)
                tick()
        return session.forecast()


def bootstrapped(home: Home, stream: Stream, told: bool) -> Home:
    """A home with its first model."""
    schema = stream.schema
    config = Config(schema.stream, schema.target, schema.features, schema.context)
    if told:
        model = msgspec.structs.replace(config.model, bootstrap_delay=stream.delay)
        config = msgspec.structs.replace(config, model=model)
    home.create().config.write_text(dump(config), encoding="utf-8")
    write_split(home, *split_rows(stream.first))
    train(home, config, Console(quiet=True))
    return home


class Session:
    """Serves and learns one stream.

    Parameters
    ----------
    home
        A bootstrapped home.
    stream
        The stream.
    """

    def __init__(self, home: Home, stream: Stream) -> None:
        store = SnapshotStore(home.models)
        loaded = store.load(1)
        self._home, self._config, self._stream = home, load(home.config, {}), stream
        self._fold = Fold(loaded.pipeline, loaded.state, lambda version: store.load(version).pipeline)
        self._journal = Journal(home.journal, stream.name)
        self._schedule = Schedule(self._config.refresh.every_labels, loaded.state.learned, 0)
        self._now = 0.0
        self.plan: ScoringPlan = ScoringPlan.load(home.plan)
        self._scorer = Scorer(self, lambda: self._now)
        self._scorer.score([stream.rows[0]])  # kernels are compiled before the server is ready
        self._served: dict[int, Served] = {}
        self._given: list[Served] = []
        self.spent = {"bootstrap": 0.0, "score": 0.0, "learn": 0.0, "publish": 0.0, "refresh": 0.0}

    def serve(self, row_index: int) -> None:
        """Predict one row, as the plan would that were compiled now."""
        self._now, row = row_index * HOUR, self._stream.rows[row_index]
        if len(self._given) % PLANNED == 0:
            self._publish()
        begun = time.process_time()
        planned = self._scorer.score([row])[0]
        self.spent["score"] += time.process_time() - begun
        guess = self._fold.predict(row)
        below, above = self._fold.interval_bounds(row, guess.outputs)
        served = msgspec.structs.replace(
            planned,
            prediction=guess.prediction,
            lower=guess.prediction - below,
            upper=guess.prediction + above,
            experts=guess.outputs,
            context=guess.context,
            plan_seq=self._fold.state.seq,
        )
        if planned.plan_seq == served.plan_seq:
            check_equal(planned, served)
        self._served[row_index] = served
        self._given.append(served)

    def learn(self, labels: list[int]) -> None:
        """Learn labels of rows served before, and publish."""
        for label in labels:
            served, target = self._served.pop(label), float(self._stream.targets[label])
            self._journal.append([Submission(target, self._now, served.id, candidates=(served,))])
        self._apply("learn")
        state = self._fold.state
        if self._schedule.due(state.learned, state.seq):
            begun = time.process_time()
            refresh(self._home, self._config)
            self.spent["refresh"] += time.process_time() - begun
            self._apply("refresh")

    def _apply(self, part: str) -> None:
        """Take in what the journal has."""
        for record in self._journal.read(self._fold.state.seq):
            begun = time.process_time()
            self._fold.apply(record)
            self.spent[part] += time.process_time() - begun

    def forecast(self) -> Forecast:
        """What was served."""
        figures = np.array([(served.prediction, served.lower, served.upper) for served in self._given])
        rows = max(1, len(self._given))
        details = {f"{part}_us": spent / rows * 1e6 for part, spent in self.spent.items()}
        details["bootstrap_seconds"] = self.spent["bootstrap"]
        del details["bootstrap_us"]
        seconds = self.spent["score"] + self.spent["learn"] + self.spent["refresh"]
        self._journal.close()
        return Forecast(figures[:, 0], seconds, figures[:, 1], figures[:, 2], details)

    def _publish(self) -> None:
        begun = time.process_time()
        state = self._fold.state
        self.plan = compile_plan(
            self._fold.pipeline,
            self._stream.schema,
            version=1,
            seq=state.seq,
            interval=state.interval,
        )
        self.spent["publish"] += time.process_time() - begun


def check_equal(planned: Served, served: Served) -> None:
    """Raise AssertionError where the plan says something else than the pipeline."""
    for name in ("prediction", "lower", "upper"):
        ours, wanted = getattr(planned, name), getattr(served, name)
        if not math.isclose(ours, wanted, rel_tol=EXACT, abs_tol=EXACT):
            raise AssertionError(f"{name}: the plan says {ours!r}, the pipeline {wanted!r}")
