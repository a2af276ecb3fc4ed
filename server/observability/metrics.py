"""Prometheus metrics. With ``PROMETHEUS_MULTIPROC_DIR`` set, those of all workers add up.

Requests are counted as they are answered, which a scrape sees at the latest; what the learner and the files
say is read at each scrape.
"""

from __future__ import annotations

import collections
import itertools
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
from server.observability.buffered_metrics import BufferedByLabels, BufferedCounter, BufferedHistogram
from server.observability.gauges import StateCollector

__all__ = ["Metrics"]

REQUEST_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0
)  # fmt: skip
STAGE_SECONDS = (0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.1)
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

        def counter(name: str, text: str) -> BufferedCounter:
            return BufferedCounter(Counter(name, text, registry=registry))

        def counters(name: str, text: str, labels: Sequence[str]) -> BufferedByLabels[BufferedCounter]:
            return BufferedByLabels(Counter(name, text, labels, registry=registry), BufferedCounter)

        def histograms(
            name: str, text: str, labels: Sequence[str], buckets: Sequence[float]
        ) -> BufferedByLabels[BufferedHistogram]:
            metric = Histogram(name, text, labels, buckets=buckets, registry=registry)
            return BufferedByLabels(metric, BufferedHistogram)

        self._predictions = counter("millrace_predictions", "Rows scored.")
        self._imputed = counter("millrace_imputed_rows", "Rows scored with an imputed value.")
        self._drifted = counter(
            "millrace_drifted_rows", "Drifted inputs: scored rows with at least one reason to be flagged."
        )
        self._unknown = counter("millrace_unknown_fields", "Fields of rows that no feature has.")
        self._lost = counter("millrace_ledger_lost_rows", "Predictions the ledger had no room for.")
        self._labels = counters("millrace_labels", "Labels by what became of them.", ["status"])
        self._fallbacks = counters(
            "millrace_fast_path_fallbacks",
            "Requests for /predict and /learn handed on to the full routes, by why.",
            ["route", "reason"],
        )
        self._seconds = histograms(
            "millrace_request_duration_seconds", "From request to reply.", ["route", "code"], REQUEST_SECONDS
        )
        self._stages = histograms(
            "millrace_predict_stage_duration_seconds",
            f"Stages of one in {SAMPLED} predictions alone; of several answered together, their shares.",
            ["stage"],
            STAGE_SECONDS,
        )
        self._buffers = (
            self._predictions, self._imputed, self._drifted, self._unknown, self._lost, self._labels,
            self._fallbacks, self._seconds, self._stages,
        )  # fmt: skip
        self._lost_before = 0
        self._turn = 0
        self._flushing = threading.Lock()

    def count_predictions(self, scored: Scored, lost: int) -> None:
        """Count scored rows.

        Parameters
        ----------
        scored
            They.
        lost
            Predictions the ledger has had no room for, so far in all.
        """
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
        """Count an answered request.

        Parameters
        ----------
        route
            Its template.
        code
            The reply's status.
        seconds
            From the request to the reply.
        """
        self._seconds[route, code].add(seconds)

    def count_fallback(self, route: str, reason: str) -> None:
        """Count a request that the fast path handed on.

        Parameters
        ----------
        route
            Which one.
        reason
            One of those in :mod:`server.http.fast_path`.
        """
        self._fallbacks[route, reason].add()

    def expose_fallbacks(self, routes: Iterable[str], reasons: Iterable[str]) -> None:
        """Expose the counts of fallbacks at 0 from the start: a rate needs a first value.

        Parameters
        ----------
        routes, reasons
            Each of the ones with each of the others.
        """
        for labels in itertools.product(routes, reasons):
            self._fallbacks[labels].add(0)

    def count_labels(self, receipts: Sequence[Receipt]) -> None:
        """Count what became of labels."""
        for status, count in collections.Counter(receipt.status for receipt in receipts).items():
            self._labels[status,].add(count)

    def sampled(self) -> bool:
        """Whether it is the turn of what is predicted now to be timed stage by stage."""
        self._turn = (self._turn + 1) % SAMPLED
        return self._turn == 1

    def count_stages(self, stages: Iterable[tuple[str, float]]) -> None:
        """Count the seconds of each stage of a prediction."""
        for stage, seconds in stages:
            self._stages[stage,].add(seconds)

    def flush(self) -> None:
        """Bring what was counted to the registry. Any thread may call it; one at a time does it."""
        with self._flushing:
            for buffered in self._buffers:
                buffered.flush()

    def exposition(self, state: Callable[[], dict[str, Any]]) -> bytes:
        """Everything in Prometheus' text format, ``state`` read now."""
        self.flush()
        registry = CollectorRegistry()
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # the library leaves it untyped
        else:
            registry.register(Existing(self._registry))
        registry.register(StateCollector(state))
        return generate_latest(registry)


class Existing(Collector):
    """Another registry's metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """Pass them on."""
        found: Iterable[Metric] = self._registry.collect()
        return found
