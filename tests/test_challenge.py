"""The challenge as one command: fetch, train, serve, ask for labels, learn, a new version, a report."""

from __future__ import annotations

import csv
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap.generate import generate_stream
from tests.rows import TARGET

ROOT = Path(__file__).parents[1]
TRAFFIC = """
import json, sys, urllib.request
rows = json.load(open(sys.argv[1]))
for start in range(0, len(rows), 24):
    body = json.dumps(rows[start:start + 24]).encode()
    asked = urllib.request.Request(sys.argv[2] + "/predict", body, {"Content-Type": "application/json"})
    assert len(json.load(urllib.request.urlopen(asked))["predictions"]) == len(rows[start:start + 24])
print(json.dumps({"rows": len(rows)}))
"""


@pytest.fixture
def organisers(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An endpoint with data and labels, and the rows to come in a file."""
    frame = generate_stream(seed=3, days=40)
    rows = json.loads(frame.to_json(orient="records"))
    asked = [{name: value for name, value in row.items() if name not in ("Date", TARGET)} for row in rows]
    labels = {json.dumps(row, sort_keys=True): full[TARGET] for row, full in zip(asked, rows, strict=True)}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(rows[:600])

        def do_POST(self) -> None:
            wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply([{TARGET: labels.get(json.dumps(row, sort_keys=True))} for row in wanted])

        def reply(self, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    coming = tmp_path / "coming.json"
    coming.write_text(json.dumps(asked[600:840]))
    yield f"http://127.0.0.1:{server.server_port}", coming
    server.shutdown()
    server.server_close()


def test_all_phases_run_by_one_command(organisers: tuple[str, Path], tmp_path: Path) -> None:
    endpoint, coming = organisers
    script, home, out = tmp_path / "traffic.py", tmp_path / "race", tmp_path / "report.json"
    script.write_text(TRAFFIC)
    done = subprocess.run(
        [sys.executable, "-m", "scripts.challenge", "--home", str(home), "--endpoint", endpoint,
         "--traffic", f"{sys.executable} {script} {coming} {{url}}", "--share", "0.25", "--every", "48",
         "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["played"] == {"rows": 240} and report["model_version"] == 2
    assert 0 < report["labels_learned"] <= 60
    with (home / "data" / "labeled_drift.csv").open(newline="") as file:
        labelled = list(csv.DictReader(file))
    assert len({row["id"] for row in labelled}) == len(labelled) == report["labels_learned"]
    assert (home / "models" / "model_v2.pkl").exists() and (home / "data" / "raw.csv").exists()
