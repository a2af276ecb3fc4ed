"""Requests of late, from two samples of the API's Prometheus metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["MetricsSample", "Traffic", "bucket_quantile", "parse_metrics", "traffic_between"]

ROWS_METRIC = "millrace_predictions_total"
DURATION_METRIC = "millrace_request_duration_seconds_bucket"
PREDICT_ROUTE = "/predict"
TAIL_SHARE = 0.99


class MetricsSample(msgspec.Struct, frozen=True):
    """Counts at one moment: ``rows`` scored, and requests to ``/predict`` by upper bucket edge in seconds."""

    at: float
    rows: float = 0.0
    buckets: Mapping[float, float] = {}


class Traffic(msgspec.Struct, frozen=True):
    """Rows scored in a second, and the seconds that 99 % of the requests to ``/predict`` took at most."""

    rows_per_second: float | None = None
    p99_seconds: float | None = None


def parse_metrics(text: str, at: float) -> MetricsSample:
    """Read the counts from Prometheus' text format.

    Parameters
    ----------
    text
        The body of ``GET /metrics``.
    at
        When it was read, in seconds of any clock.

    Returns
    -------
    MetricsSample
        Counts of all workers together.

    Raises
    ------
    ValueError
        The text is not in that format.
    """
    rows, buckets = 0.0, dict[float, float]()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == ROWS_METRIC:
                rows += sample.value
            elif sample.name == DURATION_METRIC and sample.labels.get("route") == PREDICT_ROUTE:
                edge = float(sample.labels["le"])
                buckets[edge] = buckets.get(edge, 0.0) + sample.value
    return MetricsSample(at, rows, buckets)


def traffic_between(before: MetricsSample | None, now: MetricsSample) -> Traffic:
    """What happened between two samples.

    Parameters
    ----------
    before
        The earlier sample; None when there is none yet.
    now
        The later one.

    Returns
    -------
    Traffic
        Nothing is known after a single sample, or when the counts began anew because the server was
        restarted.
    """
    if before is None or now.at <= before.at or now.rows < before.rows:
        return Traffic()
    counts = {edge: count - before.buckets.get(edge, 0.0) for edge, count in now.buckets.items()}
    return Traffic((now.rows - before.rows) / (now.at - before.at), bucket_quantile(counts, TAIL_SHARE))


def bucket_quantile(counts: Mapping[float, float], share: float) -> float | None:
    """A quantile of cumulative bucket counts, linear between edges, as Prometheus' ``histogram_quantile``.

    Parameters
    ----------
    counts
        Observations up to each upper edge, infinity included.
    share
        Which quantile, in (0, 1).

    Returns
    -------
    float or None
        In the edges' unit; the last finite edge when it lies beyond, None without observations.
    """
    edges = sorted(counts)
    if not edges or counts[edges[-1]] <= 0:
        return None
    rank, low, below = share * counts[edges[-1]], 0.0, 0.0
    for edge in edges:
        if counts[edge] >= rank:
            if math.isinf(edge):
                return low
            return low + (edge - low) * (rank - below) / max(counts[edge] - below, 1e-12)
        low, below = edge, counts[edge]
    return low
