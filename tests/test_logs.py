"""Logs: JSON lines or pretty, with request ids, without anybody's data."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.observability.logs import REQUEST, Format, RequestIds, log_to
from tests.support.running import serving, until


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_entry_is_one_json_object_with_its_fields_request_and_trace() -> None:
    stream = io.StringIO()
    log_to(stream, "scorer")
    token = REQUEST.set("r-1")
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log = logging.getLogger("server.http.app")
        log.error("%s failed", "it", exc_info=True, extra={"fields": {"status": 500}})
    finally:
        REQUEST.reset(token)
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["process"], entry["message"]) == ("error", "scorer", "it failed")
    assert (entry["request_id"], entry["status"]) == ("r-1", 500)
    assert "ZeroDivisionError" in entry["exception"]
    assert entry["time"].endswith("+00:00")


@pytest.mark.parametrize(
    ("stream", "form", "pretty"),
    [(Terminal(), "auto", True), (io.StringIO(), "auto", False), (Terminal(), "json", False),
     (io.StringIO(), "pretty", True)],
)  # fmt: skip
def test_lines_are_pretty_in_a_terminal_unless_told_otherwise(
    stream: io.StringIO, form: Format, pretty: bool
) -> None:
    log_to(stream, "learner", form)
    logging.getLogger("online").info("learning", extra={"fields": {"seq": 7}})
    said = stream.getvalue()
    assert said.startswith("{") is not pretty
    assert "learning" in said
    assert ("seq=7" in said) is pretty


def test_what_is_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    log_to(stream, "scorer", level="warning")
    logging.getLogger("online").info("too much")
    assert stream.getvalue() == ""


def test_a_request_keeps_its_callers_name_where_that_can_be_one() -> None:
    ids = RequestIds()
    assert ids.name([(b"host", b"x"), (b"x-request-id", b"abc-1")]) == "abc-1"
    for bad in (b"two words", b'"quoted"', b"", b"x" * 65, b"line\nbreak"):
        assert ids.name([(b"x-request-id", bad)]) != bad.decode()
    assert ids.name([]) != ids.name([])


@pytest.mark.server
def test_requests_are_logged_by_name_and_never_with_values(home: Path) -> None:
    with serving(home, environ={"MILLRACE_SERVER_LOG_LEVEL": "info"}) as server:
        secret = {"Start_Hour": 12, "Source": "hush-hush", "id": "mine"}
        answer = server.client.post("/predict", json=secret, headers={"X-Request-ID": "r-77"})
        assert answer.headers["x-request-id"] == "r-77"
        assert len(server.client.post("/predict", json=[secret]).headers["x-request-id"]) > 4
        refused = {"Source": "hush-hush", "Production": "much"}
        assert server.client.post("/learn", json=refused, headers={"X-Request-ID": "r-78"}).status_code == 422
        until(lambda: "r-78" in server.log(), "the refusal in the log")
        entries = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
        (entry,) = [one for one in entries if one.get("request_id") == "r-78"]
        assert (entry["route"], entry["status"], entry["process"]) == ("/learn", 422, "scorer")
        assert "hush" not in server.log()
