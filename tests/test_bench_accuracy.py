"""The accuracy benchmark, short: one generated stream, few rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bootstrap.generate import generate_stream
from tests.support.accuracy_figures import Forecast, measured
from tests.support.accuracy_stream import Stream, arrivals, inferred, naive_forecasts, prepare

ROOT = Path(__file__).parents[1]
ENTRY = {"target": "Production", "drop": [], "key": ["Source"], "bootstrap_rows": 400}
MODELS = ("millrace", "persistence", "HATR")


@pytest.fixture(scope="module")
def stream() -> Stream:
    frame = generate_stream(seed=5, days=30)
    return prepare(frame, ENTRY, inferred(frame, ENTRY, "generated"), 24, 60)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with one small stream, as MILLRACE_STREAMS names one."""
    folder = tmp_path / "streams"
    folder.mkdir()
    generate_stream(seed=5, days=30).to_csv(folder / "generated.csv", index=False)
    entry = ENTRY | {"file": "generated.csv", "delays": [24]}
    (folder / "streams.json").write_text(json.dumps({"generated": entry}))
    return folder


def run(streams: Path, folder: Path, *models: str) -> str:
    command = [sys.executable, "-m", "scripts.bench.bench_accuracy", "--rows", "60", "--delay", "24"]
    command += ["--figures", str(folder / "a.json"), "--document", str(folder / "b.md")]
    command += ["--plots", str(folder / "plots")]
    for model in models:
        command += ["--model", model]
    environ = os.environ | {"MILLRACE_STREAMS": str(streams)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "b.md").read_text()


@pytest.mark.slow
def test_the_benchmark_measures_what_is_served_beside_its_peers_and_goes_on_where_it_stopped(
    small: Path, tmp_path: Path
) -> None:
    run(small, tmp_path, "persistence")
    first = json.loads((tmp_path / "a.json").read_text())["pairs"]["generated, 24"]
    section = run(small, tmp_path, *MODELS)
    pair = json.loads((tmp_path / "a.json").read_text())["pairs"]["generated, 24"]
    assert list(pair["models"]) == ["persistence", "millrace", "HATR"]
    assert pair["models"]["persistence"] == first["models"]["persistence"]  # kept, seconds and all
    assert all(np.isfinite(one["mae"]) and one["rows"] == 60 for one in pair["models"].values())
    assert 0.0 <= pair["models"]["millrace"]["worst_block"] <= pair["models"]["millrace"]["coverage"] <= 1.0
    assert "| generated, 24 | 60 |" in section
    assert "<svg" in (tmp_path / "plots" / "generated_24.svg").read_text()


def test_a_label_arrives_when_it_is_due_and_those_of_the_bootstrap_before_the_first_row_tested() -> None:
    found = [list(labels) for labels in arrivals(8, bootstrap=4, delay=2)]
    assert found == [[], [], [], [0], [1, 2, 3], [], [], [4]]


def test_naive_forecasts_are_labels_that_had_arrived(stream: Stream) -> None:
    for forecast in naive_forecasts(stream).values():
        for place in range(stream.bootstrap + stream.delay + 1, len(stream.rows)):
            assert forecast[place] in stream.targets[: place - stream.delay]


def test_figures_of_a_forecast_are_the_textbook_ones(stream: Stream) -> None:
    truth = stream.targets[stream.bootstrap :]
    figures = measured(Forecast(truth + 2.0, 0.0, truth - 1.0, truth + 1.0), stream)
    assert figures["mae"] == pytest.approx(2.0) == figures["rmse"]
    assert (figures["coverage"], figures["worst_block"]) == (1.0, 1.0)
    assert figures["winkler"] == pytest.approx(2.0)
    missed = measured(Forecast(truth, 0.0, truth + 1.0, truth + 3.0), stream)
    assert missed["coverage"] == 0.0
    assert missed["winkler"] == pytest.approx(2.0 + 20.0)
