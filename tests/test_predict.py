"""``POST /predict`` over a real socket."""

from __future__ import annotations

import contextlib
import gzip
import math
import re
import socket
import time
from typing import Any

import httpx
import msgspec
import pytest

from tests.support.rows import stream_rows
from tests.support.running import Server, until

ROW = {"Start_Hour": 13, "Source": "Solar", "Day_of_Year": 20, "Day_Name": "Friday", "Month_Name": "January"}


def test_one_row_is_answered_with_its_prediction_interval_and_id(shared_server: Server) -> None:
    reply = shared_server.predict(ROW)
    assert set(reply) == {"prediction", "lower", "upper", "id", "drifted", "model_version", "learned_seq"}
    assert reply["lower"] < reply["prediction"] < reply["upper"]
    assert reply["id"] and reply["model_version"] == 1


def test_an_array_is_answered_with_columns_that_equal_the_single_rows(shared_server: Server) -> None:
    rows, _ = stream_rows(shared_server.home, 20)
    reply = shared_server.predict(rows)
    singly = [shared_server.predict(row) for row in rows]
    assert reply["predictions"] == pytest.approx([one["prediction"] for one in singly], rel=1e-12)
    assert reply["lower"] == pytest.approx([one["lower"] for one in singly], rel=1e-12)
    assert len(set(reply["ids"])) == 20


def test_a_clients_own_id_comes_back(shared_server: Server) -> None:
    assert shared_server.predict({**ROW, "id": "mine-1"})["id"] == "mine-1"
    assert shared_server.predict({**ROW, "id": 77})["id"] == "77"


def test_messagepack_goes_both_ways(shared_server: Server) -> None:
    body = msgspec.msgpack.encode([ROW, ROW])
    headers = {"Content-Type": "application/msgpack"}
    answer = shared_server.client.post("/predict", content=body, headers=headers)
    assert answer.headers["content-type"] == "application/msgpack"
    assert (
        msgspec.msgpack.decode(answer.content)["predictions"]
        == shared_server.predict([ROW, ROW])["predictions"]
    )


def test_messagepack_is_answered_to_json_when_asked_for(shared_server: Server) -> None:
    answer = shared_server.client.post("/predict", json=ROW, headers={"Accept": "application/x-msgpack"})
    assert msgspec.msgpack.decode(answer.content)["prediction"] == shared_server.predict(ROW)["prediction"]


def test_a_csv_with_a_repeated_column_is_refused_by_its_name(shared_server: Server) -> None:
    headers = {"content-type": "text/csv"}
    answer = shared_server.client.post("/predict", content="a,Source,a\n1,Solar,2\n", headers=headers)
    assert answer.status_code == 422 and answer.json()["field"] == "a"
    assert "column 'a' is named twice" in answer.json()["detail"]


def test_ndjson_and_csv_are_read(shared_server: Server) -> None:
    lines = b"\n".join(msgspec.json.encode(row) for row in (ROW, ROW))
    table = (",".join(ROW) + "\n" + ",".join(map(str, ROW.values())) + "\n").encode()
    expected = shared_server.predict(ROW)["prediction"]
    for content, media, count in ((lines, "application/x-ndjson", 2), (table, "text/csv", 1)):
        answer = shared_server.client.post("/predict", content=content, headers={"Content-Type": media})
        assert answer.json()["predictions"] == [expected] * count


def test_an_empty_array_is_answered_with_empty_columns(shared_server: Server) -> None:
    assert shared_server.predict([])["predictions"] == []


@pytest.mark.parametrize("value", [None, "N/A", "", 1e308, -9999, [1], {"a": 1}])
def test_a_dirty_value_is_imputed_and_reported(shared_server: Server, value: Any) -> None:
    reply = shared_server.predict({**ROW, "Day_of_Year": value})
    assert reply["imputed"] == ["Day_of_Year"]
    assert math.isfinite(reply["prediction"])


def test_a_missing_field_is_imputed_and_a_number_as_text_is_not(shared_server: Server) -> None:
    missing = {name: value for name, value in ROW.items() if name != "Start_Hour"}
    assert shared_server.predict(missing)["imputed"] == ["Start_Hour"]
    assert (
        shared_server.predict({**ROW, "Start_Hour": "13"})["prediction"]
        == shared_server.predict(ROW)["prediction"]
    )


def test_imputed_values_are_told_by_row_in_an_array(shared_server: Server) -> None:
    assert shared_server.predict([ROW, {**ROW, "Start_Hour": None}])["imputed"] == [[], ["Start_Hour"]]


def test_an_unknown_category_is_scored_and_marked(shared_server: Server) -> None:
    reply = shared_server.predict({**ROW, "Source": "Tidal"})
    assert reply["drifted"] is True and math.isfinite(reply["prediction"])
    assert shared_server.predict(ROW)["drifted"] is False


def test_an_unknown_field_is_ignored_and_counted(shared_server: Server) -> None:
    before = counter(shared_server, "millrace_unknown_fields_total")
    assert shared_server.predict({**ROW, "moon": 1})["prediction"] == shared_server.predict(ROW)["prediction"]
    assert counter(shared_server, "millrace_unknown_fields_total") == before + 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"3", 400),
        (b'"x"', 400),
        (b"[1]", 400),
        (b'[{"a":NaN}]', 400),
        (b"\xff", 400),
    ],
)
def test_a_malformed_body_is_a_problem(shared_server: Server, body: bytes, status: int) -> None:
    answer = shared_server.client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status and answer.json()["detail"]


def test_the_problem_of_a_row_names_its_index(shared_server: Server) -> None:
    answer = shared_server.client.post("/predict", json=[ROW, 3])
    assert answer.json()["index"] == 1


@pytest.mark.parametrize("wrong", ["", "x" * 300, 1.5, True, [1]])
def test_a_wrong_id_is_a_problem_that_names_it(shared_server: Server, wrong: Any) -> None:
    answer = shared_server.client.post("/predict", json=[ROW, {**ROW, "id": wrong}])
    assert answer.status_code == 422
    assert answer.json()["field"] == "id" and answer.json()["index"] == 1


def test_an_id_that_stands_twice_is_a_problem(shared_server: Server) -> None:
    answer = shared_server.client.post("/predict", json=[{**ROW, "id": "a"}, {**ROW, "id": "a"}])
    assert answer.status_code == 422 and answer.json()["field"] == "id"


def test_a_batch_over_the_limit_is_too_large(shared_server: Server) -> None:
    answer = shared_server.client.post("/predict", json=[{}] * 10_001)
    assert answer.status_code == 413
    assert "10000" in answer.json()["detail"]


def test_a_body_over_the_limit_is_too_large(shared_server: Server) -> None:
    headers = {"Content-Type": "application/json"}
    answer = shared_server.client.post("/predict", content=b" " * (33 * 2**20), headers=headers)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_unknown_media_type_is_told_what_is_understood(shared_server: Server) -> None:
    answer = shared_server.client.post("/predict", content=b"<a/>", headers={"Content-Type": "text/xml"})
    assert answer.status_code == 415 and "text/csv" in answer.json()["detail"]


def test_an_unknown_path_and_a_wrong_method_are_problems_too(shared_server: Server) -> None:
    for answer in (shared_server.client.get("/nowhere"), shared_server.client.get("/predict")):
        assert answer.status_code in (404, 405)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_prediction_can_be_looked_up_as_served(shared_server: Server) -> None:
    reply = shared_server.predict({**ROW, "Source": "Tidal", "moon": 3})
    found = shared_server.get(f"/predictions/{reply['id']}")
    assert found["served"]["prediction"] == reply["prediction"]
    assert found["served"]["features"] == {**ROW, "Source": "Tidal"}
    assert found["label"] is None
    assert shared_server.client.get("/predictions/nobody").status_code == 404


def test_the_docs_type_the_streams_own_features(shared_server: Server) -> None:
    spec = shared_server.get("/docs/openapi.json")
    schema = spec["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    used = {feature["name"] for feature in shared_server.get("/model")["features"] if feature["used"]}
    assert set(schema["oneOf"][0]["properties"]) == used | {"id"}
    labelled = spec["paths"]["/learn"]["post"]["requestBody"]["content"]["application/json"]["schema"][
        "oneOf"
    ][0]
    assert labelled["required"] == ["Production"]
    assert shared_server.client.get("/docs").status_code == 200


def counter(server: Server, name: str) -> float:
    """A metric's value, 0 when it is not there."""
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def test_a_huge_whole_number_is_told_as_served_in_messagepack_too(shared_server: Server) -> None:
    name = shared_server.predict({**ROW, "Day_of_Year": 2**70})["id"]
    answer = shared_server.client.get(f"/predictions/{name}", headers={"Accept": "application/msgpack"})
    assert msgspec.msgpack.decode(answer.content)["served"]["features"]["Day_of_Year"] == str(2**70)


def test_a_compressed_body_is_told_to_come_as_it_is(shared_server: Server) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = shared_server.client.post("/predict", content=gzip.compress(b"{}"), headers=headers)
    assert answer.status_code == 415 and "gzip" in answer.json()["detail"]


def test_a_wrong_parameter_is_a_problem_that_names_it(shared_server: Server) -> None:
    answers = {
        "points": shared_server.client.get("/outcomes?points=0"),
        "wait": shared_server.client.post("/learn?wait=banana", json=[]),
        "version": shared_server.client.post("/snapshots/rollback", json={"version": "a"}),
    }
    for field, answer in answers.items():
        assert answer.status_code == 400
        assert answer.json()["field"] == field and field in answer.json()["detail"]


def test_a_client_that_goes_away_half_way_is_no_failure_of_the_server(shared_server: Server) -> None:
    head = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    before = requests(shared_server, 'code="400",route="/predict"')
    with socket.create_connection(
        (httpx.URL(shared_server.url).host, httpx.URL(shared_server.url).port)
    ) as half:
        half.sendall(head)
    until(lambda: requests(shared_server, 'code="400",route="/predict"') > before, "the end to be noticed")
    assert "Traceback" not in shared_server.log()


def requests(server: Server, labels: str) -> float:
    """How many requests there were with these labels."""
    name = f"millrace_request_duration_seconds_count{{{labels}}} "
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_an_id_with_slashes_can_be_looked_up(shared_server: Server) -> None:
    name = shared_server.predict({**ROW, "id": "plant/7 a?b"})["id"]
    assert shared_server.get("/predictions/plant%2F7%20a%3Fb")["served"]["id"] == name


def test_a_question_that_is_not_recorded_leaves_nothing_for_a_label_to_join(server: Server) -> None:
    asked = server.predict({"Start_Hour": 12, "id": "what-if"}, params={"record": "false"})
    kept = server.predict({"Start_Hour": 12, "id": "kept"})
    assert asked["prediction"] == kept["prediction"]
    assert server.client.get("/predictions/what-if").status_code == 404
    assert server.get("/predictions/kept")["served"]["id"] == "kept"


def test_whatever_can_be_got_can_be_asked_for_its_head(shared_server: Server) -> None:
    for path in ("/health/live", "/model", "/metrics", "/docs"):
        answer = shared_server.client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0
    assert shared_server.client.head("/predict").status_code == 405


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("application/msgpack;q=0", "application/json"),
        ("application/json, application/msgpack;q=0.5", "application/json"),
        ("application/msgpack, application/json;q=0.5", "application/msgpack"),
        ("text/html, */*;q=0.1", "application/json"),
    ],
)
def test_the_reply_is_in_the_format_liked_best(shared_server: Server, accept: str, given: str) -> None:
    answer = shared_server.client.post("/predict", json=ROW, headers={"Accept": accept})
    assert answer.headers["content-type"] == given


def test_the_fast_path_answers_as_the_full_route_does(shared_server: Server) -> None:
    fast = shared_server.client.post("/predict", json={**ROW, "Source": "Tidal", "Start_Hour": "?"})
    slow = shared_server.client.post(
        "/predict?record=true", json={**ROW, "Source": "Tidal", "Start_Hour": "?"}
    )
    assert fast.headers["content-type"] == slow.headers["content-type"]
    assert {**fast.json(), "id": ""} == {**slow.json(), "id": ""}
    for body in (b"{", b"[1]", msgspec.json.encode({**ROW, "id": ""}), b"3"):
        headers = {"Content-Type": "application/json"}
        fast, slow = (
            shared_server.client.post(path, content=body, headers=headers)
            for path in ("/predict", "/predict?record=true")
        )
        assert (fast.status_code, fast.json()) == (slow.status_code, slow.json())
        assert fast.status_code in (400, 422)


def test_requests_on_one_connection_are_answered_in_order_however_they_are_cut(shared_server: Server) -> None:
    body = msgspec.json.encode(ROW)
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    wanted = [(b"/predict", body), (b"/predict?record=true", body), (b"/predict", b"{"), (b"/predict", body)]
    sent = b"".join(head % (path, len(content)) + content for path, content in wanted)
    url = httpx.URL(shared_server.url)
    for size in (7, 100, len(sent)):
        with socket.create_connection((url.host, url.port)) as connection:
            for at in range(0, len(sent), size):
                connection.sendall(sent[at : at + size])
                time.sleep(0.001)
            reply = b""
            while reply.count(b"HTTP/1.1 ") < len(wanted):
                reply += connection.recv(65536)
        codes = [part[:3] for part in reply.split(b"HTTP/1.1 ")[1:]]
        assert codes == [b"200", b"200", b"400", b"200"]


def test_requests_with_the_headers_of_one_before_are_answered_as_the_first(shared_server: Server) -> None:
    url = httpx.URL(shared_server.url)
    rows = [{**ROW, "Start_Hour": hour} for hour in (10, 11, 12, 13)]
    wanted = [shared_server.predict(row)["prediction"] for row in rows]
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine-7\r\nContent-Length: %d\r\n\r\n"
    whole = [head % len(body) + body for body in map(msgspec.json.encode, rows)]
    broken = whole[0][:-1] + b","
    with socket.create_connection((url.host, url.port)) as connection:
        for _ in range(2):
            for pieces in ([whole[0]], [whole[1]], [whole[2][:-5], whole[2][-5:]], [whole[3] + whole[0]]):
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(0.001)
                several = sum(piece.count(b"POST") for piece in pieces)
                answers = replies(connection, several)
                first = whole.index(b"".join(pieces)[: len(whole[0])])
                places = [(first + n) % len(whole) for n in range(several)]
                assert [msgspec.json.decode(body)["prediction"] for _, body in answers] == [
                    wanted[place] for place in places
                ]
                assert all(b"x-request-id: mine-7" in top and b"200 OK" in top for top, _ in answers)
            connection.sendall(broken)
            ((top, body),) = replies(connection, 1)
            assert b"400 Bad Request" in top and b"not well-formed" in body


def test_an_idle_connection_is_closed_also_after_known_headers(shared_server: Server) -> None:
    url, body = httpx.URL(shared_server.url), msgspec.json.encode(ROW)
    request = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection((url.host, url.port), timeout=60) as connection:
        for _ in range(3):
            connection.sendall(request)
            replies(connection, 1)
        assert connection.recv(1) == b""


def test_requests_that_come_together_are_each_answered_for_themselves(shared_server: Server) -> None:
    url = httpx.URL(shared_server.url)
    bodies = [
        msgspec.json.encode({**ROW, "Start_Hour": n % 24, "id": f"together {n // 2}"}) for n in range(80)
    ]
    wrong = {7: (b"422", b"id"), 30: (b"400", b"not well-formed"), 55: (b"400", b"not well-formed")}
    bodies[7] = msgspec.json.encode({**ROW, "id": ""}).ljust(len(bodies[7]))
    bodies[30] = b"{".ljust(len(bodies[30]), b"x")
    bodies[55] = b'{"Source": "\xff"}'.ljust(len(bodies[55]))
    wanted = shared_server.predict([{**ROW, "Start_Hour": n % 24} for n in range(80)])["predictions"]
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    whole = [head % len(body) + body for body in bodies]
    rows = counter(shared_server, "millrace_predictions_total")
    with contextlib.ExitStack() as stack:
        open_ones = [stack.enter_context(socket.create_connection((url.host, url.port))) for _ in bodies]
        for _ in range(3):
            for connection, request in zip(open_ones, whole, strict=True):
                connection.sendall(request)
            for n, connection in enumerate(open_ones):
                ((top, body),) = replies(connection, 1)
                if n in wrong:
                    assert top.split()[1] == wrong[n][0] and wrong[n][1] in body
                else:
                    found = msgspec.json.decode(body)
                    assert (top.split()[1], found["id"]) == (b"200", f"together {n // 2}")
                    assert found["prediction"] == pytest.approx(wanted[n], rel=1e-9)
        for connection, request in zip(open_ones, whole, strict=True):
            connection.sendall(request)
            connection.close()  # and goes away at once
    until(lambda: counter(shared_server, "millrace_predictions_total") >= rows + 4 * 77, "all to be scored")
    assert counter(shared_server, "millrace_predictions_total") == rows + 4 * 77
    assert shared_server.get("/predictions/together 39")["served"]["features"]["Start_Hour"] == 79 % 24
    assert "Traceback" not in shared_server.log()


def replies(connection: socket.socket, count: int) -> list[tuple[bytes, bytes]]:
    """So many replies from a connection, each as its head and its body."""
    found: list[tuple[bytes, bytes]] = []
    come = b""
    while len(found) < count:
        top, _, body = come.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", top)
        if length is not None and len(body) >= int(length[1]):
            found.append((top, body[: int(length[1])]))
            come = body[int(length[1]) :]
            continue
        more = connection.recv(65536)
        assert more, "the server closed the connection"
        come += more
    assert not come
    return found


def test_a_whole_number_larger_than_any_in_messagepack_is_kept_in_the_ledger(shared_server: Server) -> None:
    name = 10**40
    shared_server.predict([{**ROW, "id": name}, ROW])
    found = shared_server.get(f"/predictions/{name}")["served"]
    assert (found["id"], found["features"]) == (str(name), ROW)


def test_requests_of_either_path_are_counted(shared_server: Server) -> None:
    before = requests(shared_server, 'code="200",route="/predict"')
    rows = counter(shared_server, "millrace_predictions_total")
    for path in ("/predict", "/predict?record=true"):
        shared_server.client.post(path, json=ROW)
    assert requests(shared_server, 'code="200",route="/predict"') == before + 2
    assert counter(shared_server, "millrace_predictions_total") == rows + 2
