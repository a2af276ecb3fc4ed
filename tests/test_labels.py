"""Labels wanted: which, why, and that they are asked for once, kept once and learned, whatever the
endpoint does."""

from __future__ import annotations

import csv
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootstrap.sources.label_endpoint import LabelEndpoint
from online.core.errors import InputError
from online.core.schema import Feature, Schema, Target
from online.features.segments import Segments
from online.labels.label_queries import RANDOM, choose_queries
from online.storage.served_predictions import Served
from tests.support.rows import TARGET, stream_rows
from tests.support.running import Server, serving

SLOTS = Segments(Schema("made", Target("y"), (Feature("site", "category", values=("A", "B")),)))
ROOT = Path(__file__).parents[1]


def served(number: int, width: float = 1.0, site: str = "A", *drifted: str) -> Served:
    return Served(f"p{number}", 0.0, {"site": site}, {}, (1.0, 1.0), 0.0, -width, width, (), drifted, 1, 0)


@given(st.integers(0, 60), st.integers(1, 80), st.floats(0, 1))
def test_no_row_is_wanted_twice_and_the_budget_is_kept(rows: int, budget: int, share: float) -> None:
    found = choose_queries([served(i, 1.0 + i % 7) for i in range(rows)], SLOTS, budget, share)
    assert len({one.id for one in found}) == len(found) == min(budget, rows)
    assert sum(one.reasons == (RANDOM,) for one in found) == round(share * min(budget, rows))


def test_wide_and_drifted_rows_are_wanted_first_and_places_are_spread() -> None:
    rows = [served(i) for i in range(100)]
    rows[10], rows[50] = served(10, 1.0, "A", "wind"), served(50, 1.0, "B")
    first = choose_queries([*rows, served(100, 9.0)], SLOTS, 3, 0.0)
    assert [one.id for one in first] == ["p100", "p50", "p10"]
    assert first[0].reasons == ("wide interval",)
    assert first[2].reasons == ("wind",)


Answer = Callable[[list[dict[str, Any]]], tuple[int, Any]]


@pytest.fixture
def endpoint() -> Iterator[Callable[[Answer], tuple[str, list[int]]]]:
    """Starts a label endpoint; it notes the sizes of what it was asked."""
    servers = []

    def start(answer: Answer) -> tuple[str, list[int]]:
        sizes: list[int] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                rows = json.loads(self.rfile.read(int(self.headers["content-length"])))
                sizes.append(len(rows))
                code, content = answer(rows)
                body = json.dumps(content).encode()
                self.send_response(code)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/labels", sizes

    yield start
    for one in servers:
        one.shutdown()
        one.server_close()


def test_too_many_rows_are_halved_and_failures_tried_again(endpoint: Any) -> None:
    codes = [500, 503]

    def answer(rows: list[dict[str, Any]]) -> tuple[int, Any]:
        if len(rows) > 30:
            return 413, {}
        return (
            (codes.pop(), {}) if codes else (200, {"data": {"rows": [{"label": row["X"]} for row in rows]}})
        )

    url, sizes = endpoint(answer)
    labels = LabelEndpoint(url, "label", path="data.rows", names={"x": "X"}, batch=100, sleep=lambda _: None)
    assert labels.labels([{"x": i} for i in range(100)]) == [float(i) for i in range(25)]
    assert sizes == [100, 50, 25, 25, 25]
    labels.close()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ([{"y": 1.5}, {"y": None}, {"z": 2}], [1.5, None, None]),
        (["2.5", "n/a"], [2.5, None, None]),
        ([True, {"y": 1e999}], [None, None, None]),
    ],
)
def test_partial_and_empty_answers_are_labels_that_are_not_there(
    endpoint: Any, answer: Any, found: list[float | None]
) -> None:
    url, _ = endpoint(lambda _: (200, answer))
    labels = LabelEndpoint(url, "y", sleep=lambda _: None)
    assert labels.labels([{}, {}, {}]) == found
    labels.close()


@pytest.mark.parametrize("answer", [(400, "no"), (200, {"y": 1}), (200, [1, 2, 3, 4]), (500, {}), (413, {})])
def test_an_endpoint_that_cannot_be_used_is_said_to_be_so(endpoint: Any, answer: Any) -> None:
    url, _ = endpoint(lambda _: answer)
    labels = LabelEndpoint(url, "y", attempts=2, sleep=lambda _: None)
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1"):
        labels.labels([{}, {}, {}])
    labels.close()


@pytest.fixture(scope="module")
def server(trained_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = Path(shutil.copytree(trained_home, tmp_path_factory.mktemp("labels") / "home"))
    with serving(home) as running:
        yield running


def asked(server: Server, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "millrace", "request-labels", "--home", str(server.home)]
    return run([*command, "--endpoint", url, *options])


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ, check=False)


@pytest.mark.slow
def test_the_script_is_the_command() -> None:
    by_script = run([sys.executable, str(ROOT / "scripts" / "request_labels.py"), "--help"])
    by_command = run([sys.executable, "-m", "millrace", "request-labels", "--help"])
    assert (by_script.returncode, by_script.stdout) == (0, by_command.stdout)


def test_wanted_labels_are_fetched_kept_and_learned_and_a_broken_round_goes_on(
    server: Server, endpoint: Any
) -> None:
    rows, labels = stream_rows(server.home, 60)
    truth = {json.dumps(row, sort_keys=True): label for row, label in zip(rows, labels, strict=True)}
    server.predict(rows)
    wanted = server.get("/labels/wanted?budget=10&random=0.5")
    assert wanted["unlabelled"] == 60
    assert sum(one["reasons"] == [RANDOM] for one in wanted["wanted"]) == 5
    broken = [True]

    def answer(asked: list[dict[str, Any]]) -> tuple[int, Any]:
        if len(asked) > 8:
            return 413, {}
        if broken and len(asked) < 8:
            return 403, "no more today"
        return 200, [{TARGET: truth.get(json.dumps(row, sort_keys=True))} for row in asked]

    url, _ = endpoint(answer)
    stopped = asked(server, url, "--budget", "12", "--batch", "12")
    assert stopped.returncode == 1
    assert "403" in stopped.stderr
    kept = len(table(server.home))
    assert server.get("/labels/wanted")["unlabelled"] == 60 - kept
    broken.clear()
    finished = asked(server, url, "--budget", "12", "--batch", "12")
    assert finished.returncode == 0, finished.stderr
    assert "labels asked for" in finished.stdout
    learned = table(server.home)
    assert len({row["id"] for row in learned}) == len(learned) == 12
    assert server.get("/model")["journal_seq"] == 12
    assert server.get("/labels/wanted")["unlabelled"] == 48
    assert all(server.get(f"/predictions/{row['id']}")["label"] is not None for row in learned)


def table(home: Path) -> list[dict[str, str]]:
    path = home / "data" / "labeled_drift.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
