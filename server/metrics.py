"""Prometheus metrics. With ``PROMETHEUS_MULTIPROC_DIR`` set, those of all workers add up.

Requests are noted as they are answered and counted a little later, at the latest by the scrape; what the
learner and the files say is read at each scrape.
"""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from online.records import Receipt
from online.scored import Scored
from server.gauges import State
from server.tally import TalliedHistogram

__all__ = ["Metrics"]

Noted = TypeVar("Noted")

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
SAMPLED = 16  # one in so many single predictions is timed stage by stage


class Metrics:
    """The metrics of one worker.

    Parameters
    ----------
    registry
        Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.predictions = Counter("millrace_predictions", "Rows scored.", registry=registry)
        self.imputed = Counter(
            "millrace_imputed_rows", "Rows scored with an imputed value.", registry=registry
        )
        self.drifted = Counter(
            "millrace_drifted_rows",
            "Rows scored with a value outside the bootstrap range.",
            registry=registry,
        )
        self.unknown = Counter(
            "millrace_unknown_fields", "Fields of rows that no feature has.", registry=registry
        )
        self.lost = Counter(
            "millrace_ledger_lost_rows", "Predictions the ledger had no room for.", registry=registry
        )
        self.labels = Counter(
            "millrace_labels", "Labels by what became of them.", ["status"], registry=registry
        )
        self.seconds = TalliedHistogram(
            "millrace_request_duration_seconds", "From request to reply.", ["route", "code"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.stages = TalliedHistogram(
            "millrace_predict_stage_duration_seconds",
            f"Stages of a single prediction, of one in {SAMPLED} of them.",
            ["stage"], buckets=STAGES, registry=registry,
        )  # fmt: skip
        self._lost_before = 0
        self._staged: collections.deque[tuple[tuple[str, float], ...]] = collections.deque()
        self._turn = 0
        self._scored: collections.deque[tuple[Scored, int]] = collections.deque()
        self._took: collections.deque[tuple[str, str, float]] = collections.deque()
        self._receipts: collections.deque[Sequence[Receipt]] = collections.deque()
        self._settling = threading.Lock()

    def count_predictions(self, scored: Scored, lost: int) -> None:
        """Note scored rows, to be counted by :meth:`settle`; ``lost`` is the ledger's total so far."""
        self._scored.append((scored, lost))

    def count_request(self, route: str, code: str, seconds: float) -> None:
        """Note an answered request, to be counted by :meth:`settle`."""
        self._took.append((route, code, seconds))

    def count_labels(self, receipts: Sequence[Receipt]) -> None:
        """Note what became of labels, to be counted by :meth:`settle`."""
        self._receipts.append(receipts)

    def sampled(self) -> bool:
        """Whether it is this request's turn to be timed stage by stage."""
        self._turn = (self._turn + 1) % SAMPLED
        return self._turn == 1

    def count_stages(self, stages: tuple[tuple[str, float], ...]) -> None:
        """Note the seconds of each stage of a prediction, to be counted by :meth:`settle`."""
        self._staged.append(stages)

    def settle(self) -> None:
        """Count what was noted. Any thread may call it."""
        with self._settling:
            self._count(list(drained(self._scored)))
            became = collections.Counter(one.status for some in drained(self._receipts) for one in some)
            for status, count in became.items():
                self.labels.labels(status).inc(count)
            took = collections.defaultdict(list)
            for route, code, seconds in drained(self._took):
                took[route, code].append(seconds)
            for (route, code), amounts in took.items():
                self.seconds.labels(route, code).observe_all(amounts)
            staged = collections.defaultdict(list)
            for stages in drained(self._staged):
                for stage, seconds in stages:
                    staged[stage].append(seconds)
            for stage, amounts in staged.items():
                self.stages.labels(stage).observe_all(amounts)

    def _count(self, noted: Sequence[tuple[Scored, int]]) -> None:
        if not noted:
            return
        every = [scored for scored, _ in noted]
        self.predictions.inc(sum(map(len, every)))
        self.imputed.inc(sum(1 for scored in every for imputed in scored.imputed if imputed))
        self.drifted.inc(sum(1 for scored in every for drifted in scored.drifted if drifted))
        self.unknown.inc(sum(unknown_fields(scored) for scored in every))
        lost = noted[-1][1]
        if lost > self._lost_before:
            self.lost.inc(lost - self._lost_before)
            self._lost_before = lost

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


def unknown_fields(scored: Scored) -> int:
    """How many fields of some rows no feature has."""
    fields = scored.plan.fields
    return sum(len(row.keys() - fields) - ("id" in row) for row in scored.rows if not row.keys() <= fields)


def drained(noted: collections.deque[Noted]) -> Iterator[Noted]:
    """Take out what is there now."""
    for _ in range(len(noted)):
        yield noted.popleft()


class Existing(Collector):
    """Another registry's metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """Pass them on."""
        found: Iterable[Metric] = self._registry.collect()
        return found
