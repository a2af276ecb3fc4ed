"""``POST /learn`` over a real socket."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.support.rows import TARGET, stream_rows
from tests.support.running import Server, serving, until


def labelled(ids: list[str], labels: list[float]) -> list[dict[str, Any]]:
    """Labels by id."""
    return [{"id": name, TARGET: label} for name, label in zip(ids, labels, strict=True)]


def test_served_predictions_change_once_labels_are_learned(server: Server) -> None:
    rows, labels = stream_rows(server.home, 200)
    before, served = server.predict(rows[180:]), []
    for start in range(0, 200, 20):
        answer = server.predict(rows[start : start + 20])
        assert answer["learned_seq"] == start
        served += answer["predictions"]
        twice = [2.0 * label for label in labels[start : start + 20]]
        reply = server.learn(labelled(answer["ids"], twice), wait=True)
        assert (reply["accepted"], reply["seq"]) == (20, start + 20)
    assert served[180:] != before["predictions"]
    late = list(zip(served, labels, strict=True))[60:]
    assert sum(abs(p - 2.0 * y) for p, y in late) < sum(abs(p - y) for p, y in late)


def test_a_label_joins_what_was_served(server: Server) -> None:
    rows, labels = stream_rows(server.home, 1)
    served = server.predict({**rows[0], "Start_Hour": "N/A"})
    server.learn({"id": served["id"], TARGET: labels[0]}, wait=True)
    record = server.get(f"/predictions/{served['id']}")["label"]
    assert record["features"]["Start_Hour"] == "N/A"
    assert record["prediction"] == served["prediction"]
    assert record["plan_seq"] == served["learned_seq"]
    assert len(record["experts"]) == len(server.get("/model")["experts"])


def test_the_reported_error_is_that_of_predictions_as_served(server: Server) -> None:
    rows, labels = stream_rows(server.home, 60)
    served = server.predict(rows)
    server.learn(labelled(served["ids"], labels), wait=True)
    expected = sum(abs(p - y) for p, y in zip(served["predictions"], labels, strict=True)) / 60
    found = until(lambda: error_of(server, 60), "the learner's report")
    assert found["mae"] == pytest.approx(expected)
    outcomes = server.get("/outcomes?points=60")
    assert outcomes["prediction"] == served["predictions"]
    assert outcomes["truth"] == labels
    assert outcomes["mae"][-1] == pytest.approx(expected)


def error_of(server: Server, count: int) -> Any:
    """The prequential report once it has so many labels."""
    report = server.get("/model")["prequential"]
    return report if report.get("n") == count else None


def test_a_repeat_is_a_duplicate_and_another_value_a_correction(server: Server) -> None:
    rows, labels = stream_rows(server.home, 3)
    ids = server.predict(rows)["ids"]
    assert server.learn(labelled(ids, labels))["accepted"] == 3
    assert server.learn(labelled(ids, labels)) == {
        "accepted": 0, "duplicates": 3, "corrections": 0, "quarantined": [], "seq": 3,
    }  # fmt: skip
    corrected = server.learn({"id": ids[0], TARGET: labels[0] + 5}, wait=True)
    assert (corrected["corrections"], corrected["seq"]) == (1, 4)
    assert server.learn({"id": ids[0], TARGET: labels[0] + 5})["duplicates"] == 1
    assert until(lambda: error_of(server, 3), "three outcomes")["total"] == 3


def test_a_full_row_is_learned_without_a_prediction(server: Server) -> None:
    rows, labels = stream_rows(server.home, 5)
    reply = server.learn([{**row, TARGET: label} for row, label in zip(rows, labels, strict=True)], wait=True)
    assert reply["accepted"] == 5
    assert server.get("/model")["learned_seq"] == 5


def test_a_full_row_without_an_id_joins_the_prediction_of_the_same_features(server: Server) -> None:
    rows, labels = stream_rows(server.home, 1)
    served = server.predict(rows[0])
    row = {**rows[0], TARGET: labels[0]}
    assert server.learn(row)["accepted"] == 1
    assert server.get(f"/predictions/{served['id']}")["label"]["target"] == labels[0]
    assert server.learn(row)["duplicates"] == 1


def test_two_predictions_of_the_same_features_take_a_label_each(server: Server) -> None:
    rows, _ = stream_rows(server.home, 1)
    first, second = server.predict([rows[0], rows[0]])["ids"]
    assert server.learn([{**rows[0], TARGET: 10.0}, {**rows[0], TARGET: 11.0}])["accepted"] == 2
    assert server.get(f"/predictions/{first}")["label"]["target"] == 10.0
    assert server.get(f"/predictions/{second}")["label"]["target"] == 11.0


def test_equal_labels_of_equal_features_are_both_learned(server: Server) -> None:
    rows, _ = stream_rows(server.home, 1)
    server.predict([rows[0], rows[0]])
    assert server.learn([{**rows[0], TARGET: 0.0}, {**rows[0], TARGET: 0.0}])["accepted"] == 2
    assert server.learn({**rows[0], TARGET: 0.0})["duplicates"] == 1


def test_a_csv_label_without_an_id_joins_the_prediction_made_from_json(server: Server) -> None:
    rows, labels = stream_rows(server.home, 1)
    served = server.predict(rows[0])
    full = {**rows[0], TARGET: labels[0], "Date": "2021-01-01"}
    body = ",".join(full) + "\n" + ",".join(map(str, full.values()))
    answer = server.client.post("/learn", content=body.encode(), headers={"Content-Type": "text/csv"})
    assert answer.json()["accepted"] == 1
    assert server.get(f"/predictions/{served['id']}")["label"]["target"] == labels[0]


def test_a_released_label_is_learned_and_measured_as_it_was_served(server: Server) -> None:
    rows, _ = stream_rows(server.home, 1)
    served = server.predict(rows[0])
    (aside,) = server.learn({"id": served["id"], TARGET: 1e7})["quarantined"]
    server.client.post(f"/quarantine/{aside['seq']}/release")
    report = until(lambda: error_of(server, 1), "the released label to be measured")
    assert report["mae"] == pytest.approx(1e7 - served["prediction"])


def test_ndjson_csv_and_messagepack_bodies_are_learned(server: Server) -> None:
    rows, labels = stream_rows(server.home, 3)
    full = [{**row, TARGET: label} for row, label in zip(rows, labels, strict=True)]
    table = ",".join(full[0]) + "\n" + "\n".join(",".join(map(str, row.values())) for row in full)
    bodies = (
        ("application/x-ndjson", b"\n".join(map(msgspec.json.encode, full))),
        ("text/csv", table.encode()),
        ("application/msgpack", msgspec.msgpack.encode(full)),
    )
    for media, body in bodies:
        answer = server.client.post("/learn", content=body, headers={"Content-Type": media})
        assert answer.status_code == 202, answer.text
        content = answer.content
        found = msgspec.msgpack.decode(content) if "msgpack" in media else msgspec.json.decode(content)
        assert found["accepted"] == 3


def test_a_label_for_an_unknown_id_is_quarantined(server: Server) -> None:
    reply = server.learn([{"id": "nobody", TARGET: 3.0}])
    assert reply["accepted"] == 0
    assert reply["quarantined"][0]["index"] == 0
    assert "nobody" in reply["quarantined"][0]["reason"]
    assert server.get("/quarantine")["quarantined"][0]["record"]["id"] == "nobody"


def test_an_absurd_label_is_quarantined_not_learned_and_can_be_released(server: Server) -> None:
    rows, labels = stream_rows(server.home, 2)
    ids = server.predict(rows)["ids"]
    reply = server.learn(labelled(ids, [1e7, labels[1]]), wait=True)
    assert reply["accepted"] == 1
    (aside,) = reply["quarantined"]
    assert (aside["index"], "plausible" in aside["reason"]) == (0, True)
    assert server.learn(labelled(ids[:1], [1e7]))["duplicates"] == 1
    before = server.predict(rows[0])["prediction"]
    released = server.client.post(f"/quarantine/{aside['seq']}/release")
    assert (released.status_code, released.json()["seq"]) == (202, 2)
    assert server.client.post(f"/quarantine/{aside['seq']}/release").json()["seq"] == 2
    until(lambda: server.get("/model")["learned_seq"] == 2, "the released label to be learned")
    assert server.predict(rows[0])["prediction"] > before


def test_a_label_too_large_to_learn_stays_in_quarantine(server: Server) -> None:
    rows, labels = stream_rows(server.home, 2)
    ids = server.predict(rows)["ids"]
    (aside,) = server.learn(labelled(ids[:1], [1e308]))["quarantined"]
    answer = server.client.post(f"/quarantine/{aside['seq']}/release")
    assert (answer.status_code, answer.json()["field"]) == (422, "seq")
    assert server.client.post("/quarantine/77/release").status_code == 422
    assert server.learn(labelled(ids[1:], labels[1:]), wait=True)["seq"] == 1


@pytest.mark.parametrize("wrong", [None, "12.5", "x", True, [1], {}])
def test_a_label_that_is_no_finite_number_refuses_the_whole_batch(shared_server: Server, wrong: Any) -> None:
    rows, labels = stream_rows(shared_server.home, 2)
    ids = shared_server.predict(rows)["ids"]
    answer = shared_server.client.post(
        "/learn", json=[*labelled(ids[:1], labels[:1]), {"id": ids[1], TARGET: wrong}]
    )
    assert answer.status_code == 422
    assert (answer.json()["field"], answer.json()["index"]) == (TARGET, 1)
    assert shared_server.get("/model")["journal_seq"] == 0


def test_other_wrong_labels_are_problems_that_name_the_field(shared_server: Server) -> None:
    for body, field in (({"id": "a"}, TARGET), ({TARGET: 1.0}, "id"), ({"id": [1], TARGET: 1.0}, "id")):
        answer = shared_server.client.post("/learn", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    for raw in (b'{"id": "a", "Production": NaN}', b'{"id": "a", "Production": 1e999}', b"[", b"3"):
        answer = shared_server.client.post(
            "/learn", content=raw, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400
    assert shared_server.get("/model")["journal_seq"] == 0


def test_plain_labels_are_answered_as_others_are(server: Server) -> None:
    rows, labels = stream_rows(server.home, 3)
    full = [{**row, TARGET: labels[n], "id": f"row {n}"} for n, row in enumerate(rows)]
    for path, expected in (("/learn", (3, 0)), ("/learn?wait=false", (0, 3))):
        answer = server.client.post(path, json=full)
        found = answer.json()
        assert (answer.status_code, found["accepted"], found["duplicates"]) == (202, *expected)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"]
        assert found["seq"] == 3
    one = server.client.post("/learn", json={**full[0], TARGET: labels[0] + 1.0}).json()
    assert (one["corrections"], one["seq"]) == (1, 4)


def test_labels_on_one_connection_are_answered_in_order_however_they_are_cut(server: Server) -> None:
    rows, labels = stream_rows(server.home, 1)
    label = msgspec.json.encode({**rows[0], TARGET: labels[0]})
    row, wrong = msgspec.json.encode(rows[0]), msgspec.json.encode({TARGET: "high"})
    long = msgspec.json.encode([{**rows[0], TARGET: labels[0], "note": "x" * 70_000}])
    wanted = [
        ("/learn", label), ("/predict", row), ("/learn", wrong), ("/learn", long), ("/learn", label),
        ("/learn?wait=0", label), ("/learn", label),
    ]  # fmt: skip
    host = httpx.URL(server.url)
    sent = b"".join(request(path, body) for path, body in wanted)
    for size in (997, len(sent)):
        with socket.create_connection((host.host, host.port), timeout=15) as connection:
            for at in range(0, len(sent), size):
                connection.sendall(sent[at : at + size])
            connection.sendall(request("/learn", label, "Connection: close\r\n"))
            reply = b"".join(iter(lambda: connection.recv(65536), b""))  # until the server closes it
        codes = [part[:3] for part in reply.split(b"HTTP/1.1 ")[1:]]
        assert codes == [b"202", b"200", b"422", b"202", b"202", b"202", b"202", b"202"]
        assert reply.count(b"x-request-id: ") == len(codes)


def request(path: str, body: bytes, headers: str = "") -> bytes:
    """A request as it is sent."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_labels_of_clients_that_go_away_are_kept_whole_or_not_at_all(server: Server) -> None:
    rows, labels = stream_rows(server.home, 1)
    sent = request("/learn", msgspec.json.encode({**rows[0], TARGET: labels[0]}))
    host = httpx.URL(server.url)
    for part in (sent, sent[:-1], sent):
        with socket.create_connection((host.host, host.port)) as connection:
            connection.sendall(part)
    until(lambda: server.get("/model")["journal_seq"] == 2, "the labels that came whole")
    assert server.learn({**rows[0], TARGET: labels[0]})["seq"] == 3


def test_a_label_that_repeats_in_one_request_is_learned_once(server: Server) -> None:
    rows, labels = stream_rows(server.home, 1)
    label = {**rows[0], TARGET: labels[0], "id": "again"}
    found = server.learn([label, label, {**label, TARGET: labels[0] + 1.0}])
    assert [found[name] for name in ("accepted", "duplicates", "corrections", "seq")] == [1, 1, 1, 2]


def test_a_page_of_another_origin_cannot_teach(shared_server: Server) -> None:
    answer = shared_server.client.post("/learn", json={}, headers={"Origin": "http://elsewhere.example"})
    assert answer.status_code == 403


@pytest.mark.server
def test_labels_by_id_are_found_whichever_worker_served_them(home: Path) -> None:
    with serving(home, "--workers", "2") as server:
        rows, labels = stream_rows(server.home, 40)
        for row, label in zip(rows, labels, strict=True):
            served = server.predict(row, headers={"Connection": "close"})
            answer = server.client.post(
                "/learn", json={"id": served["id"], TARGET: label}, headers={"Connection": "close"}
            )
            assert answer.json()["accepted"] == 1


@pytest.mark.server
def test_more_labels_than_may_wait_are_refused_whole_and_taken_once_there_is_room(home: Path) -> None:
    with serving(home, environ={"MILLRACE_LEARNER_MAX_WAITING": "20"}) as server:
        rows, labels = stream_rows(home, 60)
        full = [{**row, TARGET: label} for row, label in zip(rows, labels, strict=True)]
        (learner,) = server.pids("learner")
        os.kill(learner, signal.SIGSTOP)  # at work no more, and not dead either
        try:
            assert server.learn(full[:30])["accepted"] == 30
            answer = server.client.post("/learn", json=full[30:])
            assert (answer.status_code, answer.json()["title"]) == (429, "Too many labels waiting")
            assert int(answer.headers["retry-after"]) >= 1
            assert "learner.max_waiting" in answer.json()["detail"]
            assert server.get("/model")["journal_seq"] == 30
            assert server.predict(rows)["learned_seq"] == 0
        finally:
            os.kill(learner, signal.SIGCONT)
        until(lambda: server.get("/model")["learned_seq"] == 30, "the labels to be learned")
        assert server.learn(full[30:])["accepted"] == 30


@pytest.mark.server
def test_requests_that_come_at_once_do_not_wait_for_the_learner(home: Path) -> None:
    with serving(home, environ={"MILLRACE_LEARNER_PACE_SECONDS": "600"}) as server:
        rows, labels = stream_rows(home, 60)
        full = [{**row, TARGET: label} for row, label in zip(rows, labels, strict=True)]
        (learner,) = server.pids("learner")
        os.kill(learner, signal.SIGSTOP)
        try:
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                learned = [pool.submit(server.learn, part) for part in (full[:20], full[20:40], full[40:])]
                first = concurrent.futures.wait(learned, 90, concurrent.futures.FIRST_COMPLETED)
                assert len(first.done) >= 1  # all but the last one left alone are answered
                os.kill(learner, signal.SIGCONT)
                assert sum(one.result()["accepted"] for one in learned) == 60
        finally:
            os.kill(learner, signal.SIGCONT)
