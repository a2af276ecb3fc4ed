from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from typing import Any

import httpx
import msgspec
import pytest
from dash import Patch

from server.monitor import error_charts, format, journal_charts, status_texts
from server.monitor.admin_actions import AdminAction, perform, refusal
from server.monitor.api_reader import ApiReader, ApiState, open_client
from server.monitor.api_replies import (
    AlarmReply,
    AlarmsReply,
    DriftReply,
    ErrorsReply,
    ModelReply,
    OutcomesReply,
    SnapshotReply,
    WeightsReply,
)
from server.monitor.chart_canvas import line_trace
from server.monitor.format import NO_VALUE
from server.monitor.monitor_process import ListenAddress, serve_monitor
from server.monitor.palette import DARK, LIGHT
from server.monitor.traffic import MetricsSample, Traffic, bucket_quantile, traffic_between
from tests.support.fake_api import NOW, ROWS, FakeApi, binned, busy_api, closed_port, played, serving

CHARTS = ("truth", "rolling", "weights", "coverage", "errors", "delays")


def outcomes(rows: int = ROWS, points: int = 200) -> OutcomesReply:
    return msgspec.convert(binned(played(rows), points, None), OutcomesReply)


def alarms_of(api: FakeApi) -> tuple[AlarmReply, ...]:
    return msgspec.convert(api.alarms, tuple[AlarmReply, ...])


def snapshots_of(api: FakeApi) -> tuple[SnapshotReply, ...]:
    content = [{k: v for k, v in s.items() if v is not None} for s in api.snapshots]
    return msgspec.convert(content, tuple[SnapshotReply, ...])


def trace(figure: Any, name: str, mode: str) -> Any:
    found = [t for t in figure.data if t.name == name and t.mode == mode]
    assert len(found) == 1, [(t.name, t.mode) for t in figure.data]
    return found[0]


# Figures


def test_rolling_error_carries_both_errors_as_given() -> None:
    data = outcomes()
    figure = journal_charts.rolling_error(data, (), (), LIGHT)
    assert list(trace(figure, "as served", "lines").y) == list(data.mae)
    assert list(trace(figure, "frozen model_v1", "lines").y) == list(data.baseline_mae)
    assert list(trace(figure, "as served", "lines").x) == list(data.seq)


def test_rolling_error_marks_alarms_rollbacks_and_snapshots_where_they_happened() -> None:
    api = busy_api()
    figure = journal_charts.rolling_error(outcomes(), alarms_of(api), snapshots_of(api), DARK)
    assert list(trace(figure, "drift alarm", "markers").x) == [2310, 1841, 1662]
    assert list(trace(figure, "rollback", "markers").x) == [2000]
    assert list(trace(figure, "snapshot", "markers").x) == [2500, 1700, 1000]
    assert list(trace(figure, "rollback", "lines").x) == [2000, 2000, None]


def test_marks_say_what_happened_and_show_a_message_as_plain_text() -> None:
    api = busy_api()
    figure = journal_charts.rolling_error(outcomes(), alarms_of(api), snapshots_of(api), LIGHT)
    text = trace(figure, "drift alarm", "markers").text[2]
    assert "ADWIN on absolute error, seq 1,662" in text
    assert "214 → 619" in text
    assert "did not come back &lt;b&gt;" in text
    assert "model_v4" in trace(figure, "rollback", "markers").text[0]
    assert "from model_v2" in trace(figure, "rollback", "markers").text[0]


def test_truth_carries_truth_prediction_and_interval() -> None:
    data = outcomes(250, 250)
    figure = journal_charts.truth(data, "Production", LIGHT)
    assert list(trace(figure, "truth", "lines").y) == list(data.truth)
    assert list(trace(figure, "prediction", "lines").y) == list(data.prediction)
    assert list(trace(figure, "interval", "lines").y) == list(data.upper)
    assert list(trace(figure, "lower", "lines").y) == list(data.lower)
    assert trace(figure, "interval", "lines").fill == "tonexty"
    assert figure.layout.yaxis.title.text == "Production"


def test_label_lags_are_counted_from_the_shortest_to_the_longest_there_was() -> None:
    found = ErrorsReply(delay_edges=(1.0, 60.0, 3600.0, 86400.0, 864000.0), delay_counts=(0, 20, 0, 80))
    figure = error_charts.delay_histogram(found, LIGHT)
    assert list(figure.data[0].x) == ["60 s", "60 min", "24 h"]
    assert list(figure.data[0].y) == [20, 0, 80]
    assert figure.data[0].customdata[2] == "24 h to 10 days"


def test_the_error_map_says_where_the_model_is_wrong_and_which_way() -> None:
    found = ErrorsReply(
        key="Source", keys=("Solar", "Wind"), slot="Hour", slots=("0", "1"), mae=((1.0, None), (3.0, 4.0)),
        bias=((0.5, None), (-2.0, 0.0)), n=((10, 0), (20, 30)),
    )  # fmt: skip
    figure = error_charts.error_map(found, DARK)
    assert figure.data[0].z[1][1] == 4.0
    assert figure.data[0].customdata[0][0] == "MAE 1, too high by 0.5, 10 labels"
    assert figure.data[0].customdata[1][0] == "MAE 3, too low by 2, 20 labels"


def test_expert_weights_are_stacked_to_one_the_light_ones_as_one() -> None:
    names = tuple(f"e{i}" for i in range(10))
    weights = WeightsReply(seq=(1, 2), experts=names, weights=tuple((0.5 * i, i) for i in range(10)))
    figure = journal_charts.expert_weights(weights, LIGHT)
    assert [t.name for t in figure.data] == ["e9", "e8", "e7", "e6", "e5", "e4", "4 others"]
    for at in range(2):
        assert sum(t.y[at] for t in figure.data) == pytest.approx(1.0)


def test_coverage_is_shown_beside_its_goal() -> None:
    data = outcomes()
    figure = journal_charts.coverage(data, 0.9, LIGHT)
    assert list(trace(figure, "goal", "lines").y) == [0.9, 0.9]
    assert list(trace(figure, "covered", "lines").y) == list(data.coverage)


def test_drift_is_a_strip_for_each_feature_where_the_journal_was() -> None:
    past = OutcomesReply(seq=(10, 20, 30), received_at=(100.0, 200.0, 300.0))
    drift = DriftReply(
        at=(50.0, 210.0, 299.0, 400.0), scores={"Wind": (0.1, 0.2, 0.9, 1.5), "Hour": (0, 0, None, 0)}
    )
    figure = journal_charts.drift_strip(drift, past, LIGHT)
    assert list(figure.data[0].y) == ["Wind", "Hour"]
    assert list(figure.data[0].x) == [20, 30]
    assert list(figure.data[0].z[0]) == [0.9, 1.5]


def test_charts_without_data_say_why() -> None:
    for figure in (
        journal_charts.rolling_error(OutcomesReply(), (), (), LIGHT),
        journal_charts.truth(OutcomesReply(), "Production", LIGHT),
        journal_charts.coverage(OutcomesReply(seq=(1,), coverage=(None,)), 0.9, LIGHT),
        journal_charts.expert_weights(WeightsReply(), LIGHT),
        journal_charts.drift_strip(DriftReply(), OutcomesReply(), LIGHT),
        error_charts.error_map(ErrorsReply(mae=((None,),)), LIGHT),
        error_charts.delay_histogram(ErrorsReply(delay_counts=(0,)), LIGHT),
    ):
        assert not figure.data
        assert "yet" in figure.layout.annotations[0].text


def test_charts_bear_columns_that_are_missing_or_null() -> None:
    data = OutcomesReply(seq=(1, 2, 3), mae=(None, 2.0, 3.0))
    assert list(journal_charts.rolling_error(data, (AlarmReply(),), (SnapshotReply(),), LIGHT).data[2].y) == [
        None,
        2.0,
        3.0,
    ]
    journal_charts.truth(data, "", LIGHT)
    journal_charts.coverage(data, None, LIGHT)


def test_a_zoom_survives_updates() -> None:
    first = journal_charts.rolling_error(outcomes(2000), (), (), LIGHT)
    second = journal_charts.rolling_error(outcomes(3000), (), (), DARK)
    assert first.layout.uirevision
    assert first.layout.uirevision == second.layout.uirevision


# Words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, NO_VALUE), (0.004, "4 ms"), (45, "45 s"), (300, "5 min"), (86400, "24 h"), (6 * 86400, "6 days")],
)
def test_a_duration_is_said_in_the_unit_that_suits_it(seconds: float | None, said: str) -> None:
    assert format.duration(seconds) == said


@pytest.mark.parametrize(
    ("mae", "baseline", "said"),
    [
        (75, 100, "25.0 % better"),
        (110, 100, "10.0 % worse"),
        (100, 100, "the same"),
        (1, 0, NO_VALUE),
        (None, 1, NO_VALUE),
    ],
)
def test_the_advantage_over_the_frozen_model_is_said_in_per_cent(mae: Any, baseline: Any, said: str) -> None:
    assert status_texts.advantage("Against frozen model_v1", mae, baseline).value == said


@pytest.mark.parametrize(
    "at", [NOW, "2026-02-02T02:40:00Z", "2026-02-02T02:40:00", "2026-02-02T03:40:00+01:00"]
)
def test_times_are_read_from_seconds_and_from_text(at: Any) -> None:
    assert format.utc_text(at) == "2026-02-02 02:40:00"


def test_a_time_that_is_none_has_words() -> None:
    assert format.utc_text("soon") == format.utc_text(1e300) == NO_VALUE
    assert format.ago(None, NOW) == "at an unknown time"
    assert format.ago(NOW - 3 * 3600, NOW) == "3 h ago"


# Client


def reader(transport: httpx.MockTransport, **options: Any) -> ApiReader:
    return ApiReader(httpx.Client(base_url="http://api.test", transport=transport), **options)


@pytest.mark.parametrize(
    "content", [{}, {"learner": None, "prequential": None, "labels": None, "model_version": None}]
)
def test_missing_and_null_values_are_borne_everywhere(content: dict[str, Any]) -> None:
    from server.monitor.monitor_app import PART_OUTPUTS, changed_outputs, page_parts

    reading = reader(httpx.MockTransport(lambda _: httpx.Response(200, json=content))).read()
    assert reading.model == ModelReply()
    changed, _ = changed_outputs(page_parts(reading, "dark", NOW), {})
    assert set(changed) == set(PART_OUTPUTS)


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
def test_a_server_that_cannot_be_read_is_a_state_and_not_an_exception(response: Any, why: str) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        assert isinstance(response, httpx.Response)
        return response

    reading = reader(httpx.MockTransport(answer)).read()
    assert why in reading.down
    [notice] = status_texts.notices(reading, NOW)
    assert notice.title == "Server down."
    assert "http://api.test" in notice.text


def test_what_was_read_last_is_kept_while_the_server_is_down() -> None:
    api = busy_api()
    with serving(api) as url, httpx.Client(base_url=url) as client:
        found = ApiReader(client, max_age=0, patience=0)
        assert not found.read().down
        api.broken = frozenset({"/model"})
        reading = found.read()
    assert "500" in reading.down
    assert reading.history is not None
    assert len(reading.history.seq) == 600


def test_one_answer_that_fails_leaves_the_others() -> None:
    api = busy_api()
    api.broken = frozenset({"/alarms"})
    with serving(api) as url, httpx.Client(base_url=url) as client:
        reading = ApiReader(client).read()
    assert not reading.down
    assert reading.problems == ("GET /alarms: it answered 500 Internal Server Error",)
    assert reading.snapshots is not None
    assert reading.alarms is None


def test_many_pages_ask_the_server_once() -> None:
    api, now = busy_api(), [0.0]
    with serving(api) as url, httpx.Client(base_url=url) as client:
        found = ApiReader(client, max_age=1.0, clock=lambda: now[0])
        first = found.read()
        assert found.read().model is first.model
        now[0] = 1.5
        assert found.read().model is not first.model
    assert api.asked == 2


@pytest.mark.slow
def test_only_what_changed_is_drawn_again() -> None:
    from server.monitor.monitor_app import PART_OUTPUTS, changed_outputs, page_parts

    api = busy_api()
    api.broken = frozenset({"/metrics"})  # rows a second always change
    with serving(api) as url, httpx.Client(base_url=url) as client:
        found = ApiReader(client, max_age=0, patience=0)
        first, shown = changed_outputs(page_parts(found.read(), "light", NOW), {})
        again, shown = changed_outputs(page_parts(found.read(), "light", NOW), shown)
        api.alarms = api.alarms[1:]
        later, after = changed_outputs(page_parts(found.read(), "light", NOW), shown)
        dark, _ = changed_outputs(page_parts(found.read(), "dark", NOW), shown)
    assert set(first) == set(PART_OUTPUTS)
    assert again == {}
    assert isinstance(later["rolling"], Patch)
    assert not isinstance(dark["rolling"], Patch)
    assert set(after) == set(shown)
    assert set(later) == {"status", "rolling", "alarms"}
    assert set(CHARTS) <= set(dark)


def test_the_newest_alarm_and_waiting_labels_are_in_the_status_line() -> None:
    reading = ApiState(
        model=ModelReply(model_version=3, labels_waiting=7),
        alarms=AlarmsReply((AlarmReply(seq=40, at=NOW - 300, detector="ADWIN", subject="error"),)),
    )
    said = {fact.label: (fact.value, fact.note) for fact in status_texts.status_facts(reading, NOW)}
    assert said["Last alarm"] == ("5 min ago", "ADWIN on error, seq 40")
    assert said["Label lag, median"][1] == "7 labels wait"
    assert said["Serving"][0] == "model_v3"


def test_costly_answers_are_asked_for_less_often_and_anew_after_a_change() -> None:
    api, now = busy_api(), [0.0]
    with serving(api) as url, httpx.Client(base_url=url) as client:
        found = ApiReader(client, max_age=1.0, clock=lambda: now[0])
        before = found.read()
        api.alarms = []
        now[0] = 1.5
        soon = found.read()
        found.forget()
        after = found.read()
    assert soon.alarms == before.alarms
    assert after.alarms == AlarmsReply(())


def test_rows_a_second_and_the_tail_of_their_time_come_from_two_looks_at_the_metrics() -> None:
    api, now = busy_api(), [0.0]
    with serving(api) as url, httpx.Client(base_url=url) as client:
        found = ApiReader(client, max_age=0, patience=0, clock=lambda: now[0])
        assert found.read().traffic == Traffic()
        now[0] = 2.0
        traffic = found.read().traffic
    assert traffic.rows_per_second == pytest.approx(60.0)
    assert traffic.p99_seconds == pytest.approx(0.0025 + 0.0025 * 0.5)


def test_counts_that_begin_anew_tell_nothing() -> None:
    assert traffic_between(MetricsSample(1.0, 500.0), MetricsSample(2.0, 10.0)) == Traffic()
    assert bucket_quantile({}, 0.99) is None
    assert bucket_quantile({0.1: 0.0, float("inf"): 10.0}, 0.99) == 0.1


# Orders


@pytest.mark.parametrize(
    ("host", "origin", "address", "key", "taken"),
    [
        ("127.0.0.1:8050", "http://127.0.0.1:8050", "127.0.0.1", "", True),
        ("localhost:8050", None, "::1", "", True),
        ("monitor.example:8050", None, "127.0.0.1", "", False),  # another name for this machine
        ("10.0.0.5:8050", None, "10.0.0.9", "", False),
        ("10.0.0.5:8050", None, "10.0.0.9", "secret", True),  # the server says whether it is the right one
        ("127.0.0.1:8050", "http://evil.example", "127.0.0.1", "secret", False),
        ("127.0.0.1:8050", None, None, "", False),
    ],
)
def test_orders_are_passed_on_from_this_machine_or_with_a_key(
    host: str, origin: str | None, address: str | None, key: str, taken: bool
) -> None:
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    assert (refusal(headers, address, key) == "") is taken


def test_an_order_is_carried_out_with_the_key_it_was_given() -> None:
    api = busy_api()
    api.admin_key = "secret"
    with serving(api) as url, httpx.Client(base_url=url) as client:
        done, said = perform(client, AdminAction("rollback", 3), "wrong")
        assert (done, said) == (False, "Refused: an admin call needs the key.")
        done, said = perform(client, AdminAction("rollback", 3), "secret")
        assert (done, said) == (True, "Done: model_v6 is model_v3 again.")
        assert perform(client, AdminAction("release", 1), "secret")[0]
        assert not perform(client, AdminAction("format", 1), "secret")[0]
    assert [path for path, _, _ in api.posted][-1] == "/quarantine/1/release"


def test_an_order_to_a_server_that_is_gone_says_so() -> None:
    with open_client(f"http://127.0.0.1:{closed_port()}") as client:
        done, said = perform(client, AdminAction("rollback", 1), "")
    assert (done, said) == (False, "The server could not be asked: nothing listens there.")


def test_a_proxy_in_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    with serving(busy_api()) as url, open_client(url) as client:
        assert not ApiReader(client).read().down


# The process


@pytest.mark.slow
def test_the_process_serves_on_a_given_socket_and_ends_silently_on_sigterm() -> None:
    code = (
        "import sys, threading\n"
        "from server.monitor.monitor_process import ListenAddress, serve_monitor\n"
        "assert 'dash' not in sys.modules and 'werkzeug' not in sys.modules\n"
        "serve_monitor(sys.argv[1], ListenAddress('127.0.0.1', 0, int(sys.argv[2])), threading.Event())\n"
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
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0, output
    assert output == b""


@pytest.mark.slow
def test_the_process_binds_its_own_socket_when_given_none() -> None:
    stop, port = threading.Event(), closed_port()
    thread = threading.Thread(
        target=serve_monitor, args=("http://127.0.0.1:9", ListenAddress("127.0.0.1", port), stop)
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


def test_every_name_has_a_trace_uid_that_is_a_css_class() -> None:
    names = [
        "prediction",
        "mean 0.3 Source Day_of_…",
        "mean 0.3 Source Day_of…",
        "a.b",
        "a b",
        "",
        "#1 > 2",
        "für",
    ]
    uids = {name: line_trace([1], [2.0], name, colour="#000", dash="solid").uid for name in names}
    assert len(set(uids.values())) == len(names)
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", uid) for uid in uids.values())
