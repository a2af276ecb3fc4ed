"""Millrace's own forecasts, through the classes its server is made of, in one process.

A home is bootstrapped as ``millrace bootstrap`` does. Then each row is scored from a compiled plan, and its
label comes back as the journal record it would be, with context and experts' outputs as served.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from bootstrap.split import split_rows, write_split
from bootstrap.train import train
from online import boosting
from online.compile import compile_plan
from online.config import Config, RefreshConfig, dump
from online.fold import Fold
from online.home import Home
from online.pipeline import ENCODER, RECENT
from online.plan import ScoringPlan
from online.records import Submission, label_record
from online.scorer import Scorer
from online.served import Served
from online.snapshot import SnapshotStore
from online.training_rows import bootstrap_rows, filled
from scripts.accuracy_peers import Forecast, Tick
from scripts.accuracy_stream import Stream, arrivals

__all__ = ["millrace"]

HOUR = 3600.0


def millrace(stream: Stream, tick: Tick, told: bool = False) -> Forecast:
    """Bootstrap a home, then serve and learn the stream; ``told`` how late its labels will come or not."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        session = Session(bootstrapped(Home(Path(folder)), stream, told), stream)
        session.spent["bootstrap"] = time.perf_counter() - begun
        for place, arrived in enumerate(arrivals(len(stream.rows), stream.bootstrap, stream.delay)):
            if place >= stream.bootstrap:
                session.learn([label for label in arrived if label >= stream.bootstrap])
                session.serve(place)
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
        self._stream = stream
        self._fold = Fold(loaded.pipeline, loaded.state, lambda version: store.load(version).pipeline)
        self._now = 0.0
        self.plan: ScoringPlan = ScoringPlan.load(home.plan)
        self._scorer = Scorer(self, lambda: self._now)  # type: ignore[arg-type] # it only asks for the plan
        self._scorer.score([stream.rows[0]])  # kernels are compiled before the server is ready
        self._served: dict[int, Served] = {}
        self._given: list[Served] = []
        rows, targets = bootstrap_rows(
            home.training_rows, stream.schema, len(loaded.pipeline[ENCODER].columns)
        )
        self._rows, self._targets = rows.tolist(), targets.tolist()
        self.spent = {"bootstrap": 0.0, "score": 0.0, "learn": 0.0, "refresh": 0.0, "publish": 0.0}

    def serve(self, place: int) -> None:
        """Score one row from the plan at hand."""
        begun = time.perf_counter()
        self._now = place * HOUR
        self._served[place] = self._scorer.score([self._stream.rows[place]])[0]
        self._given.append(self._served[place])
        self.spent["score"] += time.perf_counter() - begun

    def learn(self, labels: list[int]) -> None:
        """Learn labels of rows served before, and publish."""
        for label in labels:
            served = self._served.pop(label)
            target = float(self._stream.targets[label])
            record = label_record(self._stream.name, served.id, Submission(target, self._now), served)
            begun = time.perf_counter()
            self._fold.apply(msgspec.structs.replace(record, seq=self._fold.state.seq + 1))
            self.spent["learn"] += time.perf_counter() - begun
            self._refresh_when_due(served, target)
        if labels:
            self._publish()

    def _refresh_when_due(self, served: Served, target: float) -> None:
        """Train the batch expert anew every so many labels, as the server does beside its learner."""
        begun = time.perf_counter()
        encoder, settings = self._fold.pipeline[ENCODER], RefreshConfig()
        self._rows.append(encoder.as_served(served.features, served.context))
        self._targets.append(target)
        if self._fold.state.learned % settings.every_labels == 0:
            rows = filled(np.array(self._rows[-settings.rows :]))
            model = boosting.train(rows, np.array(self._targets[-settings.rows :]), encoder.columns, seed=1)
            if model is not None:
                self._fold.refresh(model, RECENT)
        self.spent["refresh"] += time.perf_counter() - begun

    def forecast(self) -> Forecast:
        """What was served."""
        figures = np.array([(one.prediction, one.lower, one.upper) for one in self._given])
        rows = max(1, len(self._given))
        details = {f"{part}_us": spent / rows * 1e6 for part, spent in self.spent.items()}
        details["bootstrap_seconds"] = self.spent["bootstrap"]
        del details["bootstrap_us"]
        seconds = self.spent["score"] + self.spent["learn"]
        return Forecast(figures[:, 0], seconds, figures[:, 1], figures[:, 2], details)

    def _publish(self) -> None:
        begun = time.perf_counter()
        state = self._fold.state
        self.plan = compile_plan(
            self._fold.pipeline, self._stream.schema, version=1, seq=state.seq,
            interval=state.interval,
        )  # fmt: skip
        self.spent["publish"] += time.perf_counter() - begun
