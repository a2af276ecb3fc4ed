"""Requests that the fast path hands on to Litestar's routes: answered in full, and counted with a reason."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from online.core import config as configuration
from online.core.home import Home
from server.http.app import create_app
from server.http.service import Service
from server.http.uvicorn_protocol import ShortcutProtocol
from tests.support.rows import TARGET, stream_rows
from tests.support.running import until

JSON = {"content-type": "application/json"}

# pyproject.toml bounds Litestar below the release that ends what these warn of
pytestmark = pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")


@contextlib.contextmanager
def one_scorer(home: Path) -> Iterator[httpx.Client]:
    """A client, of one connection, of a scorer in a thread of this process, where a test can break it."""
    where = Home(home)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = uvicorn.Config(
            create_app(where, configuration.load(where.config)),
            lifespan="on",
            http=ShortcutProtocol,
            log_config=None,
        )
        scorer = uvicorn.Server(settings)
        thread = threading.Thread(target=scorer.run, args=([listener],))
        thread.start()
        try:
            until(lambda: scorer.started, "the scorer to start")
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=url, timeout=60, limits=httpx.Limits(max_connections=1)) as client:
                yield client
        finally:
            scorer.should_exit = True
            thread.join(60)


@pytest.fixture
def client(home: Path) -> Iterator[httpx.Client]:
    with one_scorer(home) as found:
        yield found


def fallbacks(client: httpx.Client) -> dict[tuple[str, str], float]:
    """How many requests were handed on, by route and reason; those that are not 0."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    (family,) = [one for one in families if one.name == "millrace_fast_path_fallbacks"]
    counts = [sample for sample in family.samples if sample.name.endswith("_total")]
    return {(one.labels["route"], one.labels["reason"]): one.value for one in counts if one.value}


@pytest.mark.slow
def test_every_fallback_is_counted_with_its_reason(client: httpx.Client, home: Path) -> None:
    (row,), (label,) = stream_rows(home, 1)
    limit = configuration.load(Home(home).config).server.max_body_bytes
    plain: list[tuple[str, Any]] = [
        ("/predict", row),
        ("/predict", [row]),
        ("/learn", {**row, TARGET: label}),
    ]
    for path, content in plain * 2:  # the second time their heads are known
        assert client.post(path, json=content).status_code in (200, 202)
    assert fallbacks(client) == {}
    asked: list[tuple[str, str, int, dict[str, Any]]] = [
        ("/predict", "query", 200, {"params": {"record": "false"}, "json": row}),
        ("/learn", "query", 202, {"params": {"wait": "0"}, "json": {**row, TARGET: label}}),
        ("/predict", "headers", 200, {"headers": {"accept": "application/msgpack"}, "json": row}),
        ("/predict", "size", 413, {"headers": JSON, "content": b" " * (limit + 1)}),
        ("/predict", "content", 400, {"headers": JSON, "content": b"{"}),
        ("/learn", "content", 400, {"json": [1, 2]}),
        ("/predict", "refused", 422, {"json": {**row, "id": ""}}),
        ("/learn", "refused", 422, {"json": row}),
    ]
    expected: dict[tuple[str, str], float] = {}
    for path, reason, status, request in asked:
        for _ in range(2):
            assert client.post(path, **request).status_code == status, reason
            expected[path, reason] = expected.get((path, reason), 0.0) + 1.0
    assert fallbacks(client) == expected


def test_a_bad_request_with_a_known_head_is_answered_as_one_with_a_new_head(
    client: httpx.Client, home: Path
) -> None:
    (row,), (label,) = stream_rows(home, 1)
    for path, good, bad in (
        ("/predict", {**row, "id": "a"}, {**row, "id": 1.5}),
        ("/learn", {**row, TARGET: label}, {**row, TARGET: "x"}),
    ):
        size = max(len(str(content)) for content in (good, bad)) + 20
        bodies = [httpx.Request("POST", "/", json=content).content.ljust(size) for content in (good, bad)]
        fresh = client.post(path, content=bodies[1], headers={**JSON, "x-other": "head"})
        assert client.post(path, content=bodies[0], headers=JSON).is_success
        assert client.post(path, content=bodies[0], headers=JSON).is_success
        known = client.post(path, content=bodies[1], headers=JSON)
        assert known.status_code == fresh.status_code == 422
        assert known.json() == fresh.json()


@pytest.mark.parametrize("path", ["/predict", "/learn"])
def test_what_nobody_foresaw_is_answered_500_and_is_tried_by_no_more_than_the_full_route(
    client: httpx.Client, home: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,), (label,) = stream_rows(home, 1)
    content = {**row, TARGET: label}
    for _ in range(2):
        assert client.post(path, json=content).is_success
    calls = []

    def fail(*_: Any, **__: Any) -> None:
        calls.append(path)
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(Service, path.removeprefix("/"), fail)
    reply = client.post(path, json=content)
    assert reply.status_code == 500
    assert reply.headers["content-type"] == "application/problem+json"
    assert fallbacks(client) == {(path, "failed"): 1.0}
    # labels may have been kept by the first call, a row is scored again
    assert len(calls) == (1 if path == "/learn" else 2)
    monkeypatch.undo()
    assert client.post(path, json=content).is_success
