from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bootstrap.generate import EQUIPMENT_DRIFTS, Generated, generate, generate_stream, write_stream
from online.core.errors import InputError
from online.core.home import Home

COLUMNS = [
    "Date", "Start_Hour", "End_Hour", "Source", "Day_of_Year", "Day_Name", "Month_Name", "Season",
    "Production",
]  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Generated:
    return generate(1, 730)


def frozen_errors(made: Generated) -> pd.Series:
    """Absolute errors of the first half's mean for each source, hour and month, over all rows."""
    keys = ["Source", "Start_Hour", "Month_Name"]
    means = made.frame.iloc[: made.half].groupby(keys)["Production"].mean().rename("guess")
    return (made.frame.join(means, on=keys)["guess"] - made.frame["Production"]).abs()


def test_the_columns_are_those_a_provider_publishes(made: Generated) -> None:
    assert list(made.frame.columns) == COLUMNS
    assert made.frame["Date"].iloc[0] == "2022-01-01"
    assert made.frame["Production"].dtype == np.int64
    assert made.frame["Production"].min() >= 0
    assert not made.frame.isna().any().any()


def test_equal_seeds_give_equal_streams_and_others_do_not() -> None:
    assert generate_stream(3, 20).equals(generate_stream(3, 20))
    assert not generate_stream(3, 20).equals(generate_stream(4, 20))


def test_each_half_is_about_a_year_of_13000_rows(made: Generated) -> None:
    assert made.half == pytest.approx(13_000, abs=300)
    assert len(made.frame) - made.half == pytest.approx(13_000, abs=300)
    assert made.frame["Date"].iloc[made.half] == "2023-01-01"
    assert made.frame["Date"].iloc[made.half - 1] == "2022-12-31"


def test_wind_has_every_hour_and_sunlight_only_the_day(made: Generated) -> None:
    rows = made.frame.groupby(["Date", "Source"]).size().unstack()
    assert (rows["Wind"] == 24).all()
    assert rows["Solar"].between(7, 16).all()
    solar = made.frame[made.frame["Source"] == "Solar"]
    assert not solar["Start_Hour"].isin([0, 1, 2, 3, 22, 23]).any()
    by_hour = solar.groupby("Start_Hour")["Production"].mean()
    assert by_hour.idxmax() in (11, 12, 13)


def test_rows_of_a_day_are_shuffled_and_days_are_in_order(made: Generated) -> None:
    assert made.frame["Date"].is_monotonic_increasing
    day = made.frame[made.frame["Date"] == "2022-06-01"]
    assert not day["Start_Hour"].is_monotonic_increasing
    assert set(day["Source"]) == {"Wind", "Solar"}


def test_wind_is_autocorrelated_and_stronger_in_winter(made: Generated) -> None:
    wind = made.frame.iloc[: made.half].query("Source == 'Wind'").sort_values(["Date", "Start_Hour"])
    assert wind["Production"].autocorr(1) > 0.9
    assert wind["Production"].autocorr(1) > wind["Production"].autocorr(24) > 0.2
    seasons = pd.concat([generate_stream(s, 365).query("Source == 'Wind'") for s in range(5)])
    means = seasons.groupby("Season")["Production"].mean()
    assert means["Winter"] > means["Summer"]


def test_some_readings_are_faulty(made: Generated) -> None:
    wind = made.frame.query("Source == 'Wind'").sort_values(["Date", "Start_Hour"])["Production"]
    repeated = (wind.diff() == 0).mean()
    jumps = (wind.diff().abs() > 6000).mean()
    assert 0.0005 < repeated < 0.02
    assert 0.0005 < jumps < 0.02


@pytest.mark.parametrize("seed", [1, 2, 7])
def test_each_drift_raises_the_error_of_a_frozen_model(seed: int) -> None:
    made = generate(seed, 730)
    errors = frozen_errors(made)
    for row, drift in zip(made.drift_rows, EQUIPMENT_DRIFTS, strict=True):
        ours = made.frame["Source"] == drift.source
        before = errors[ours & (made.frame.index < row) & (made.frame.index >= row - 1000)].mean()
        after = errors[ours & (made.frame.index >= row) & (made.frame.index < row + 1000)].mean()
        assert after > 1.4 * before, drift.what


def test_drifts_are_in_the_second_half_at_the_rows_recorded(made: Generated) -> None:
    first, second = (row - made.half for row in made.drift_rows)
    assert 1300 <= first <= 1700
    assert 6500 <= second <= 7500
    for row, drift in zip(made.drift_rows, EQUIPMENT_DRIFTS, strict=True):
        days_in = pd.Timestamp(made.frame["Date"].iloc[row]) - pd.Timestamp("2023-01-01")
        assert days_in.days == drift.day
        assert made.frame["Date"].iloc[row - 1] < made.frame["Date"].iloc[row]


def test_a_short_stream_records_only_the_drifts_it_reaches() -> None:
    assert generate(1, 20).drift_rows == ()
    assert len(generate(1, 120).drift_rows) == 1


def test_the_halves_are_written_apart_and_never_over_others(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_stream(home, 5, 10)
    raw, stream = pd.read_csv(home.data / "raw.csv"), pd.read_csv(home.data / "stream.csv")
    written = pd.concat([raw, stream], ignore_index=True)
    pd.testing.assert_frame_equal(written, generate_stream(5, 10), check_dtype=False)
    assert raw["Date"].max() < stream["Date"].min()
    (home.data / "raw.csv").unlink()
    with pytest.raises(InputError, match=r"stream\.csv exists"):
        write_stream(home, 5, 10)
    assert not (home.data / "raw.csv").exists()


def test_a_stream_of_one_day_is_refused() -> None:
    with pytest.raises(InputError, match="2 days"):
        generate(1, 1)
