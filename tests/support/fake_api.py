"""A server that answers what a test wants, and the monitor of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from server.monitor.monitor_process import ListenAddress, serve_monitor

NOW = 1_770_000_000.0
ROWS = 3000
DRIFT = 1600
FEATURES = [
    {"name": "Start_Hour", "kind": "cyclic", "used": True, "period": 24.0, "low": 0.0, "high": 23.0},
    {"name": "Source", "kind": "category", "used": True, "values": ["Solar", "Wind"]},
    {"name": "Wind_Speed", "kind": "numeric", "used": True, "low": 0.0, "high": 25.0},
]


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
        "naive_mae": rolling(1.7 * frozen),
        "coverage": rolling((np.abs(truth - prediction) <= half).astype(float)),
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
    admin_key: str = ""
    broken: frozenset[str] = frozenset()
    alarms: list[dict[str, Any]] = field(default_factory=list)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    scored: float = 1000.0
    asked: int = 0
    posted: list[tuple[str, Any, str]] = field(default_factory=list)

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
            "/quarantine": lambda: {"quarantined": self.quarantined},
            "/weights": self.weights,
            "/errors": self.errors,
            "/metrics": self.metrics,
        }
        return (200, content[path]()) if path in content else (404, {"detail": "no such route"})

    def post(self, path: str, body: Any, key: str) -> tuple[int, Any]:
        """Carry out an order when it comes with the right key."""
        self.posted.append((path, body, key))
        if path == "/predict":
            n = len(body)
            return 200, {
                "predictions": [100.0 + i for i in range(n)],
                "lower": [90.0 + i for i in range(n)],
                "upper": [110.0 + i for i in range(n)],
                "ids": [str(i) for i in range(n)],
                "drifted": [False] * n,
                "model_version": 5,
                "learned_seq": 3000,
            }
        if self.admin_key and key != f"Bearer {self.admin_key}":
            return 401, {"title": "Unauthorized", "detail": "an admin call needs the key"}
        if path == "/snapshots/rollback":
            version = len(self.snapshots) + 1
            self.snapshots.insert(0, snapshot(version, ROWS, "rollback", 300.0, parent=body["version"]))
            return 201, {"seq": ROWS + 1, "version": version, "parent": body["version"]}
        self.quarantined[0]["released_as"] = 3001
        return 202, {"seq": 3001}

    def weights(self) -> dict[str, Any]:
        seq = [int(s) for s in self.outcomes["seq"][::50]]
        slow = [0.2 + 0.6 * i / max(1, len(seq)) for i in range(len(seq))]
        shares = [slow, *([(1 - w) / 9 for w in slow] for _ in range(9))]
        return {"seq": seq, "experts": ["slow", *(f"expert {i}" for i in range(9))], "weights": shares}

    def errors(self) -> dict[str, Any]:
        some = len(self.outcomes["seq"]) > 0
        field = [[100.0 + 10 * s + 500 * k if some and s != 3 else None for s in range(24)] for k in range(2)]
        return {
            "key": "Source",
            "keys": ["Solar", "Wind"],
            "slot": "Start_Hour",
            "slots": [str(hour) for hour in range(24)],
            "mae": field,
            "bias": field,
            "n": [[60 if some else 0] * 24] * 2,
            "delay_edges": [1.0, 60.0, 3600.0, 86400.0, 864000.0],
            "delay_counts": [0, 20, 900, 80] if some else [0] * 4,
        }

    def metrics(self) -> str:
        self.scored += 120
        name = "millrace_request_duration_seconds_bucket"
        shares = {"0.001": 0.5, "0.0025": 0.98, "0.005": 1.0, "+Inf": 1.0}
        lines = [f"millrace_predictions_total {self.scored}"]
        for edge, share in shares.items():
            lines.append(f'{name}{{route="/predict",code="200",le="{edge}"}} {self.scored * share}')
        return "\n".join(["# TYPE millrace_predictions_total counter", *lines, ""])

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
            "interval": {"coverage": 0.9},
            "experts": [],
            "features": FEATURES,
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
    label = {"id": "p7", "target": 9e9, "received_at": NOW - 60, "features": {}}
    aside = [{"seq": 1, "reason": "lies outside the plausible range", "record": label, "released_as": None}]
    return FakeApi(alarms=alarms, snapshots=snapshots, quarantined=aside)


def empty_api() -> FakeApi:
    return FakeApi(outcomes=played(0), waiting=0, snapshots=[snapshot(1, 0, "bootstrap", None)])


@contextmanager
def serving(api: Any, port: int = 0) -> Iterator[str]:
    """An API over HTTP: its ``answer`` to every GET, what its ``post`` says of every POST's JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            pairs = (pair.split("=") for pair in query.split("&") if pair)
            self.reply(*api.answer(path, {name: int(value) for name, value in pairs}))

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            key = self.headers.get("Authorization", "")
            self.reply(*api.post(self.path.partition("?")[0], json.loads(sent or b"null"), key))

        def reply(self, status: int, content: Any) -> None:
            body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
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
    """The monitor on a socket bound by somebody else, as the supervisor does it; never patient."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        arguments = (api_url, ListenAddress("127.0.0.1", port, listening.fileno()), stop)
        thread = threading.Thread(target=serve_monitor, args=arguments, kwargs={"patience": 0})
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
