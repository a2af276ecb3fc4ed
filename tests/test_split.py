import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bootstrap.reading.split import read_frame, split_rows, write_split
from online.core.errors import InputError
from online.core.home import Home


def test_the_last_rows_are_kept_for_validation() -> None:
    train, validation = split_rows(pd.DataFrame({"y": range(10)}))
    assert list(train["y"]) == list(range(8))
    assert list(validation["y"]) == [8, 9]
    assert list(validation.index) == [0, 1]


@pytest.mark.parametrize(
    ("rows", "fraction", "last"), [(2, 0.01, 1), (2, 0.99, 1), (3, 0.99, 2), (7, 0.5, 3)]
)
def test_both_parts_get_rows(rows: int, fraction: float, last: int) -> None:
    train, validation = split_rows(pd.DataFrame({"y": range(rows)}), fraction)
    assert len(train) + len(validation) == rows
    assert len(train) >= 1
    assert len(validation) == last


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="fraction") as caught:
        split_rows(pd.DataFrame({"y": range(10)}), fraction)
    assert caught.value.field == "fraction"


def test_one_row_cannot_be_split() -> None:
    with pytest.raises(InputError, match="1 usable rows"):
        split_rows(pd.DataFrame({"y": [1]}))


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=500) * 10.0 ** rng.integers(-12, 12, 500),
            "site": rng.choice(["NA", "None", "a,b", 'say "x"', "é\nü"], 500),
            "n": np.where(rng.random(500) < 0.1, np.nan, 3.0),
        }
    )
    home = Home(tmp_path / "home")
    write_split(home, *split_rows(frame, 0.3))
    parts = [read_frame(home.data / f"{name}.csv") for name in ("train", "validation")]
    pd.testing.assert_frame_equal(
        pd.concat(parts, ignore_index=True), frame, check_exact=True, check_dtype=False
    )


def test_a_compressed_file_reads_the_same(tmp_path: Path) -> None:
    text = b"a,y\nNA,1\n,2\nN/A,3\n"
    (tmp_path / "x.csv").write_bytes(text)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(text))
    plain = read_frame(tmp_path / "x.csv")
    pd.testing.assert_frame_equal(plain, read_frame(tmp_path / "x.csv.gz"))
    assert plain["a"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.csv", None),
        ("empty.csv", b""),
        ("torn.csv.gz", gzip.compress(b"a,b\n1,2\n" * 999, mtime=0)[:40]),
        ("fake.csv.gz", b"a,b\n1,2\n"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3,4\n"),
        ("latin.csv", "a,b\nÄ,ö\n".encode("latin-1")),
    ],
)
def test_a_file_that_is_no_csv_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_frame(tmp_path / name)


def test_a_repeated_column_name_is_named_and_nameless_columns_are_not_repeats(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('\n"a, b",c,"a, b"\n1,2,3\n')
    with pytest.raises(InputError, match=r"x\.csv: column 'a, b' is named twice"):
        read_frame(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text(",c,,a.1\n0,2,3,4\n")
    assert list(read_frame(tmp_path / "x.csv")["c"]) == [2]
