import gzip
import hashlib
import http.server
import io
import json
import random
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from bootstrap.sources.fetch import Fetched, FetchLimits, fetch
from online.core.errors import FetchError

CSV = b"Date,Production\n2020-01-01,5\n2020-01-02,7\n"
ROWS = [{"b": 1, "a": "x, y"}, {"a": None, "c": 2.5, "b": True}]

Answer = tuple[int, dict[str, str], bytes]


class Endpoint:
    """A local HTTP server that gives the answers it is told, one a request, the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked = 0
        handler = type("Handler", (Handler,), {"endpoint": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/rows"

    def will(self, *answers: tuple[int, bytes] | Answer) -> None:
        self.answers = [a if len(a) == 3 else (a[0], {}, a[1]) for a in answers]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    endpoint: Endpoint

    def do_GET(self) -> None:
        self.endpoint.asked += 1
        answers = self.endpoint.answers
        status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
        if status == 0:  # hang up without an answer
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    running = Endpoint()
    yield running
    running.close()


class Naps:
    """Stands in for sleeping, and remembers for how long."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def get(endpoint: Endpoint, to: Path, **options: Any) -> Fetched:
    limits: dict[str, Any] = {"sleep": Naps(), "jitter": random.Random(1)}
    limits |= {name: options.pop(name) for name in FetchLimits._fields if name in options}
    return fetch(endpoint.url, to, limits=FetchLimits(**limits), **options)


def test_a_csv_is_written_as_it_came(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.will((200, CSV))
    came = get(endpoint, tmp_path / "data" / "raw.csv")
    assert (tmp_path / "data" / "raw.csv").read_bytes() == CSV
    assert came == Fetched(2, hashlib.sha256(CSV).hexdigest())


@pytest.mark.parametrize("wrapped", [False, True])
def test_json_rows_become_a_csv_whose_columns_keep_their_order(
    endpoint: Endpoint, tmp_path: Path, wrapped: bool
) -> None:
    endpoint.will((200, json.dumps({"data": ROWS, "total": 2} if wrapped else ROWS).encode()))
    assert get(endpoint, tmp_path / "raw.csv").rows == 2
    frame = pd.read_csv(tmp_path / "raw.csv")
    assert list(frame.columns) == ["b", "a", "c"]
    assert frame["a"].iloc[0] == "x, y"
    assert frame.isna().to_numpy().tolist() == [[False, False, True], [False, True, False]]


def test_flaky_answers_are_tried_again_with_growing_jittered_waits(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.will((503, b""), (0, b""), (500, b"oops"), (200, CSV))
    naps = Naps()
    assert get(endpoint, tmp_path / "raw.csv", sleep=naps).rows == 2
    assert endpoint.asked == 4
    for wait, middle in zip(naps.seconds, (0.5, 1.0, 2.0), strict=True):
        assert 0.5 * middle <= wait <= 1.5 * middle
        assert wait != middle


def test_a_body_cut_short_is_tried_again(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.will((200, {"Content-Length": "999"}, CSV), (200, CSV))
    assert get(endpoint, tmp_path / "raw.csv").rows == 2


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_obeyed(endpoint: Endpoint, tmp_path: Path, as_date: bool) -> None:
    asked = formatdate(0, usegmt=True) if as_date else "7"
    endpoint.will((429, {"Retry-After": asked}, b""), (200, CSV))
    naps = Naps()
    get(endpoint, tmp_path / "raw.csv", sleep=naps)
    assert naps.seconds == [0.0 if as_date else 7.0]


def test_a_server_that_asks_for_an_hour_is_given_up(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.will((429, {"Retry-After": "3600"}, b""))
    naps = Naps()
    with pytest.raises(FetchError, match="429"):
        get(endpoint, tmp_path / "raw.csv", sleep=naps)
    assert naps.seconds == []


def test_the_last_attempt_says_what_came(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.will((502, b""))
    with pytest.raises(FetchError, match=r"3 attempts.*502"):
        get(endpoint, tmp_path / "raw.csv", attempts=3)
    assert endpoint.asked == 3


def test_no_server_is_an_error_after_the_attempts(tmp_path: Path) -> None:
    gone = Endpoint()
    gone.close()
    with pytest.raises(FetchError, match=r"2 attempts.*Connect"):
        get(gone, tmp_path / "raw.csv", attempts=2)


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_refusal_is_not_tried_again(endpoint: Endpoint, tmp_path: Path, status: int) -> None:
    endpoint.will((status, b"no"))
    with pytest.raises(FetchError, match=str(status)):
        get(endpoint, tmp_path / "raw.csv")
    assert endpoint.asked == 1


def test_a_right_checksum_passes_and_a_wrong_one_keeps_the_old_file(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.will((200, CSV))
    right = hashlib.sha256(CSV).hexdigest()
    assert get(endpoint, tmp_path / "raw.csv", sha256=right.upper()).sha256 == right
    (tmp_path / "raw.csv").write_text("old")
    with pytest.raises(FetchError, match=right):
        get(endpoint, tmp_path / "raw.csv", sha256="0" * 64)
    assert (tmp_path / "raw.csv").read_text() == "old"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no CSV"),
        (b"<html><body>Sign in</body></html>", "HTML"),
        (b"just a sentence\n", "no CSV"),
        (b"a,b\n", "at least one row"),
        (b"a,b\n1,2,3\n", "3 cells"),
        (b'a,b\n"1,2', "no readable CSV"),
        (b"\xff\xfe\x00junk\x9d", "UTF-8"),
        (b"[1, 2]", "array of objects"),
        (b'{"rows": []}', "array of objects"),
        (b"[]", "no rows"),
        (b'[{"a": 1}', "no readable JSON"),
        (b'[{"a": {"b": 1}}]', "'a'"),
    ],
)
def test_junk_is_named_and_not_written(endpoint: Endpoint, tmp_path: Path, body: bytes, said: str) -> None:
    endpoint.will((200, body))
    with pytest.raises(FetchError, match=said):
        get(endpoint, tmp_path / "raw.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_body_over_the_limit_is_refused_also_when_compressed(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.will(
        (
            200,
            {"Content-Encoding": "gzip"} | length(gzip.compress(CSV * 5000, mtime=0)),
            gzip.compress(CSV * 5000, mtime=0),
        )
    )
    with pytest.raises(FetchError, match="1000 bytes"):
        get(endpoint, tmp_path / "raw.csv", max_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def length(body: bytes) -> dict[str, str]:
    return {"Content-Length": str(len(body))}


def test_redirects_are_followed(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.will((302, {"Location": "/elsewhere"}, b""), (200, CSV))
    assert get(endpoint, tmp_path / "raw.csv").rows == 2


@pytest.mark.parametrize("url", ["ftp://example.org/x", "example.org/x", "http://[broken"])
def test_an_address_that_is_none_is_an_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(FetchError):
        fetch(url, tmp_path / "raw.csv", limits=FetchLimits(sleep=Naps()))


def test_the_progress_bar_counts_bytes(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.will((200, CSV))
    out = io.StringIO()
    get(endpoint, tmp_path / "raw.csv", console=Console(file=out, force_terminal=True, width=100))
    assert f"{len(CSV)}/{len(CSV)} bytes" in out.getvalue()
