"""The challenge as one command: fetch, train, serve, ask for labels, learn, a new version, a report."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap.generate import generate_stream
from tests.support.fake_api import serving
from tests.support.rows import TARGET

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


class Organisers:
    """Hands out the first rows, and the label of any row."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.first = rows[:600]
        self.asked = [{name: row[name] for name in row if name not in ("Date", TARGET)} for row in rows]
        pairs = zip(self.asked, rows, strict=True)
        self.labels = {json.dumps(row, sort_keys=True): full[TARGET] for row, full in pairs}

    def answer(self, _path: str, _query: dict[str, int]) -> tuple[int, Any]:
        return 200, self.first

    def post(self, _path: str, body: Any, _key: str) -> tuple[int, Any]:
        return 200, [{TARGET: self.labels.get(json.dumps(row, sort_keys=True))} for row in body]


@pytest.fixture
def organisers(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An endpoint with data and labels, and the rows to come in a file."""
    api = Organisers(json.loads(generate_stream(seed=3, days=40).to_json(orient="records")))
    coming = tmp_path / "coming.json"
    coming.write_text(json.dumps(api.asked[600:840]))
    with serving(api) as url:
        yield url, coming


@pytest.mark.slow
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
