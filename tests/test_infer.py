import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bootstrap.generate import generate_stream
from bootstrap.reading.infer import infer_schema, order_rows, schema_table
from online.core.config import Config, dump, load
from online.core.errors import SchemaError
from online.core.schema import Feature, Schema, Target
from online.features.value_encoder import Encoder
from tests.support.streams import described, needs_real_streams, real_rows

ROWS = 240


def infer(drop: tuple[str, ...] = (), **columns: Any) -> dict[str, Feature]:
    return infer_columns(columns, drop)


def infer_columns(columns: dict[str, Any], drop: tuple[str, ...] = ()) -> dict[str, Feature]:
    frame = pd.DataFrame({"y": np.random.default_rng(1).normal(size=ROWS), **columns})
    schema = infer_schema(frame, stream="s", target="y", drop=drop)
    return {feature.name: feature for feature in schema.features}


def cycled(*values: Any) -> list[Any]:
    return [values[(i * i // 3 + i) % len(values)] for i in range(ROWS)]


def repeated(*values: Any) -> list[Any]:
    return [values[i % len(values)] for i in range(ROWS)]


@pytest.mark.parametrize(
    ("name", "values", "period"),
    [
        ("hr", range(24), 24),
        ("StartHour", (0, 6, 12, 18), 24),
        ("anything", range(24), 24),
        ("Day_of_Year", range(1, 200), 365.25),
        ("doy", range(100, 240), 365.25),
        ("mnth", range(1, 13), 12),
        ("Month", (3, 4, 5), 12),
        ("weekday", range(7), 7),
        ("DayOfWeek", range(1, 8), 7),
        ("wind_direction", np.linspace(0, 359.5, 50), 360),
    ],
)
def test_calendar_numbers_are_cyclic(name: str, values: Any, period: float) -> None:
    feature = infer_columns({name: repeated(*values)})[name]
    assert (feature.kind, feature.period) == ("cyclic", period)
    assert feature.reason


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("store_no", range(24), "category"),
        ("store", range(24), "numeric"),
        ("hours_since_rain", range(24), "numeric"),
        ("humidity_past1h", range(24), "numeric"),
        ("is_weekday", (0, 1), "numeric"),
        ("day_of_month", range(1, 13), "numeric"),
        ("rating", range(1, 8), "numeric"),
        ("floor_count", range(1, 6), "numeric"),
        ("weathersit", range(1, 5), "category"),
        ("hour", range(48), "numeric"),
        ("shop_id", (7, 90, 1200), "category"),
        ("pump", (True, False), "numeric"),
        ("price", (1.5, 2.5, 9.0), "numeric"),
    ],
)
def test_other_small_numbers_are_not_cyclic(name: str, values: Any, kind: str) -> None:
    feature = infer_columns({name: cycled(*values)})[name]
    assert feature.kind == kind
    assert feature.reason


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (("monday", "tuesday", "sunday"), "Monday"),
        (("MON", "TUE", "WED", "SUN"), "Mon"),
        (("March", "April", "May"), "January"),
        (("Mar", "Apr", "May", "Sept"), "Jan"),
        (("May", "June", "July"), "January"),
    ],
)
def test_names_of_weekdays_and_months_are_cyclic_in_calendar_order(
    values: tuple[str, ...], first: str
) -> None:
    feature = infer(when=cycled(*values))["when"]
    assert feature.kind == "cyclic"
    assert feature.values[0] == first
    encoder = Encoder((feature,))
    assert not any(encoder.encode({"when": value}).imputed for value in values)


def test_names_that_are_not_all_of_a_calendar_are_categories() -> None:
    features = infer(who=cycled("April", "June", "Otto"), mixed=repeated("Mon", "Monday", "Tue", "Sun"))
    assert [f.kind for f in features.values()] == ["category", "category"]


def test_a_category_keeps_its_fifty_most_frequent_values() -> None:
    names = [f"site {min(i, 70)}" for i in range(ROWS)]
    feature = infer(site=names)["site"]
    assert feature.kind == "category"
    assert len(feature.values) == 50
    assert feature.values[0] == "site 70"
    assert "21 rarer" in feature.reason


def test_a_missing_cell_is_no_category() -> None:
    feature = infer(site=cycled("A", "B", None, ""))["site"]
    assert set(feature.values) == {"A", "B"}


def test_a_code_beside_missing_cells_is_spelled_as_a_whole_number() -> None:
    assert set(infer(store_id=cycled(3.0, 7.0, 9.0, None))["store_id"].values) == {"3", "7", "9"}


def test_dirty_numbers_are_numeric_with_the_range_of_the_clean_ones() -> None:
    cells = [str(i / 4) for i in range(ROWS)]
    cells[5], cells[9], cells[11] = "N/A", "-", "broken"
    feature = infer(flow=cells)["flow"]
    assert (feature.kind, feature.low, feature.high) == ("numeric", 0, (ROWS - 1) / 4)


def test_codes_with_underscores_are_no_numbers() -> None:
    feature = infer(route=repeated("1_21", "12_1", "121"))["route"]
    assert feature.kind == "category"
    assert set(feature.values) == {"1_21", "12_1", "121"}


def test_text_with_a_few_numbers_is_a_category() -> None:
    assert infer(grade=cycled("A", "B", "1"))["grade"].kind == "category"


def test_absurd_values_stay_out_of_the_range_and_are_counted() -> None:
    cells = np.linspace(10, 20, ROWS)
    cells[7], cells[8] = -9999, np.inf
    feature = infer(level=cells)["level"]
    assert (feature.low, feature.high) == (10, 20)
    assert "1 absurd" in feature.reason


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([5] * ROWS, "constant"),
        ([None] * ROWS, "missing"),
        ([f"row {i}" for i in range(ROWS)], "unique"),
        (list(range(1000, 1000 + ROWS)), "counts the rows"),
        ([f"{1 + i % 28}/{1 + i % 12}/2020" for i in range(ROWS)], "ISO 8601"),
    ],
)
def test_useless_columns_are_dropped_with_a_reason(cells: list[object], why: str) -> None:
    feature = infer(column=cells)["column"]
    assert feature.kind == "dropped"
    assert why in feature.reason


def test_a_column_one_to_one_with_an_earlier_one_is_dropped() -> None:
    hours = repeated(*range(24))
    features = infer(Start_Hour=hours, End_Hour=[(int(str(h)) + 1) % 24 for h in hours])
    assert features["Start_Hour"].kind == "cyclic"
    assert features["End_Hour"].kind == "dropped"
    assert "Start_Hour" in features["End_Hour"].reason


def test_measurements_that_never_repeat_are_no_duplicates_unless_equal() -> None:
    cells = np.random.default_rng(2).normal(size=ROWS)
    features = infer(a=cells, b=cells**3, c=cells)
    assert [f.kind for f in features.values()] == ["numeric", "numeric", "dropped"]


def test_a_duplicate_that_fills_gaps_is_kept() -> None:
    sites = cycled("A", "B", "C")
    holed = [None if i % 10 == 0 else site for i, site in enumerate(sites)]
    features = infer(holed=holed, full=sites)
    assert [f.kind for f in features.values()] == ["category", "category"]


def test_the_day_of_the_year_is_no_duplicate_of_the_weekday_in_a_short_stream() -> None:
    when = pd.Series(pd.date_range("2024-03-04", periods=ROWS, freq="h"))
    days = when[when < pd.Timestamp("2024-03-11")]
    frame = pd.DataFrame({"y": range(len(days)), "weekday": days.dt.day_of_week, "doy": days.dt.day_of_year})
    frame["y"] = np.sin(frame["y"])
    kinds = [f.kind for f in infer_schema(frame, stream="s", target="y").features]
    assert kinds == ["cyclic", "cyclic"]


def test_timestamps_give_the_parts_they_resolve() -> None:
    hourly = pd.date_range("2024-01-01", periods=ROWS, freq="h").strftime("%Y-%m-%dT%H:%M:%S+01:00")
    weekly = pd.date_range("2020-01-01", periods=ROWS, freq="7D").strftime("%Y-%m-%d")
    features = infer(hourly=list(hourly), weekly=list(weekly))
    assert features["hourly"].parts == ("hour", "weekday", "yearday")
    assert features["weekly"].parts == ("yearday",)


def test_a_time_column_others_carry_only_orders_the_rows() -> None:
    frame = generate_stream(1, 120)
    features = {f.name: f for f in infer_schema(frame, stream="energy", target="Production").features}
    assert features["Date"].kind == "dropped"
    assert "orders the rows" in features["Date"].reason
    assert features["End_Hour"].kind == "dropped"
    assert features["Source"].values == ("Wind", "Solar")


def test_dropped_on_request_and_copies_of_the_target_are_not_used() -> None:
    frame = pd.DataFrame({"y": np.sin(np.arange(50.0)), "a": np.cos(np.arange(50.0)), "id": range(50)})
    frame["copy"] = frame["y"]
    schema = infer_schema(frame, stream="s", target="y", drop=["a"])
    assert [(f.name, f.kind) for f in schema.features] == [("a", "dropped"), ("copy", "dropped")]
    assert "target" in schema.features[1].reason


@pytest.mark.parametrize(
    ("frame", "drop", "said"),
    [
        (pd.DataFrame({"a": [1], "b": [2]}), (), r"'y'.*a, b"),
        (pd.DataFrame({"y": ["x", "z"], "a": [1, 2]}), (), r"'y'.*'x'.*numbers are in a"),
        (pd.DataFrame({"y": [None, None], "a": [1, 2]}), (), r"'y'.*missing"),
        (pd.DataFrame({"y": [], "a": []}), (), r"'y'.*no rows.*y, a"),
        (pd.DataFrame({"y": [1.0], "a": [1]}), ("b",), r"'b'.*y, a"),
        (pd.DataFrame({"y": [1.0], "a": [1]}), ("y",), r"'y'.*target"),
    ],
)
def test_what_cannot_be_inferred_names_the_column(
    frame: pd.DataFrame, drop: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SchemaError, match=said):
        infer_schema(frame, stream="s", target="y", drop=drop)


def test_rows_are_sorted_by_time_and_rows_of_a_day_keep_their_order() -> None:
    schema = Schema("s", Target("y", 0, 10), (Feature("day", "dropped"),))
    frame = pd.DataFrame(
        {"day": ["2024-01-02", "2024-01-01", "2024-01-02", "2024-01-01"], "y": [1.0, 2.0, 3.0, 4.0]}
    )
    assert list(order_rows(frame, schema)["y"]) == [2.0, 4.0, 1.0, 3.0]


def test_rows_in_order_are_not_moved_and_zones_are_compared_as_instants() -> None:
    schema = Schema("s", Target("y", 0, 10), (Feature("at", "time", parts=("hour",)),))
    frame = pd.DataFrame(
        {"at": ["2024-10-27T02:30:00+02:00", "2024-10-27T02:00:00+01:00", "?"], "y": [1.0, 2.0, 3.0]}
    )
    assert list(order_rows(frame, schema)["y"]) == [1.0, 2.0, 3.0]


def test_rows_without_a_usable_label_are_left_out() -> None:
    schema = Schema("s", Target("y", 0, 10), ())
    frame = pd.DataFrame({"y": [1.0, None, np.inf, -9999.0, 5.0]})
    assert list(order_rows(frame, schema)["y"]) == [1.0, 5.0]


def test_the_table_shows_names_with_brackets_as_they_are() -> None:
    schema = Schema(
        "s", Target("y", 0, 10), (Feature("[red]t[/]", "numeric", low=0, high=1, reason="numbers"),)
    )
    out = io.StringIO()
    Console(width=120, file=out).print(schema_table(schema))
    assert "[red]t[/]" in out.getvalue()


@pytest.mark.slow
@needs_real_streams
@pytest.mark.parametrize(
    ("stream", "kinds"),
    [
        (
            "energy",
            {
                "Date": "dropped", "Start_Hour": "cyclic", "End_Hour": "dropped", "Source": "category",
                "Day_of_Year": "cyclic", "Day_Name": "cyclic", "Month_Name": "cyclic", "Season": "category",
            },
        ),
        ("denmark", {"HourDK": "time", "DayOfWeek": "cyclic", "Hour": "cyclic"}),
        ("gas_turbine", {"datetime": "time", "AT": "numeric", "TIT": "numeric", "CO": "dropped"}),
        (
            "bike",
            {
                "instant": "dropped", "dteday": "time", "season": "category",
                "mnth": "cyclic", "hr": "cyclic",
                "weekday": "cyclic", "holiday": "numeric", "weathersit": "category", "temp": "numeric",
            },
        ),
        ("eirgrid", {"timestamp": "time", "wind_mw": "numeric", "snsp_pct_all_island": "dropped"}),
        (
            "article_units",
            {
                "art_no": "category", "art_name": "dropped", "hierarchy_level1_id": "dropped",
                "hierarchy_level2_id": "category", "hierarchy_level2_desc": "dropped", "date_of_day": "time",
                "store_count": "numeric", "unit_price_weekly": "numeric",
            },
        ),
        ("air_valencia", {"datetime": "time", "so2": "numeric", "no": "numeric", "direc.": "cyclic"}),
    ],
)  # fmt: skip
def test_real_streams_get_the_kinds_a_person_would_choose(
    stream: str, kinds: dict[str, str], tmp_path: Path
) -> None:
    entry = described(stream)
    frame = real_rows(stream)
    schema = infer_schema(frame, stream=stream, target=entry["target"], drop=entry["drop"])
    found = {f.name: f.kind for f in schema.features}
    assert {name: found[name] for name in kinds} == kinds
    assert all(feature.reason for feature in schema.features)
    assert len(order_rows(frame, schema)) == frame[entry["target"]].notna().sum()
    (tmp_path / "millrace.toml").write_text(dump(Config(schema.stream, schema.target, schema.features)))
    assert load(tmp_path / "millrace.toml", {}).schema == schema


@pytest.mark.slow
@needs_real_streams
@pytest.mark.parametrize(
    ("stream", "column", "parts"),
    [
        ("eirgrid", "timestamp", ("hour", "weekday", "yearday")),
        ("denmark", "HourDK", ("yearday",)),
        ("bike", "dteday", ("yearday",)),
        ("article_units", "date_of_day", ("yearday",)),
    ],
)
def test_real_timestamps_give_the_parts_no_other_column_has(
    stream: str, column: str, parts: tuple[str, ...]
) -> None:
    schema = infer_schema(real_rows(stream), stream=stream, target=described(stream)["target"])
    assert next(f.parts for f in schema.features if f.name == column) == parts


@needs_real_streams
def test_clean_real_rows_encode_without_imputation_or_drift() -> None:
    schema = infer_schema(real_rows("bike"), stream="bike", target="cnt")
    encoder = Encoder.of(schema)
    for row in real_rows("bike").sample(500, random_state=1).to_dict("records"):
        encoded = encoder.encode({str(name): cell for name, cell in row.items()})
        assert not encoded.imputed
        assert not encoded.drifted
