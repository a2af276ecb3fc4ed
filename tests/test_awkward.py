"""Streams with awkward columns, from their CSV to a served and learned prediction."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bootstrap.bootstrap_command import bootstrap
from bootstrap.reading.split import read_frame
from online.core.errors import InputError, SchemaError
from online.core.home import Home
from online.scoring.plan import ScoringPlan
from online.storage.snapshot import SnapshotStore
from tests.support.running import serving

TARGET = 'y "z".w'


def write(home: Path, columns: list[str], rows: int = 60) -> Home:
    """A raw.csv whose cells are numbers, the last column the target."""
    found = Home(home).create()
    with (found.data / "raw.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for i in range(rows):
            writer.writerow([(i * k) % (2 * k + 5) + 0.5 for k in range(3, 3 + len(columns))])
    return found


def boot(home: Home, target: str) -> Any:
    """`millrace bootstrap`."""
    return CliRunner().invoke(bootstrap, ["--home", str(home.root), "--target", target])


@pytest.mark.server
def test_columns_of_any_name_are_bootstrapped_served_documented_and_learned(tmp_path: Path) -> None:
    names = ["a.b", "c d", 'e"f', "ü π", "back\\slash", "new\nline", "target", "context:level"]
    home = write(tmp_path / "home", [*names, TARGET])
    assert boot(home, TARGET).exit_code == 0
    row = dict.fromkeys(names, 2.5)
    with serving(home.root) as server:
        assert "imputed" not in server.predict(row)
        paths = server.get("/docs/openapi.json")["paths"]
        for path, extra in (("/predict", {"id"}), ("/learn", {"id", TARGET})):
            body = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"][0]
            assert set(body["properties"]) == set(names) | extra
        assert server.learn({**row, TARGET: 3.0}, wait=True)["seq"] == 1


def test_columns_named_as_encoded_ones_are_told_apart(tmp_path: Path) -> None:
    home = write(tmp_path / "home", ["hour", "hour:sin", "hour:cos", "context:level", "y"], 96)
    lines = (home.data / "raw.csv").read_text().splitlines()
    hours = [f"{i % 24},{line.partition(',')[2]}" for i, line in enumerate(lines[1:])]
    (home.data / "raw.csv").write_text("\n".join([lines[0], *hours]) + "\n")
    result = boot(home, "y")
    assert result.exit_code == 0, result.output
    row = {"hour": 3, "hour:sin": 4.5, "hour:cos": 2.5, "context:level": 1.5}
    expected = SnapshotStore(home.models).load(1).pipeline.predict_one(row)
    assert ScoringPlan.load(home.plan).score_row(row) == pytest.approx(expected, rel=1e-9)


def test_a_csv_without_any_feature_gives_a_model_of_the_past_labels(tmp_path: Path) -> None:
    home = write(tmp_path / "home", ["y"])
    result = boot(home, "y")
    assert result.exit_code == 0, result.output
    assert math.isfinite(ScoringPlan.load(home.plan).score_row({}))


def test_a_target_named_id_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    home = write(tmp_path / "home", ["a", "id"])
    result = boot(home, "id")
    assert isinstance(result.exception, SchemaError) and "rename" in str(result.exception)
    assert not home.config.exists()


def test_rows_with_more_cells_than_the_header_are_refused_not_shifted(tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("a,b\n1,2,3\n4,5,6\n")
    with pytest.raises(InputError, match="cannot be read as CSV"):
        read_frame(tmp_path / "raw.csv")
