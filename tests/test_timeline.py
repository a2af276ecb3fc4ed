"""The history as charts read it, and where rows belong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online.core.schema import Feature, Schema, Target
from online.features.segments import OTHER_SEGMENT, Segments
from online.storage.metrics_store import MetricsStore, Outcome
from online.storage.timeline import BIN_LABELS, MAX_SINGLE_OUTCOMES, ROLLING_LABELS, rolling

SCHEMA = Schema(
    "energy",
    Target("Production"),
    (
        Feature("Wind", "numeric"),
        Feature("Day", "cyclic", values=("Monday", "Tuesday")),
        Feature("Start_Hour", "cyclic", low=0, high=23, period=24),
        Feature("Source", "category", values=("Solar", "Wind", "3")),
    ),
)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[MetricsStore]:
    opened = MetricsStore(tmp_path / "history.db", rows=10_000)
    yield opened
    opened.close()


def outcome(
    seq: int, truth: float, *, error: float = 1.0, known: int | None = None, slot: int = 0
) -> Outcome:
    guess = truth + error
    return Outcome(seq, float(seq), truth, guess, guess - 2, guess + 2, truth - 3.0, 60.0,
                   seq - 1 if known is None else known, 0, slot)  # fmt: skip


def write(history: MetricsStore, outcomes: list[Outcome], size: int = 50) -> None:
    for start in range(0, len(outcomes), size):
        part = outcomes[start : start + size]
        history.write(part, [], {}, {"slow": 0.25, "fast": 0.75})


def test_the_naive_guess_is_the_newest_label_of_the_slot_that_was_known_in_time(
    history: MetricsStore,
) -> None:
    truths = [10.0, 20.0, 30.0, 40.0, 50.0]
    slots = [0, 1, 0, 1, 0]
    known = [0, 1, 1, 1, 3]  # labels learned when the prediction was served
    rows = [
        outcome(seq, truth, known=k, slot=slot)
        for seq, (truth, k, slot) in enumerate(zip(truths, known, slots, strict=True), start=1)
    ]
    write(history, rows, size=2)
    # guesses: none, none, 10 (label 1), none (label 2 was not known), 30 (label 3)
    found = history.outcomes(10, 10).naive_mae
    assert found[:2] == [None, None]
    assert found[2:] == pytest.approx([20.0, 20.0, 20.0])
    assert history.naive_mae() == pytest.approx(20.0)


def test_a_long_history_is_read_from_bins_and_says_the_same(history: MetricsStore) -> None:
    rng = np.random.default_rng(3)
    errors = rng.normal(0, 3, 6000)
    write(history, [outcome(seq, float(seq % 7), error=float(e)) for seq, e in enumerate(errors, start=1)])
    found = history.outcomes(100, 5000)
    assert len(found.seq) == 100
    assert found.seq[-1] == 6000
    brute = [np.abs(errors[max(0, seq - ROLLING_LABELS) : seq]).mean() for seq in found.seq]
    assert found.mae == pytest.approx(brute, rel=0.06)  # a window ends within a bin
    assert found.coverage[-1] == pytest.approx((np.abs(errors[-ROLLING_LABELS:]) <= 2).mean(), abs=0.05)
    assert found.baseline_mae[-1] == pytest.approx(3.0)
    fine = history.outcomes(MAX_SINGLE_OUTCOMES, MAX_SINGLE_OUTCOMES)
    assert len(fine.seq) == MAX_SINGLE_OUTCOMES
    assert fine.mae[-1] == pytest.approx(np.abs(errors[-ROLLING_LABELS:]).mean())


def test_what_is_written_again_changes_nothing(history: MetricsStore) -> None:
    rows = [outcome(seq, float(seq % 11), error=float(seq % 3)) for seq in range(1, 500)]
    write(history, rows)
    before = history.outcomes(600, 5000), history.weights(10, 5000), history.errors(5000, 1, 1)
    write(history, rows[200:], size=37)
    after = history.outcomes(600, 5000), history.weights(10, 5000), history.errors(5000, 1, 1)
    assert before[0] == after[0]
    assert before[1].experts == after[1].experts == ["slow", "fast"]
    assert before[2] == after[2]


def test_the_history_keeps_no_more_than_its_rows(history: MetricsStore) -> None:
    write(history, [outcome(seq, 1.0) for seq in range(1, 15_001)], size=500)
    assert history.outcomes(MAX_SINGLE_OUTCOMES, MAX_SINGLE_OUTCOMES).seq[0] == 13_001
    assert history.outcomes(5000, 200_000).seq[0] <= 5000 + BIN_LABELS
    assert len(history.weights(5000, 200_000).seq) <= 10_000 // BIN_LABELS + 1


def test_weights_are_given_by_expert_the_newest_included(history: MetricsStore) -> None:
    for seq in range(1, 1001):
        history.write([outcome(seq, 1.0)], [], {}, {"slow": seq / 1000, "fast": 1 - seq / 1000})
    found = history.weights(5, 1000)
    assert found.experts == ["slow", "fast"]
    assert 1 <= len(found.seq) <= 5
    assert found.seq[-1] == 1000
    assert found.weights[0] == pytest.approx([seq / 1000 for seq in found.seq])


def test_errors_are_told_by_key_and_slot_with_the_delays(history: MetricsStore) -> None:
    rows = [outcome(seq, 5.0, error=2.0 if seq % 2 else -4.0, slot=seq % 2) for seq in range(1, 41)]
    write(history, rows)
    found = history.errors(1000, 2, 3)
    assert found.mae == [[4.0, 2.0, None], [None, None, None]]
    assert found.bias == [[-4.0, 2.0, None], [None, None, None]]
    assert found.n == [[20, 20, 0], [0, 0, 0]]
    assert sum(found.delay_counts) == 40
    (place,) = [i for i, count in enumerate(found.delay_counts) if count]
    assert found.delay_edges[place] <= 60.0 <= found.delay_edges[place + 1]


def test_a_history_without_labels_is_empty_everywhere(history: MetricsStore) -> None:
    assert history.outcomes(10, 10).seq == history.outcomes(10, 10_000).seq == []
    assert history.weights(10, 10).seq == []
    assert sum(history.errors(10, 1, 1).delay_counts) == 0
    assert history.naive_mae() is None


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 100) | st.none(), st.integers(1, 700)), min_size=1, max_size=40))
@settings(deadline=None)
def test_a_rolling_mean_never_leaves_its_values(rows: list[tuple[float | None, int]]) -> None:
    values = np.array([[np.nan if value is None else value] for value, _ in rows])
    found = rolling(values, np.array([float(count) for _, count in rows]))[:, 0]
    for place, mean in enumerate(found):
        seen = [value for value, _ in rows[: place + 1] if value is not None]
        assert (mean != mean and not seen) or mean != mean or min(seen) - 1e-9 <= mean <= max(seen) + 1e-9


def test_a_row_belongs_to_its_category_and_hour() -> None:
    slots = Segments(SCHEMA)
    assert (slots.key, slots.slot) == ("Source", "Start_Hour")
    assert slots.keys == ("Solar", "Wind", "3")
    assert slots.slots == tuple(str(hour) for hour in range(24))
    assert slots.segment_of({"Source": "Wind", "Start_Hour": "13"}) == (1, 13)
    assert slots.segment_of({"Source": 3.0, "Start_Hour": 24}) == (2, 0)
    assert slots.segment_of({"Source": "Coal", "Start_Hour": "noon"}) == (OTHER_SEGMENT, OTHER_SEGMENT)
    assert slots.segment_of({}) == (OTHER_SEGMENT, OTHER_SEGMENT)


@pytest.mark.parametrize(
    ("feature", "value", "slot"),
    [
        (Feature("at", "time", parts=("hour",)), "2026-01-31T13:20:00", 13),
        (Feature("day", "cyclic", values=("Mon", "Tue", "Wed")), "tue", 1),
        (Feature("at", "time", parts=("hour",)), "yesterday", OTHER_SEGMENT),
    ],
)
def test_a_slot_is_read_from_times_and_names(feature: Feature, value: str, slot: int) -> None:
    slots = Segments(Schema("s", Target("y"), (feature,)))
    assert slots.keys == ("",)
    assert slots.segment_of({feature.name: value}) == (0, slot)
