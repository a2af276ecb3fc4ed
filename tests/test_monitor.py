from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import numpy as np
import pytest
from dash import Patch

from server.monitor import figures, words
from server.monitor.client import (
    Alarm,
    Alarms,
    Model,
    Outcomes,
    Prequential,
    Reader,
    Reading,
    Snapshot,
    open_client,
)
from server.monitor.process import serve_monitor
from server.monitor.words import NONE

if TYPE_CHECKING:
    from tests.browser import Browser

pytest_plugins = ["tests.browser"]

NOW = 1_770_000_000.0
ROWS = 3000
DRIFT = 1600
COLUMNS = [f.name for f in msgspec.structs.fields(Outcomes)]


def rolling(errors: np.ndarray, window: int = 1000) -> np.ndarray:
    total = np.concatenate(([0.0], np.cumsum(errors)))
    ends = np.arange(1, len(errors) + 1)
    starts = np.maximum(0, ends - window)
    return (total[ends] - total[starts]) / (ends - starts)


def played(rows: int = ROWS) -> dict[str, np.ndarray]:
    """Hourly production with an equipment drift, a served model that adapts and one that does not."""
    rng = np.random.default_rng(7)
    seq = np.arange(1, rows + 1)
    season = 5200 + 1400 * np.sin(seq * 2 * np.pi / 24) + 500 * np.sin(seq * 2 * np.pi / 168)
    drifted = seq > DRIFT
    truth = season * np.where(drifted, 0.72, 1.0) + rng.normal(0, 220, rows)
    learned = np.where(drifted, 1 - 0.28 * (1 - np.exp(-(seq - DRIFT) / 260)), 1.0)
    prediction = season * learned + rng.normal(0, 150, rows)
    half = 380 + 700 * drifted * np.exp(-(seq - DRIFT) / 400)
    frozen = np.abs(truth - season * 1.015 - rng.normal(0, 190, rows))
    return {
        "seq": seq,
        "received_at": NOW - 3600.0 * (rows - seq),
        "truth": truth,
        "prediction": prediction,
        "lower": prediction - half,
        "upper": prediction + half,
        "mae": rolling(np.abs(truth - prediction)),
        "baseline_mae": rolling(frozen),
        "delay_seconds": 86400 * rng.gamma(6, 1 / 6, rows) * np.where(seq > 2300, 3, 1),
    }


def binned(columns: dict[str, np.ndarray], points: int, last: int | None) -> dict[str, list[Any]]:
    recent = {name: column[-(last or len(column)) :] for name, column in columns.items()}
    size = len(recent["seq"])
    if not size:
        return {name: [] for name in recent}
    parts = np.array_split(np.arange(size), min(points, size))
    averaged = {name: [float(column[p].mean()) for p in parts] for name, column in recent.items()}
    return averaged | {"seq": [int(recent["seq"][p[-1]]) for p in parts]}


@dataclass
class FakeApi:
    """What the fake server answers; tests change it while it runs."""

    outcomes: dict[str, np.ndarray] = field(default_factory=played)
    alive: bool | None = True
    waiting: int = 12
    ready: int = 200
    broken: frozenset[str] = frozenset()
    alarms: list[dict[str, Any]] = field(default_factory=list)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0

    def answer(self, path: str, query: dict[str, int]) -> tuple[int, Any]:
        if path in self.broken:
            return 500, {"title": "broken"}
        if path == "/health/ready":
            return self.ready, {}
        content = {
            "/model": self.model,
            "/outcomes": lambda: binned(self.outcomes, query.get("points", 500), query.get("last")),
            "/alarms": lambda: {"alarms": self.alarms},
            "/snapshots": lambda: {"active": len(self.snapshots) or None, "snapshots": self.snapshots},
        }
        return 200, content[path]()

    def model(self) -> dict[str, Any]:
        self.asked += 1
        seq = self.outcomes["seq"]
        some = len(seq) > 0
        value = {name: float(self.outcomes[name][-1]) if some else None for name in ("mae", "baseline_mae")}
        lag = float(np.median(self.outcomes["delay_seconds"][-1000:])) if some else None
        return {
            "stream": "energy",
            "target": "Production",
            "model_version": len(self.snapshots) or 1,
            "learned_seq": len(seq),
            "journal_seq": len(seq) + self.waiting,
            "labels_waiting": self.waiting,
            "learner": {"alive": self.alive, "updated_at": NOW if self.alive is not None else None},
            "prequential": {"window": 1000, "n": min(1000, len(seq)), **value, "rmse": None, "r2": None}
            | {"coverage": 0.89 if some else None, "delay_seconds": lag},
            "labels": {"learned": len(seq)},
            "experts": [],
            "features": [],
            "schema_hash": "0",
            "river_version": "0.26.1",
            "millrace_version": "0.1.0",
        }


def alarm(seq: int, message: str, **changes: Any) -> dict[str, Any]:
    base = {"seq": seq, "at": NOW - 3600.0 * (ROWS - seq), "detector": "ADWIN", "subject": "absolute error"}
    return base | {"before": 214.2, "after": 618.7, "message": message} | changes


def snapshot(version: int, seq: int, reason: str, mae: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "version": version,
        "parent": version - 1 or None,
        "seq": seq,
        "created_at": NOW - 3600.0 * (ROWS - seq),
        "reason": reason,
        "metrics": {"mae": mae, "rmse": None},
        "sha256": "ab" * 32,
        "size_bytes": 2_000_000,
    } | changes


def busy_api() -> FakeApi:
    alarms = [
        alarm(2310, "labels come three times as late as before", subject="label lag"),
        alarm(1841, "predictions are off on one side", detector="Page-Hinkley", subject="bias"),
        alarm(1662, "the error rose and did not come back <b>"),
    ]
    snapshots = [
        snapshot(5, 2500, "schedule", 301.5),
        snapshot(4, 2000, "rollback", 402.2, parent=2),
        snapshot(3, 1700, "drift", 388.9),
        snapshot(2, 1000, "schedule", 214.0),
        snapshot(1, 0, "bootstrap", None),
    ]
    return FakeApi(alarms=alarms, snapshots=snapshots)


def empty_api() -> FakeApi:
    return FakeApi(outcomes=played(0), waiting=0, snapshots=[snapshot(1, 0, "bootstrap", None)])


@contextmanager
def serving(api: FakeApi, port: int = 0) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            pairs = (pair.split("=") for pair in query.split("&") if pair)
            status, content = api.answer(path, {name: int(value) for name, value in pairs})
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def monitoring(api_url: str) -> Iterator[str]:
    """The monitor on a socket bound by somebody else, as the supervisor does it."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        arguments = (api_url, "127.0.0.1", listening.fileno(), port, stop)
        thread = threading.Thread(target=serve_monitor, args=arguments)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            stop.set()
            thread.join(timeout=20)
            assert not thread.is_alive()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def outcomes(rows: int = ROWS, points: int = 200) -> Outcomes:
    return msgspec.convert(binned(played(rows), points, None), Outcomes)


def alarms_of(api: FakeApi) -> tuple[Alarm, ...]:
    return msgspec.convert(api.alarms, tuple[Alarm, ...])


def snapshots_of(api: FakeApi) -> tuple[Snapshot, ...]:
    content = [{k: v for k, v in s.items() if v is not None} for s in api.snapshots]
    return msgspec.convert(content, tuple[Snapshot, ...])


def trace(figure: Any, name: str, mode: str) -> Any:
    found = [t for t in figure.data if t.name == name and t.mode == mode]
    assert len(found) == 1, [(t.name, t.mode) for t in figure.data]
    return found[0]


# Figures


def test_rolling_error_carries_both_errors_as_given():
    data = outcomes()
    figure = figures.rolling_error(data, (), (), figures.LIGHT)
    assert list(trace(figure, "as served", "lines").y) == list(data.mae)
    assert list(trace(figure, "frozen model_v1", "lines").y) == list(data.baseline_mae)
    assert list(trace(figure, "as served", "lines").x) == list(data.seq)


def test_rolling_error_marks_alarms_rollbacks_and_snapshots_where_they_happened():
    api = busy_api()
    figure = figures.rolling_error(outcomes(), alarms_of(api), snapshots_of(api), figures.DARK)
    assert list(trace(figure, "drift alarm", "markers").x) == [2310, 1841, 1662]
    assert list(trace(figure, "rollback", "markers").x) == [2000]
    assert list(trace(figure, "snapshot", "markers").x) == [2500, 1700, 1000]
    assert list(trace(figure, "rollback", "lines").x) == [2000, 2000, None]


def test_marks_say_what_happened_and_show_a_message_as_plain_text():
    api = busy_api()
    figure = figures.rolling_error(outcomes(), alarms_of(api), snapshots_of(api), figures.LIGHT)
    text = trace(figure, "drift alarm", "markers").text[2]
    assert "ADWIN on absolute error, seq 1,662" in text
    assert "214 → 619" in text
    assert "did not come back &lt;b&gt;" in text
    assert "model_v4" in trace(figure, "rollback", "markers").text[0]
    assert "from model_v2" in trace(figure, "rollback", "markers").text[0]


def test_recent_truth_carries_truth_prediction_and_interval():
    data = outcomes(250, 250)
    figure = figures.recent_truth(data, "Production", figures.LIGHT)
    assert list(trace(figure, "truth", "lines").y) == list(data.truth)
    assert list(trace(figure, "prediction", "lines").y) == list(data.prediction)
    assert list(trace(figure, "interval", "lines").y) == list(data.upper)
    assert list(trace(figure, "lower", "lines").y) == list(data.lower)
    assert trace(figure, "interval", "lines").fill == "tonexty"
    assert figure.layout.yaxis.title.text == "Production"


@pytest.mark.parametrize(("seconds", "shown", "unit"), [(0.02, 20, "ms"), (30, 30, "s"), (86400, 24, "h")])
def test_label_lag_picks_a_unit_people_read(seconds: float, shown: float, unit: str):
    figure = figures.label_lag(Outcomes(seq=(1, 2), delay_seconds=(seconds, None)), figures.LIGHT)
    assert figure.data[0].y[0] == pytest.approx(shown)
    assert figure.data[0].y[1] is None
    assert figure.layout.yaxis.title.text == f"lag in {unit}"


def test_charts_without_data_say_why():
    for figure in (
        figures.rolling_error(Outcomes(), (), (), figures.LIGHT),
        figures.recent_truth(Outcomes(), "Production", figures.LIGHT),
        figures.label_lag(Outcomes(seq=(1,), delay_seconds=(None,)), figures.LIGHT),
    ):
        assert not figure.data
        assert "yet" in figure.layout.annotations[0].text


def test_charts_bear_columns_that_are_missing_or_null():
    data = Outcomes(seq=(1, 2, 3), mae=(None, 2.0, 3.0))
    assert list(figures.rolling_error(data, (Alarm(),), (Snapshot(),), figures.LIGHT).data[1].y) == [
        None,
        2.0,
        3.0,
    ]
    figures.recent_truth(data, "", figures.LIGHT)
    figures.label_lag(data, figures.LIGHT)


def test_a_zoom_survives_updates():
    first = figures.rolling_error(outcomes(2000), (), (), figures.LIGHT)
    second = figures.rolling_error(outcomes(3000), (), (), figures.DARK)
    assert first.layout.uirevision
    assert first.layout.uirevision == second.layout.uirevision


# Words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, NONE), (0.004, "4 ms"), (45, "45 s"), (300, "5 min"), (86400, "24 h"), (6 * 86400, "6 days")],
)
def test_a_duration_is_said_in_the_unit_that_suits_it(seconds: float | None, said: str):
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("mae", "baseline", "said"),
    [
        (75, 100, "25.0 % better"),
        (110, 100, "10.0 % worse"),
        (100, 100, "the same"),
        (1, 0, NONE),
        (None, 1, NONE),
    ],
)
def test_the_advantage_over_the_frozen_model_is_said_in_per_cent(mae: Any, baseline: Any, said: str):
    model = Model(prequential=Prequential(n=10, mae=mae, baseline_mae=baseline))
    assert words.advantage(model).value == said


@pytest.mark.parametrize(
    "at", [NOW, "2026-02-02T02:40:00Z", "2026-02-02T02:40:00", "2026-02-02T03:40:00+01:00"]
)
def test_times_are_read_from_seconds_and_from_text(at: Any):
    assert words.stamp(at) == "2026-02-02 02:40:00"


def test_a_time_that_is_none_has_words():
    assert words.stamp("soon") == words.stamp(1e300) == NONE
    assert words.ago(None, NOW) == "at an unknown time"
    assert words.ago(NOW - 3 * 3600, NOW) == "3 h ago"


# Client


def reader(transport: httpx.MockTransport, **options: Any) -> Reader:
    return Reader(httpx.Client(base_url="http://api.test", transport=transport), **options)


@pytest.mark.parametrize(
    "content", [{}, {"learner": None, "prequential": None, "labels": None, "model_version": None}]
)
def test_missing_and_null_values_are_borne_everywhere(content: dict[str, Any]):
    from server.monitor.app import parts, update

    reading = reader(httpx.MockTransport(lambda request: httpx.Response(200, json=content))).read()
    assert reading.model == Model()
    changed, _ = update(parts(reading, "dark", NOW), {})
    assert set(changed) == {"notices", "status", "stream", "rolling", "recent", "lag", "versions", "alarms"}


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (httpx.Response(503), "it answered 503 Service Unavailable"),
        (httpx.Response(200, text="<html>"), "its answer cannot be read"),
        (httpx.Response(200, json={"learned_seq": "many"}), "its answer cannot be read"),
        (httpx.ReadTimeout("slow"), "no answer in time"),
        (httpx.ConnectError("refused"), "nothing listens there"),
    ],
)
def test_a_server_that_cannot_be_read_is_a_state_and_not_an_exception(response: Any, why: str):
    def answer(request: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        return response

    reading = reader(httpx.MockTransport(answer)).read()
    assert why in reading.down
    [notice] = words.notices(reading, NOW)
    assert notice.title == "Server down."
    assert "http://api.test" in notice.text


def test_what_was_read_last_is_kept_while_the_server_is_down():
    api = busy_api()
    with serving(api) as url, httpx.Client(base_url=url) as client:
        found = Reader(client, max_age=0)
        assert not found.read().down
        api.broken = frozenset({"/model"})
        reading = found.read()
    assert "500" in reading.down
    assert reading.history is not None
    assert len(reading.history.seq) == 600


def test_one_answer_that_fails_leaves_the_others():
    api = busy_api()
    api.broken = frozenset({"/alarms"})
    with serving(api) as url, httpx.Client(base_url=url) as client:
        reading = Reader(client).read()
    assert not reading.down
    assert reading.problems == ("GET /alarms: it answered 500 Internal Server Error",)
    assert reading.snapshots is not None
    assert reading.alarms is None


def test_many_pages_ask_the_server_once():
    api, now = busy_api(), [0.0]
    with serving(api) as url, httpx.Client(base_url=url) as client:
        found = Reader(client, max_age=1.0, clock=lambda: now[0])
        first = found.read()
        assert found.read() is first
        now[0] = 1.5
        assert found.read() is not first
    assert api.asked == 2


def test_only_what_changed_is_drawn_again():
    from server.monitor.app import parts, update

    api = busy_api()
    with serving(api) as url, httpx.Client(base_url=url) as client:
        found = Reader(client, max_age=0)
        first, shown = update(parts(found.read(), "light", NOW), {})
        again, shown = update(parts(found.read(), "light", NOW), shown)
        api.alarms = api.alarms[1:]
        later, after = update(parts(found.read(), "light", NOW), shown)
        dark, _ = update(parts(found.read(), "dark", NOW), shown)
    assert set(first) == {"notices", "status", "stream", "rolling", "recent", "lag", "versions", "alarms"}
    assert again == {}
    assert isinstance(later["rolling"], Patch)
    assert not isinstance(dark["rolling"], Patch)
    assert set(after) == set(shown)
    assert set(later) == {"status", "rolling", "alarms"}
    assert {"rolling", "recent", "lag"} <= set(dark)


def test_the_newest_alarm_and_waiting_labels_are_in_the_status_line():
    reading = Reading(
        model=Model(model_version=3, labels_waiting=7),
        alarms=Alarms((Alarm(seq=40, at=NOW - 300, detector="ADWIN", subject="error"),)),
    )
    said = {fact.label: (fact.value, fact.note) for fact in words.facts(reading, NOW)}
    assert said["Last alarm"] == ("5 min ago", "ADWIN on error, seq 40")
    assert said["Labels waiting"][0] == "7"
    assert said["Serving"][0] == "model_v3"


def test_a_proxy_in_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    with serving(busy_api()) as url, open_client(url) as client:
        assert not Reader(client).read().down


# The process


def test_the_process_serves_on_a_given_socket_and_ends_silently_on_sigterm():
    code = (
        "import sys, threading\n"
        "from server.monitor.process import serve_monitor\n"
        "assert 'dash' not in sys.modules and 'werkzeug' not in sys.modules\n"
        "serve_monitor(sys.argv[1], '127.0.0.1', int(sys.argv[2]), 0, threading.Event())\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, fd = listening.getsockname()[1], listening.fileno()
        command = [sys.executable, "-W", "error::ResourceWarning", "-c", code, "http://127.0.0.1:9", str(fd)]
        process = subprocess.Popen(command, pass_fds=(fd,), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=60) as response:
                assert response.status == 200
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as response:
                assert b"Millrace monitor" in response.read()
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0, output
    assert output == b""
    assert time.monotonic() - began < 5


def test_the_process_binds_its_own_socket_when_given_none():
    stop, port = threading.Event(), closed_port()
    thread = threading.Thread(
        target=serve_monitor, args=("http://127.0.0.1:9", "127.0.0.1", None, port, stop)
    )
    thread.start()
    try:
        transport = httpx.HTTPTransport(retries=10)
        with httpx.Client(transport=transport, trust_env=False, timeout=30) as client:
            assert client.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
    finally:
        stop.set()
        thread.join(timeout=20)
    assert not thread.is_alive()


# The page in a browser


def points(browser: Browser, chart: str) -> int:
    """How many points the first line of a drawn chart has; 0 while it is not drawn."""
    script = """const graph = document.querySelector("#" + arguments[0] + " .js-plotly-plot");
      return graph && graph._fullData && graph.data.length ? graph._fullData[0].x.length : 0"""
    return int(browser.run(script, chart))


def drawn(browser: Browser) -> None:
    browser.wait(lambda: all(points(browser, c) for c in ("rolling", "recent", "lag")), "the charts drawn")


def test_the_page_shows_status_charts_and_tables_without_console_errors(browser: Browser):
    with serving(busy_api()) as api_url, monitoring(api_url) as url:
        browser.open(url)
        drawn(browser)
        status = browser.wait_for_text("% better", "#status")
        assert "model_v5" in status
        assert "3,000" in status
        assert "Page-Hinkley" in browser.text("#alarms")
        assert "active" in browser.text("#versions tr.active")
        assert "model_v5" in browser.text("#versions tr.active")
        assert points(browser, "rolling") == 600
        assert points(browser, "recent") == 250
        assert browser.text("#notices") == ""
        assert browser.text("header p") == "energy → Production"
        assert browser.severe() == []
        assert browser.foreign(url) == []


def test_new_outcomes_appear_by_themselves_and_a_zoom_stays(browser: Browser):
    api = busy_api()
    api.outcomes = played(2000)
    with serving(api) as api_url, monitoring(api_url) as url:
        browser.open(url)
        drawn(browser)
        browser.run("""document.querySelector("#rolling .js-plotly-plot").dataset.mark = "same" """)
        browser.drag("#rolling .nsewdrag", 200)
        reach = """const axis = document.querySelector("#rolling .js-plotly-plot")._fullLayout.xaxis;
            return !axis.autorange && JSON.stringify(axis.range)"""
        zoomed = browser.wait(lambda: browser.run(reach), "the zoom")
        api.outcomes = played(3000)
        browser.wait_for_text("3,000", "#status")
        newest = """const graph = document.querySelector("#rolling .js-plotly-plot");
            return graph._fullData[0].x.at(-1) === 3000 && graph.dataset.mark === "same" """
        browser.wait(lambda: browser.run(newest), "new points in the same chart")
        assert browser.run(reach) == zoomed
        assert browser.severe() == []


def test_marks_tell_more_when_pointed_at(browser: Browser):
    with serving(busy_api()) as api_url, monitoring(api_url) as url:
        browser.open(url)
        drawn(browser)
        browser.run(
            """const graph = document.querySelector("#rolling .js-plotly-plot");
            const curve = graph.data.findIndex(t => t.name === "drift alarm" && t.mode === "markers");
            window.Plotly.Fx.hover(graph, [{curveNumber: curve, pointNumber: 2}])"""
        )
        said = """return [...document.querySelectorAll("#rolling .hoverlayer text")]
            .map(t => t.textContent).join(" ")"""
        assert "ADWIN" in browser.wait(lambda: browser.run(said), "the mark's words")


def test_without_labels_the_page_says_so(browser: Browser):
    with serving(empty_api()) as api_url, monitoring(api_url) as url:
        browser.open(url)
        assert "POST /learn" in browser.wait_for_text("No labels yet", "#notices")
        browser.wait_for_text("No labels yet", "#rolling")
        assert "No alarm yet" in browser.text("#alarms")
        assert "model_v1" in browser.text("#versions")
        assert browser.severe() == []


def test_a_learner_that_is_down_is_said_and_what_still_works(browser: Browser):
    api = busy_api()
    api.alive = False
    with serving(api) as api_url, monitoring(api_url) as url:
        browser.open(url)
        notice = browser.wait_for_text("Learner down", "#notices")
        assert "Predictions go on from model_v5" in notice
        assert "until the learner is back" in browser.text("#status")
        api.alive = True
        browser.wait(lambda: browser.text("#notices") == "", "the notice gone")
        assert browser.severe() == []


def test_a_server_that_goes_and_comes_back_is_followed(browser: Browser):
    port = closed_port()
    with monitoring(f"http://127.0.0.1:{port}") as url:
        browser.open(url)
        browser.wait_for_text("Server down", "#notices")
        browser.wait_for_text("Waiting for the server", "#rolling")
        with serving(busy_api(), port):
            drawn(browser)
            browser.wait(lambda: browser.text("#notices") == "", "the notice gone")
        assert "what it said last" in browser.wait_for_text("Server down", "#notices")
        assert points(browser, "rolling") == 600
        assert browser.severe() == []


def test_the_page_follows_the_preferred_colours(browser: Browser):
    colour = """return document.querySelector("#rolling .js-plotly-plot")._fullData[1].line.color"""
    ground = "return getComputedStyle(document.body).backgroundColor"
    with serving(busy_api()) as api_url, monitoring(api_url) as url:
        browser.prefer("dark")
        browser.open(url)
        drawn(browser)
        assert browser.run(colour) == figures.DARK.served
        dark = browser.run(ground)
        browser.prefer("light")
        browser.wait(lambda: browser.run(colour) == figures.LIGHT.served, "the light colours")
        assert browser.run(ground) != dark


def test_the_page_fits_a_phone(browser: Browser):
    with serving(busy_api()) as api_url, monitoring(api_url) as url:
        browser.resize(390, 844)
        browser.open(url)
        drawn(browser)
        browser.wait_for_text("% better", "#status")
        assert browser.run("return document.documentElement.scrollWidth") <= 390
        browser.resize(1280, 900)


def test_a_page_that_lost_the_monitor_says_so(browser: Browser):
    with serving(busy_api()) as api_url:
        with monitoring(api_url) as url:
            browser.open(url)
            drawn(browser)
        browser.wait_for_text("does not answer", "#lost")
        browser.driver.get_log("browser")  # the browser itself logs requests that nobody answers
