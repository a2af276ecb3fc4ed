"""``millrace score``: files of rows in, the same files with predictions out, whole or not at all."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from millrace import millrace
from online.core.errors import InputError
from online.core.home import Home
from online.scoring.plan import ScoringPlan
from tests.support.running import Server


def score(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(millrace, ["score", *map(str, arguments)])


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def refused(*arguments: object) -> InputError:
    """The error of a call that is refused."""
    error = score(*arguments).exception
    assert isinstance(error, InputError), error
    return error


def test_a_csv_keeps_its_columns_and_gets_what_the_plan_gives(trained_home: Path, tmp_path: Path) -> None:
    source, result = trained_home / "data" / "stream.csv", tmp_path / "out.csv"
    assert score(source, result, "--home", trained_home, "--rows", 100).exit_code == 0
    before, after = rows_of(source), rows_of(result)
    assert [{k: row[k] for k in before[0]} for row in after] == before
    assert list(after[0]) == [*before[0], "prediction", "lower", "upper"]
    plan = ScoringPlan.load(Home(trained_home).plan)
    for row, scored in list(zip(before, after, strict=True))[::50]:
        assert float(scored["prediction"]) == pytest.approx(plan.score_row(row), rel=1e-9)
        assert float(scored["lower"]) < float(scored["prediction"]) < float(scored["upper"])


def test_ndjson_becomes_csv_and_back(trained_home: Path, tmp_path: Path) -> None:
    source, middle, result = (tmp_path / name for name in ("in.ndjson", "middle.csv", "out.jsonl"))
    source.write_text('{"Start_Hour": 3, "id": "a"}\n\n{"Start_Hour": null, "Source": "Wind", "id": "a"}\n')
    assert score(source, middle, "--home", trained_home).exit_code == 0
    (first, second) = rows_of(middle)
    assert (first["id"], second["Start_Hour"]) == ("a", "")
    renamed = middle.read_text().replace("prediction,lower,upper", "p,l,u")
    middle.write_text(renamed)
    assert score(middle, result, "--home", trained_home).exit_code == 0
    again = [json.loads(line) for line in result.read_text().splitlines()]
    assert again[0]["prediction"] == pytest.approx(float(first["prediction"]))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("in.csv", "Source,Start_Hour\nWind,1\nWind,1,2\n", "row 1"),
        ("in.ndjson", '{"Source": "Wind"}\n[1]\n', "row 1"),
        ("in.ndjson", '{"Source": "Wind"}\n{"Source": \n', "row 1"),
        ("in.csv", "Source,prediction\nWind,1\n", "'prediction'"),
        ("in.xls", "", ".csv"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_told_and_leaves_the_old_result(
    trained_home: Path, tmp_path: Path, name: str, content: str, told: str
) -> None:
    source, result = tmp_path / name, tmp_path / "out.csv"
    source.write_text(content)
    result.write_text("as it was")
    assert told in str(refused(source, result, "--home", trained_home, "--rows", 1))
    assert result.read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out.csv"])


def test_a_missing_file_and_a_missing_package_are_told(trained_home: Path, tmp_path: Path) -> None:
    assert "cannot be read" in str(refused(tmp_path / "no.csv", tmp_path / "out.csv", "--home", trained_home))
    source = tmp_path / "in.csv"
    source.write_text("Source\nWind\n")
    try:
        import pyarrow  # noqa: F401 - whether it is there
    except ImportError:
        told = str(refused(source, tmp_path / "out.parquet", "--home", trained_home))
        assert "pip install pyarrow" in told


def test_through_a_server_the_rows_get_ids_that_labels_can_go_by(
    shared_server: Server, tmp_path: Path
) -> None:
    source, result = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("Source,Start_Hour\nWind,1\nSolar,13\n")
    assert score(source, result, "--url", shared_server.url).exit_code == 0
    for row in rows_of(result):
        found = shared_server.get(f"/predictions/{row['id']}")["served"]
        assert found["prediction"] == float(row["prediction"])
    source.write_text("id,Source\na,Wind\nb,Wind\n" + "x" * 300 + ",Wind\n")
    error = refused(source, result, "--url", shared_server.url, "--rows", 2)
    assert (error.field, error.index) == ("id", 2)
