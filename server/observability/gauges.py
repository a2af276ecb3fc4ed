"""Prometheus metrics that are read at each scrape from what the learner and the files say."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from online.core.errors import MillraceError

__all__ = ["StateCollector"]

Report = dict[str, Any]

GAUGES: dict[str, tuple[str, Callable[[Report], float | None]]] = {
    "millrace_model_version": ("The snapshot version now served.", lambda r: r["model_version"]),
    "millrace_learned_seq": ("The last journal record in the plan now served.", lambda r: r["learned_seq"]),
    "millrace_journal_seq": ("The last record in the journal.", lambda r: r["journal_seq"]),
    "millrace_journal_lag_labels": (
        "Accepted labels not in the served plan yet.",
        lambda r: r["labels_waiting"],
    ),
    "millrace_journal_lag_seconds": (
        "How long the oldest of them has waited, 0 when none does.",
        lambda r: age(r["oldest_waiting_at"]) or 0.0,
    ),
    "millrace_learner_up": ("1 when the learner is at work.", lambda r: float(r["learner"]["alive"])),
    "millrace_plan_age_seconds": ("Since this worker took its plan.", lambda r: age(r["plan_loaded_at"])),
    "millrace_interval_coverage_ratio": (
        "Share of the last 1,000 labels inside the interval served.",
        lambda r: r["prequential"].get("coverage"),
    ),
    "millrace_interval_coverage_goal_ratio": ("The share it aims at.", lambda r: r["interval"]["coverage"]),
    "millrace_label_delay_seconds": (
        "Median time from a prediction to its label.",
        lambda r: r["prequential"].get("delay_seconds"),
    ),
    "millrace_snapshot_age_seconds": (
        "Since the newest snapshot was taken.",
        lambda r: age(r["snapshot"].get("created_at")),
    ),
    "millrace_snapshot_size_bytes": (
        "Size of the newest snapshot's pickle.",
        lambda r: r["snapshot"].get("size_bytes"),
    ),
    "millrace_last_alarm_timestamp_seconds": (
        "When the newest alarm was raised, in unix seconds.",
        lambda r: r["alarms"].get("last_at"),
    ),
}
PREDICTORS = {
    "served": "mae",
    "baseline": "baseline_mae",
    "naive": "naive_mae",
    "frozen": "baseline_mae",  # the baseline's name in earlier releases; it goes with the next one
}


class StateCollector(Collector):
    """Metrics read from the server's state; none while it cannot be read."""

    def __init__(self, state: Callable[[], Report]) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """Read the state and give a metric for each figure there is."""
        try:
            report = self._state()
        except (MillraceError, sqlite3.Error):
            return
        for name, (help_text, read) in GAUGES.items():
            value = read(report)
            if value is not None:
                yield GaugeMetricFamily(name, help_text, value=value)
        yield from by_label(report)


def by_label(report: Report) -> Iterable[Metric]:
    """The metrics with a label."""
    rolling, experts = report["prequential"], report["experts"]
    yield gauge(
        "millrace_mean_absolute_error_target_units",
        "Over the last 1,000 labels: as served, of the baseline (the frozen first model), of a naive guess.",
        "predictor",
        {name: rolling.get(figure) for name, figure in PREDICTORS.items()},
    )
    yield gauge(
        "millrace_expert_mean_absolute_error_target_units",
        "The same by expert.",
        "expert",
        {one["name"]: one["mae"] for one in experts},
    )
    yield gauge(
        "millrace_expert_weight_ratio",
        "Each expert's share of the prediction.",
        "expert",
        {one["name"]: one["weight"] for one in experts},
    )
    yield counter(
        "millrace_learner_busy_seconds",
        "What the learner spent its time on since it started.",
        "stage",
        report["busy_seconds"],
    )
    yield counter("millrace_alarms", "Alarms raised, by what changed.", "kind", report["alarms"]["by_kind"])
    build = {"version": report["millrace_version"], "river": report["river_version"]}
    info = GaugeMetricFamily("millrace_build_info", "Versions at work; always 1.", labels=list(build))
    info.add_metric(list(build.values()), 1.0)
    yield info


def gauge(name: str, about: str, label: str, values: Mapping[str, float | None]) -> Metric:
    """A gauge with one label, of the figures there are."""
    family = GaugeMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        if value is not None:
            family.add_metric([key], value)
    return family


def counter(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    """A counter with one label."""
    family = CounterMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def age(at: float | None) -> float | None:
    """Seconds since a moment."""
    return None if at is None else max(0.0, time.time() - at)
