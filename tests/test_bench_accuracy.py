"""The accuracy benchmark, short: one generated stream, few rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bootstrap.generate import generate_stream
from scripts.bench import bench_accuracy
from scripts.bench.accuracy_peers import Forecast
from scripts.bench.accuracy_report import measured
from scripts.bench.accuracy_stream import Stream, arrivals, inferred, naive_forecasts, prepare

ENTRY = {"target": "Production", "drop": [], "key": ["Source"], "bootstrap_rows": 400}
MODELS = ("millrace", "persistence", "HATR")


@pytest.fixture(scope="module")
def stream() -> Stream:
    frame = generate_stream(seed=5, days=30)
    return prepare(frame, ENTRY, inferred(frame, ENTRY, "generated"), 24, 60)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = generate_stream(seed=5, days=30)
    monkeypatch.setattr(bench_accuracy, "real_streams", lambda: None)
    monkeypatch.setattr(bench_accuracy, "read_stream", lambda folder, name: (frame, ENTRY))


def invoke(tmp_path: Path, *models: str) -> str:
    arguments = ["--rows", "60", "--delay", "24", "--figures", str(tmp_path / "a.json")]
    arguments += ["--document", str(tmp_path / "b.md"), "--plots", str(tmp_path / "plots")]
    for model in models:
        arguments += ["--model", model]
    result = CliRunner().invoke(bench_accuracy.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return (tmp_path / "b.md").read_text()


@pytest.mark.usefixtures("small")
def test_the_benchmark_measures_what_is_served_beside_its_peers_and_goes_on_where_it_stopped(
    tmp_path: Path,
) -> None:
    invoke(tmp_path, "persistence")
    first = json.loads((tmp_path / "a.json").read_text())["pairs"]["generated, 24"]
    section = invoke(tmp_path, *MODELS)
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
