"""Predictions as served are found again by id and by features, within the bounds set for them."""

from __future__ import annotations

import logging
import math
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from online.core.config import LedgerConfig
from online.core.errors import InputError
from online.core.schema import Feature, Schema, Target
from online.drift.store import PredictionReader
from online.features.value_encoder import Encoder, clean
from online.storage.prediction_log import PredictionLog, Served, identifier
from online.storage.served_predictions import fingerprints
from tests.support.predictions import served_like
from tests.support.running import until

FEATURES = (
    Feature("wind", "numeric"),
    Feature("site", "category", values=("A", "B")),
    Feature("note", "dropped"),
)
SCHEMA = Schema("s", Target("y"), FEATURES)
FIELDS = frozenset(feature.name for feature in FEATURES)
NEVER = 3600.0  # seconds between flushes: only what a test asks for is written


def ledger(
    path: Path, *, rows: int = 1000, flush_seconds: float = NEVER, waiting: int = 1000
) -> PredictionLog:
    return PredictionLog(path / "ledger.db", SCHEMA, LedgerConfig(rows, 0.0, flush_seconds, waiting))


def like(log: PredictionLog, features: dict[str, Any]) -> tuple[Served, ...]:
    return served_like(log, SCHEMA, features)


def served(name: str, features: dict[str, Any] | None = None, prediction: float = 0.1) -> Served:
    return Served(
        name, 1.0, {"wind": 1.0} if features is None else features, {"level": 0.3}, (0.1, 1 / 3), prediction,
        -0.5, 1e300, ("site",), ("wind",), 2, 17,
    )  # fmt: skip


def test_predictions_are_found_by_id_once_flushed(tmp_path: Path) -> None:
    with_two = ledger(tmp_path)
    with_two.record([served("a"), served("b", prediction=0.2)])
    assert with_two.find(["a", "b"]) == {}
    with_two.flush()
    assert with_two.find(["a", "b", "c"]) == {"a": served("a"), "b": served("b", prediction=0.2)}
    assert with_two.find([]) == {}
    assert with_two.find(["c"]) == {}
    with_two.flush()
    assert with_two.lost == 0
    with_two.close()


def test_the_writer_flushes_by_itself(tmp_path: Path) -> None:
    behind = ledger(tmp_path, flush_seconds=0.005)
    behind.record([served("a")])
    assert until(lambda: behind.find(["a"]), "the writer") == {"a": served("a")}
    behind.close()


def test_closing_writes_what_is_queued_and_a_restart_finds_it(tmp_path: Path) -> None:
    first = ledger(tmp_path)
    first.record([served("a"), served("b", {"wind": 2.0})])
    first.close()
    second = ledger(tmp_path)
    assert set(second.find(["a", "b"])) == {"a", "b"}
    assert [one.id for one in like(second, {"wind": 2.0})] == ["b"]
    second.record([served("c")])
    second.close()
    assert set(ledger(tmp_path).find(["a", "b", "c"])) == {"a", "b", "c"}


def test_a_full_queue_loses_the_newest_and_counts_them(tmp_path: Path) -> None:
    small = ledger(tmp_path, waiting=3)
    small.record([served(str(n)) for n in range(5)])
    assert small.lost == 2
    small.flush()
    assert set(small.find(map(str, range(5)))) == {"0", "1", "2"}
    small.record([served("5")])  # there is room again
    small.flush()
    assert small.lost == 2
    assert "5" in small.find(["5"])
    small.close()


def test_what_could_not_be_written_waits_and_is_written_later(tmp_path: Path) -> None:
    waits = ledger(tmp_path)
    waits.record([served("a"), served("b")])
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("ALTER TABLE prediction RENAME TO elsewhere")
    with pytest.raises(sqlite3.OperationalError):
        waits.flush()
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("ALTER TABLE elsewhere RENAME TO prediction")
    waits.flush()
    assert set(waits.find(["a", "b"])) == {"a", "b"}
    waits.close()


def test_a_failing_writer_says_so_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        failing = ledger(tmp_path, flush_seconds=0.005)
        db.execute("ALTER TABLE prediction RENAME TO elsewhere")
        with caplog.at_level(logging.WARNING, "online.storage.prediction_log"):
            failing.record([served("a")])
            until(lambda: "1 predictions wait" in caplog.text, "a warning")
        db.execute("ALTER TABLE elsewhere RENAME TO prediction")
    assert "a" in until(lambda: failing.find(["a"]), "the writer")
    failing.close()


@pytest.mark.parametrize("batch", [1, 4, 25])
def test_only_so_many_predictions_are_kept_the_newest_ones(tmp_path: Path, batch: int) -> None:
    kept = ledger(tmp_path, rows=10)
    names = [str(n) for n in range(50)]
    for start in range(0, 50, batch):
        kept.record([served(name) for name in names[start : start + batch]])
        kept.flush()
        assert len(kept.find(names)) <= 10
    assert list(kept.find(names)) == names[-10:]
    kept.close()
    assert list(ledger(tmp_path, rows=10).find(names)) == names[-10:]


def test_an_id_served_again_is_the_newest_prediction(tmp_path: Path) -> None:
    twice = ledger(tmp_path)
    twice.record([served("a", {"wind": 1.0}), served("b"), served("a", {"wind": 2.0}, prediction=7.0)])
    twice.flush()
    assert twice.find(["a"])["a"].prediction == 7.0
    assert [one.id for one in like(twice, {"wind": 1.0})] == ["b"]
    assert [one.id for one in like(twice, {"wind": 2.0})] == ["a"]
    twice.close()


def test_predictions_of_the_same_features_come_oldest_first_and_are_bounded(tmp_path: Path) -> None:
    many = ledger(tmp_path)
    many.record([served(str(n), {"wind": 1.0, "site": "A"}) for n in range(40)])
    many.record([served("other", {"wind": 1.0, "site": "B"}), served("fewer", {"wind": 1.0})])
    many.flush()
    alike = [one.id for one in like(many, {"site": "A", "wind": 1.0, "note": "dropped ones do not count"})]
    assert alike == [str(n) for n in range(40 - len(alike), 40)]
    assert 1 < len(alike) < 40
    assert [one.id for one in like(many, {"wind": 1.0})] == ["fewer"]
    assert like(many, {"wind": 3.0}) == ()
    many.close()


def test_predictions_that_have_gone_are_not_found_by_their_features(tmp_path: Path) -> None:
    kept = ledger(tmp_path, rows=8)
    values = np.array([Encoder.of(SCHEMA).encode({"wind": float(n)}).values for n in range(8)])
    for first in range(0, 40, 4):
        kept.record([served(str(n), {"wind": float(n % 8)}) for n in range(first, first + 4)])
        kept.flush()
        alike = [
            [one.id for one in found] for found in kept.find_by_fingerprint(fingerprints(values).tolist())
        ]
        newest = range(max(0, first - 4), first + 4)
        assert alike == [[str(n) for n in newest if n % 8 == wind] for wind in range(8)]
    kept.close()


def test_two_workers_find_each_others_predictions_by_features(tmp_path: Path) -> None:
    one, other = ledger(tmp_path), ledger(tmp_path)
    for n in range(6):
        (one if n % 2 else other).record([served(str(n), {"wind": 1.0})])
        (one if n % 2 else other).flush()
        for book in (one, other, other):
            assert [found.id for found in like(book, {"wind": 1.0})] == [str(k) for k in range(n + 1)]
    one.close()
    other.close()


def test_streams_in_one_file_do_not_see_each_other(tmp_path: Path) -> None:
    ours = ledger(tmp_path)
    theirs = PredictionLog(
        tmp_path / "ledger.db",
        msgspec.structs.replace(SCHEMA, stream="t"),
        LedgerConfig(1000, flush_seconds=NEVER, max_queued=10),
    )
    ours.record([served("a")])
    ours.flush()
    assert theirs.find(["a"]) == {}
    assert like(theirs, {"wind": 1.0}) == ()
    theirs.close()
    ours.close()


@pytest.mark.slow
@given(sizes=st.lists(st.integers(0, 40), max_size=6), limit=st.integers(1, 30))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_predictions_are_read_in_the_order_they_were_written(
    tmp_path: Path, sizes: list[int], limit: int
) -> None:
    for old in tmp_path.glob("ledger.db*"):
        old.unlink()
    book = ledger(tmp_path)
    names = [f"{batch}-{n}" for batch, size in enumerate(sizes) for n in range(size)]
    for place, size in enumerate(sizes):
        book.record([served(f"{place}-{n}") for n in range(size)])
        if place % 2:
            book.flush()
    book.flush()
    reader = PredictionReader(tmp_path / "ledger.db", SCHEMA)
    read: list[tuple[int, Served]] = []
    while found := reader.after(len(read), limit):
        read += found
        assert len(found) <= limit
    assert [(n, one.id) for n, one in read] == list(enumerate(names, start=1))
    assert reader.last() == len(names)
    assert [one.id for _, one in reader.newest(limit)] == names[-limit:]
    assert list(book.find(names[:5])) == names[:5]
    reader.close()
    book.close()


texts = st.text(max_size=20)
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
floats = st.floats(allow_nan=False, allow_infinity=False).map(lambda v: v + 0.0)  # SQLite has no -0.0
names = st.lists(texts.filter(lambda t: t and "\0" not in t), min_size=1, max_size=4, unique=True)


@pytest.mark.slow
@given(
    names=names, row=st.dictionaries(st.sampled_from(sorted(FIELDS)), values),
    context=st.dictionaries(texts, floats, max_size=3), experts=st.lists(floats, max_size=4).map(tuple),
    figures=st.tuples(floats, floats, floats, floats),
)  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_prediction_is_found_as_it_was_served(  # noqa: PLR0913 - one argument a drawn part
    tmp_path: Path, names: list[str], row: Any, context: Any, experts: Any, figures: Any
) -> None:
    (tmp_path / "ledger.db").unlink(missing_ok=True)
    (tmp_path / "ledger.db-wal").unlink(missing_ok=True)
    book = ledger(tmp_path)
    features = clean(row, FIELDS)
    at, prediction, lower, upper = figures
    wanted = [
        Served(name, at, features, context, experts, prediction, lower, upper, ("wind",), ("site",), 1, 2**62)
        for name in names
    ]
    book.record(wanted)
    book.flush()
    assert book.find(names) == {one.id: one for one in wanted}
    assert list(like(book, features)) == wanted
    assert list(like(book, dict(reversed(features.items())))) == wanted
    book.close()


def test_ids_are_texts_or_whole_numbers_of_bounded_length() -> None:
    for given_id, wanted in (("a", "a"), (7, "7"), (-3, "-3"), ("x" * 200, "x" * 200), ("é ☃", "é ☃")):
        assert identifier(given_id, 0) == wanted
    wrongs: tuple[Any, ...] = ("", "x" * 201, 10**200, True, 1.5, math.nan, None, [], {}, "a\0b", "\0")
    for wrong in wrongs:
        with pytest.raises(InputError) as caught:
            identifier(wrong, 3)
        assert (caught.value.field, caught.value.index) == ("id", 3)
