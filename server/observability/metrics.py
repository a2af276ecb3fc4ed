"""Prometheus metrics. With ``PROMETHEUS_MULTIPROC_DIR`` set, those of all workers add up.

Requests are counted as they are answered, which a scrape sees at the latest; what the learner and the files
say is read at each scrape.
"""

from __future__ import annotations

import collections
import operator
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from online.scoring.scored import Scored
from online.storage.records import Receipt
from server.observability.buffered_metrics import ByLabels, Tally, Timings
from server.observability.gauges import State

__all__ = ["Metrics"]

SECONDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
    30.0,
)

STAGES = (0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.1)
STATUS = operator.attrgetter("status")
SAMPLED = 16  # one in so many predictions alone, or of several together, is timed stage by stage


class Metrics:
    """The metrics of one worker.

    Parameters
    ----------
    registry
        Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        self._predictions = Tally(counter("millrace_predictions", "Rows scored."))
        self._imputed = Tally(counter("millrace_imputed_rows", "Rows scored with an imputed value."))
        self._drifted = Tally(
            counter(
                "millrace_drifted_rows", "Drifted inputs: scored rows with at least one reason to be flagged."
            )
        )
        self._unknown = Tally(counter("millrace_unknown_fields", "Fields of rows that no feature has."))
        self._lost = Tally(counter("millrace_ledger_lost_rows", "Predictions the ledger had no room for."))
        self._labels = ByLabels(
            counter("millrace_labels", "Labels by what became of them.", ["status"]), Tally
        )
        self._seconds = ByLabels(
            histogram(
                "millrace_request_duration_seconds", "From request to reply.", ["route", "code"], SECONDS
            ),
            Timings,
        )
        self._stages = ByLabels(
            histogram(
                "millrace_predict_stage_duration_seconds",
                f"Stages of one in {SAMPLED} predictions alone; of several answered together, their shares.",
                ["stage"], STAGES,
            ),
            Timings,
        )  # fmt: skip
        self._lost_before = 0
        self._turn = 0
        self._settling = threading.Lock()

    def count_predictions(self, scored: Scored, lost: int) -> None:
        """Count scored rows; ``lost`` is the ledger's total so far."""
        self._predictions.add(len(scored))
        if any(scored.imputed):
            self._imputed.add(sum(map(bool, scored.imputed)))
        if any(scored.drifted):
            self._drifted.add(sum(map(bool, scored.drifted)))
        fields = scored.plan.fields
        for row in scored.rows:
            if not row.keys() <= fields:
                self._unknown.add(len(row.keys() - fields) - ("id" in row))
        if lost > self._lost_before:
            self._lost.add(lost - self._lost_before)
            self._lost_before = lost

    def count_request(self, route: str, code: str, seconds: float) -> None:
        """Count an answered request."""
        self._seconds[route, code].add(seconds)

    def count_labels(self, receipts: Sequence[Receipt]) -> None:
        """Count what became of labels."""
        for status, count in collections.Counter(map(STATUS, receipts)).items():
            self._labels[status,].add(count)

    def sampled(self) -> bool:
        """Whether it is the turn of what is predicted now to be timed stage by stage."""
        self._turn = (self._turn + 1) % SAMPLED
        return self._turn == 1

    def count_stages(self, stages: Iterable[tuple[str, float]]) -> None:
        """Count the seconds of each stage of a prediction."""
        for stage, seconds in stages:
            self._stages[stage,].add(seconds)

    def settle(self) -> None:
        """Bring what was counted to the registry. Any thread may call it; only one counts."""
        with self._settling:
            for noted in (
                self._predictions, self._imputed, self._drifted, self._unknown, self._lost, self._labels,
                self._seconds, self._stages,
            ):  # fmt: skip
                noted.settle()

    def exposition(self, state: Callable[[], dict[str, Any]]) -> bytes:
        """Everything in Prometheus' text format, ``state`` read now."""
        self.settle()
        registry = CollectorRegistry()
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # the library leaves it untyped
        else:
            registry.register(Existing(self._registry))
        registry.register(State(state))
        return generate_latest(registry)


class Existing(Collector):
    """Another registry's metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """Pass them on."""
        found: Iterable[Metric] = self._registry.collect()
        return found
