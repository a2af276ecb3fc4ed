"""Drift: seen in inputs and errors, not in seasons; one alarm an event; logged, told, and kept over a
restart."""

from __future__ import annotations

import contextlib
import csv
import http.server
import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from online.core import config as configuration
from online.core.config import Config, LedgerConfig
from online.core.home import Home
from online.core.schema import Feature, Schema, Target
from online.drift.alarms import AlarmPolicy, DetectionContext
from online.drift.cusum import cusum_threshold, long_run_deviation, page_cusum
from online.drift.detection import Detection
from online.drift.drift_log import DriftLog
from online.drift.drift_monitor import DriftMonitor
from online.drift.error_drift import ErrorDriftDetector
from online.drift.flag_limits import FlagLimits, FlagLimitsWatcher
from online.drift.input_drift import InputDriftDetector
from online.features.value_encoder import Encoder
from online.storage.metrics_store import Alarm, MetricsStore
from online.storage.prediction_log import PredictionLog
from online.storage.served_predictions import EXPERTS_DISAGREE, HIGH_RECENT_ERROR, WIDE_INTERVAL, Served
from server.http.service import Service
from server.observability.metrics import Metrics
from server.processes.webhook import Webhook
from tests.support.rows import stream_rows
from tests.support.running import Server, serving, until

YEAR = 366
SCHEMA = Schema(
    "made",
    Target("y", -10, 10),
    (
        Feature("day", "cyclic", low=0, high=YEAR - 1, period=YEAR),
        Feature("wind", "numeric", low=-4, high=4),
        Feature("warmth", "numeric", low=-6, high=6),
        Feature("site", "category", values=("A", "B")),
    ),
)


def made(rng: np.random.Generator, rows: int, start: int = 0, **shift: float) -> np.ndarray:
    """Encoded rows of 24 a day with the prediction as last column; warmth has a season."""
    day = (start + np.arange(rows)) // 24 % YEAR
    wind = rng.normal(size=rows) + shift.get("wind", 0.0)
    warmth = rng.normal(size=rows) - 2.0 * np.cos(2 * np.pi * day / YEAR) + shift.get("warmth", 0.0)
    site = np.where(rng.random(rows) < 0.5 + shift.get("site", 0.0), "A", "B")
    encoder = Encoder.of(SCHEMA)
    named = [
        {"day": d, "wind": w, "warmth": t, "site": s}
        for d, w, t, s in zip(day.tolist(), wind.tolist(), warmth.tolist(), site.tolist(), strict=True)
    ]
    values = [encoder.encode(row).values for row in named]
    return np.column_stack([np.array(values), wind + warmth])


@pytest.fixture(scope="module")
def bootstrap() -> np.ndarray:
    return made(np.random.default_rng(0), 24 * YEAR)


def watching(bootstrap: np.ndarray) -> InputDriftDetector:
    return InputDriftDetector(SCHEMA, bootstrap, month=1000, rows_per_alarm=20_000)


@pytest.mark.slow
def test_a_year_of_seasons_is_no_drift(bootstrap: np.ndarray) -> None:
    rows = made(np.random.default_rng(5), 24 * YEAR, start=24 * YEAR)
    assert list(watching(bootstrap).update(rows)) == []


@pytest.mark.parametrize(("subject", "size"), [("wind", 1.0), ("warmth", -1.0), ("site", 0.3)])
def test_an_abrupt_shift_of_an_input_is_found_soon_and_named(
    bootstrap: np.ndarray, subject: str, size: float
) -> None:
    rng = np.random.default_rng(6)
    watch = watching(bootstrap)
    start = 24 * YEAR
    assert list(watch.update(made(rng, 2000, start))) == []
    found = list(watch.update(made(rng, 300, start + 2000, **{subject: size})))
    mine = [one for one in found if one.subject == subject]
    assert len(mine) == 1
    assert 2000 <= mine[0].index < 2150
    assert 1900 <= mine[0].change_index <= mine[0].index
    assert (mine[0].after > mine[0].before) == (size > 0)
    assert subject in mine[0].message


def test_what_is_found_does_not_depend_on_how_rows_are_cut(bootstrap: np.ndarray) -> None:
    rng = np.random.default_rng(7)
    rows = np.concatenate([made(rng, 700, 24 * YEAR), made(rng, 400, 24 * YEAR + 700, wind=1.5)])
    whole = list(watching(bootstrap).update(rows))
    watch = watching(bootstrap)
    pieces = [one for start in range(0, len(rows), 37) for one in watch.update(rows[start : start + 37])]
    assert [(one.subject, one.index, one.change_index) for one in whole] == [
        (one.subject, one.index, one.change_index) for one in pieces
    ]
    assert whole


def test_missing_values_and_unseen_categories_are_found(bootstrap: np.ndarray) -> None:
    rng = np.random.default_rng(8)
    watch = watching(bootstrap)
    rows = made(rng, 100, 24 * YEAR)
    rows[:, 3] = np.nan  # wind
    rows[:, 5:7] = 0.0  # site
    found = {(one.subject, one.detector): one for one in watch.update(rows)}
    assert found[("wind", "missing")].after == 1.0
    assert "unseen category" in found[("site", "range")].message


# the error


def errors_of(levels: list[float], seed: int = 0) -> list[Detection]:
    rng = np.random.default_rng(seed)
    errors = np.concatenate([np.abs(rng.normal(0, level, 2000)) for level in levels])
    widths = np.full(len(errors), 1.64 * levels[0])
    return list(ErrorDriftDetector(1000, 20_000).update(errors, widths))


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e9])
def test_a_steady_error_gives_no_alarm_and_a_rise_gives_one(seed: int, unit: float) -> None:
    assert errors_of([unit, unit], seed) == []
    (found,) = errors_of([unit, 3 * unit], seed)
    assert found.kind == "error"
    assert 2000 <= found.index < 2060
    assert found.before == pytest.approx(0.8 * unit, rel=0.15)
    assert found.after > 1.5 * found.before
    assert "rose" in found.message


def test_a_falling_error_gives_no_alarm() -> None:
    assert errors_of([3.0, 1.0]) == []
    assert list(ErrorDriftDetector(1000, 20_000).update(np.zeros(2000), np.zeros(2000))) == []


def test_a_slow_rise_is_found() -> None:
    rng = np.random.default_rng(3)
    level = np.concatenate([np.ones(2000), np.linspace(1, 2, 2000), np.full(1000, 2.0)])
    found = list(ErrorDriftDetector(1000, 20_000).update(np.abs(rng.normal(0, level)), np.full(5000, 1.64)))
    assert found
    assert found[0].index > 2000


# the sums


@given(st.floats(0.1, 1.5), st.floats(100, 1e7))
def test_a_rarer_false_alarm_needs_a_higher_threshold(allowance: float, rows: float) -> None:
    assert 0.0 <= cusum_threshold(allowance, rows) <= cusum_threshold(allowance, 10 * rows)
    assert cusum_threshold(allowance + 0.1, rows) <= cusum_threshold(allowance, rows)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=60), st.integers(1, 20))
def test_pages_sums_are_pages_recursion_however_the_rows_are_cut(steps: list[float], cut: int) -> None:
    expected, sums = [], 0.0
    for step in steps:
        sums = max(0.0, sums + step)
        expected.append(sums)
    now, begun = np.zeros(1), np.zeros(1, np.int64)
    found: list[float] = []
    for start in range(0, len(steps), cut):
        piece = np.array(steps[start : start + cut])[:, None]
        path, since = page_cusum(now, begun, piece, start)
        found += path[:, 0].tolist()
        now, begun = path[-1], since[-1]
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_long_run_deviation_sees_memory() -> None:
    rng = np.random.default_rng(0)
    alone = rng.normal(size=20_000)
    held = np.repeat(rng.normal(size=2000), 10)
    one, other = long_run_deviation(np.column_stack([alone, held]))
    assert one == pytest.approx(1.0, rel=0.25)
    assert other > 2.5


# events


def detection(subject: str = "error", before: float = 1.0) -> Detection:
    kind: Any = "error" if subject == "error" else "feature"
    return Detection(kind, subject, "cusum", 100, 90, before, 3.0, f"{subject} changed")


def test_detections_close_to_each_other_are_one_alarm_and_it_counts_its_cost() -> None:
    events = AlarmPolicy(cooldown_rows=500, alarms_per_week=3, raised_at=[])
    for at in range(100):
        events.add_error(float(at), 1.0)
    events.add(detection("wind"), DetectionContext(100.0, 1000, 100, 90.0, 990))
    alarm = events.add(detection(), DetectionContext(101.0, 1200, 110, 95.0, 1190))
    assert (alarm.subject, alarm.also, alarm.times) == ("wind", ("error",), 2)
    for at in range(100, 150):
        events.add_error(float(at), 3.0)
    assert events.last is not None
    assert events.last.cost == pytest.approx(50 * 2.0)
    assert events.last.cost_labels == 60
    later = events.add(detection(), DetectionContext(900.0, 2000, 300, 890.0, 1990))
    assert later.key != alarm.key


def test_alarms_over_the_weeks_budget_are_muted() -> None:
    events = AlarmPolicy(cooldown_rows=1, alarms_per_week=2, raised_at=[0.0])
    muted = [
        events.add(detection(str(i)), DetectionContext(86400.0 + i, 1000 * i, i, 0.0, 1000 * i)).muted
        for i in range(3)
    ]
    assert muted == [False, True, True]
    assert not events.add(detection("x"), DetectionContext(8 * 86400.0, 9000, 9, 0.0, 9000)).muted


# the log


def served(number: int, *drifted: str) -> Served:
    return Served(
        f'id "{number}"\n', float(number), {"wind": number, "site": "A,\nB"}, {}, (), 1.0, 0.0, 2.0, (),
        drifted, 1, 0
    )  # fmt: skip


def logged(folder: Path) -> list[int]:
    found: list[int] = []
    for path in sorted(folder.glob("drift_log*.csv"), key=lambda p: p.name, reverse=True):
        with path.open(newline="") as file:
            found += [int(row["row"]) for row in csv.DictReader(file)]
    return sorted(found)


@pytest.mark.slow
@given(cuts=st.lists(st.integers(0, 400), max_size=8))
def test_a_log_cut_anywhere_by_a_crash_goes_on_without_losing_or_doubling(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    path = folder / "drift_log.csv"
    for cut in [*cuts, 0]:
        log = DriftLog(path, SCHEMA, max_bytes=10_000, files=50)
        log.append([(n, served(n, "wind")) for n in range(log.row + 1, log.row + 6)])
        last = log.row
        with path.open("r+b") as file:  # only what was not whole may be missing
            size = path.stat().st_size
            file.truncate(max(0, size - cut))
    again = DriftLog(path, SCHEMA, max_bytes=10_000, files=50)
    again.append([(n, served(n, "wind")) for n in range(again.row + 1, last + 1)])
    assert logged(folder) == list(range(1, last + 1))


def test_a_full_log_is_set_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    log = DriftLog(tmp_path / "drift_log.csv", SCHEMA, max_bytes=300, files=2)
    for n in range(1, 31):
        log.append([(n, served(n, "wind", WIDE_INTERVAL))])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "drift_log.1.csv", "drift_log.2.csv", "drift_log.csv",
    ]  # fmt: skip
    rows = logged(tmp_path)
    assert rows == list(range(rows[0], 31))
    assert DriftLog(tmp_path / "drift_log.csv", SCHEMA, max_bytes=300, files=2).row == 30


# the watcher


def feed(home: Home, config: Config, rows: list[dict[str, Any]], first: int) -> None:
    """Serve rows and learn their labels, as far as ledger and history are concerned."""
    ledger = PredictionLog(
        home.ledger, config.schema, LedgerConfig(10**6, flush_seconds=0.01, max_queued=10**6)
    )
    encoder = Encoder.of(config.schema)
    ledger.record(
        [
            Served(f"p{first + i}", float(first + i), row, {}, (1.0,), 100.0, 99.0, 101.0, (),
                   tuple(encoder.encode(row).drifted), 1, 0)
            for i, row in enumerate(rows)
        ]
    )  # fmt: skip
    ledger.close()


def test_a_watcher_that_is_started_again_doubles_nothing_and_misses_nothing(home: Path) -> None:
    place = Home(home)
    config = configuration.load(place.config)
    rows, _ = stream_rows(home, 500)
    feed(place, config, rows[:300], 1)
    with DriftMonitor(place, config) as watch:
        while watch.step():
            pass
    feed(place, config, [row | {"Source": "Tides"} for row in rows[300:400]], 301)
    for _ in range(3):
        with DriftMonitor(place, config) as watch:
            while watch.step():
                pass
    history = MetricsStore(place.history)
    (alarm,) = [one for one in history.alarms() if one.subject == "Source"]
    history.close()
    assert alarm.kind == "feature"
    assert alarm.since_row is not None
    assert 301 <= alarm.since_row <= 303
    rows_logged = logged(place.data)
    assert len(set(rows_logged)) == len(rows_logged)
    assert set(range(301, 401)) <= set(rows_logged)


def test_a_watcher_far_behind_goes_on_with_the_newest_rows_and_says_so(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Home(home)
    config = configuration.load(place.config, {"MILLRACE_DRIFT_BEHIND_ROWS": "200"})
    rows, _ = stream_rows(home, 500)
    strange = [row | {"Source": "Tides"} for row in rows]
    feed(place, config, strange[:150], 1)
    with DriftMonitor(place, config) as watch:
        while watch.step():
            pass
        feed(place, config, strange[:350], 151)
        while watch.step():
            pass
    assert logged(place.data) == [*range(1, 151), *range(401, 501)]
    assert [one.getMessage() for one in caplog.records if "behind" in one.getMessage()] == [
        "350 served rows behind: drift is watched for in some of them only"
    ]


def test_an_alarm_of_an_earlier_release_is_known_by_the_name_its_detector_has_now(tmp_path: Path) -> None:
    path = Home(tmp_path).create().history
    before = Alarm(
        1, 5.0, "page-hinkley", "wind", 1.0, 2.0, "wind changed", kind="feature", since_row=7, cost=0.1
    )
    other = msgspec.structs.replace(before, detector="range")
    with contextlib.closing(MetricsStore(path)) as history:
        history.write((), [before, other], {})
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=4")
    now = msgspec.structs.replace(before, detector="cusum")
    with contextlib.closing(MetricsStore(path)) as history:
        assert {alarm.key: alarm for alarm in history.alarms()} == {now.key: now, other.key: other}
        history.write((), [now], {})  # by the same key: found again, it is no other alarm
        assert len(history.alarms()) == 2


@pytest.mark.slow
def test_alarms_are_posted_until_the_other_side_takes_them(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    history = MetricsStore(home.history)
    alarm = Alarm(1, 4e9, "cusum", "wind", 1.0, 2.0, "wind changed", kind="feature", since_row=7)
    history.write((), [alarm, msgspec.structs.replace(alarm, subject="quiet", muted=True)], {})
    with answering([503, 200]) as (url, posted):
        hook = Webhook(url, "made", lambda: MetricsStore(home.history))
        until(lambda: len(posted) == 2, "two posts")
        until(lambda: not history.unsent_alarms(0.0), "the alarm to be told")
        hook.close()
    history.close()
    assert [one["key"] for one in posted] == [alarm.key, alarm.key]
    assert posted[0]["message"] == "wind changed"
    assert posted[0]["stream"] == "made"


class answering:
    """A server that answers posts with the given codes, then with 200."""

    def __init__(self, codes: list[int]) -> None:
        self.codes = codes

    def __enter__(self) -> tuple[str, list[dict[str, Any]]]:
        codes, posted = self.codes, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(codes.pop(0) if codes else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}/", posted

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


# flag limits


def test_flag_limits_reach_scorers_and_a_damaged_file_is_left_alone(tmp_path: Path) -> None:
    watch = FlagLimitsWatcher(tmp_path / "marks.json", poll_seconds=0.01)
    assert watch.limits == FlagLimits()
    limits = FlagLimits(interval_width=2.0, high_error_segments=frozenset({(0, 3)}))
    limits.save(tmp_path / "marks.json")
    until(lambda: watch.limits == limits, "the limits")
    (tmp_path / "marks.json").write_text("{")
    watch.refresh()
    assert watch.limits == limits
    watch.close()


@pytest.fixture(scope="module")
def watched(trained_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = Path(shutil.copytree(trained_home, tmp_path_factory.mktemp("watched") / "home"))
    with serving(home) as running:
        yield running


@pytest.mark.slow
def test_rows_are_marked_with_the_reasons_of_the_day(home: Path) -> None:
    place = Home(home)
    service = Service(place, configuration.load(place.config), Metrics(CollectorRegistry()))
    (row,), _ = stream_rows(home, 1)
    row = row | {"Day_of_Year": 20}  # which the bootstrap rows know

    def reasons() -> tuple[str, ...]:
        (served,) = service.predict([row]).served()
        return served.drifted

    assert reasons() == ()
    FlagLimits(interval_width=1e-9).save(place.flag_limits)
    until(lambda: reasons() == (WIDE_INTERVAL,), "the wide interval")
    FlagLimits(high_error_segments=frozenset((key, slot) for key in range(3) for slot in range(24))).save(
        place.flag_limits
    )
    until(lambda: reasons() == (HIGH_RECENT_ERROR,), "the hot place")
    FlagLimits(expert_spread=-1.0).save(place.flag_limits)
    until(lambda: reasons() == (EXPERTS_DISAGREE,), "the disagreement")
    service.close()


@pytest.mark.server
def test_a_drifting_stream_ends_in_an_alarm_and_a_log_though_the_watcher_is_killed(watched: Server) -> None:
    rows, _ = stream_rows(watched.home, 400)
    for start in range(0, 240, 24):
        watched.predict(rows[start : start + 24])
    watched.kill("watcher")
    strange = [row | {"Source": "Tides", "id": f"strange-{i}"} for i, row in enumerate(rows[240:300])]
    assert all(watched.predict(strange)["drifted"])
    alarm = until(
        lambda: next((a for a in watched.get("/alarms")["alarms"] if a["subject"] == "Source"), None),
        "an alarm",
    )
    assert alarm["kind"] == "feature"
    assert alarm["since_row"] == 241
    assert alarm["since"] <= alarm["at"]
    path = watched.home / "data" / "drift_log.csv"

    def strange_rows() -> list[str]:
        with path.open(newline="") as file:
            return [one["id"] for one in csv.DictReader(file) if one["id"].startswith("strange")]

    until(lambda: path.exists() and len(strange_rows()) == 60, "the log")
    assert strange_rows() == [row["id"] for row in strange]
    scores = until(lambda: watched.get("/drift")["scores"], "scores by feature")
    assert {"Source", "prediction"} <= set(scores)
