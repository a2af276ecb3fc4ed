"""Buffered metrics say what the metrics themselves would."""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from server.observability.buffered_metrics import (
    BufferedByLabels,
    BufferedCounter,
    BufferedHistogram,
    PeriodicFlush,
)

BOUNDS = (0.1, 1.0, 10.0)


def exposition(registry: CollectorRegistry) -> list[str]:
    """What is exposed, the moments of creation aside."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_buffered_histogram_exposes_what_observing_one_by_one_does() -> None:
    plain, buffered = CollectorRegistry(), CollectorRegistry()
    expected = Histogram("h", "A histogram.", ["a"], buckets=BOUNDS, registry=plain)
    metric = Histogram("h", "A histogram.", ["a"], buckets=BOUNDS, registry=buffered)
    buffers = BufferedByLabels(metric, BufferedHistogram)
    for part in ([0.05, 0.1, 0.5, 1.0], [10.0, 11.0, 0.0], []):
        for amount in part:
            expected.labels("x").observe(amount)
            buffers["x",].add(amount)
        buffers.flush()
        buffers.flush()  # brings nothing twice
        assert exposition(buffered) == exposition(plain)


def test_a_buffered_counter_counts_each_amount_once() -> None:
    registry = CollectorRegistry()
    counter = BufferedCounter(Counter("c", "A counter.", registry=registry))
    counter.add()
    counter.add(4)
    counter.flush()
    counter.flush()
    assert registry.get_sample_value("c_total") == 5.0
    counter.add()
    assert registry.get_sample_value("c_total") == 5.0
    counter.flush()
    assert registry.get_sample_value("c_total") == 6.0


def test_a_periodic_flush_calls_every_so_often_and_once_more_when_closed() -> None:
    twice = threading.Event()
    calls: list[None] = []

    def flush() -> None:
        calls.append(None)
        if len(calls) == 2:
            twice.set()

    flushing = PeriodicFlush(flush, 0.001)
    assert twice.wait(30)
    flushing.close()
    ended = PeriodicFlush(flush, 60.0)
    before = len(calls)
    ended.close()
    assert len(calls) == before + 1
