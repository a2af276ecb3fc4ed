"""Rows of hours to come, and what is predicted for them."""

from __future__ import annotations

import base64
import csv
import datetime
import io
from typing import Any

import httpx
import pytest

from server.monitor.api_replies import FeatureReply
from server.monitor.forecast import (
    ForecastError,
    ForecastResult,
    as_csv,
    forecast_chart,
    parse_upload,
    request_forecast,
)
from server.monitor.future_rows import choosable, future_rows, missing_features
from server.monitor.palette import LIGHT
from tests.support.fake_api import busy_api, closed_port, serving

SUNDAY = datetime.datetime.fromisoformat("2028-02-27T22:00")  # of a leap year
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september",
          "october", "november", "december")  # fmt: skip


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        (FeatureReply("Start_Hour", "cyclic", period=24.0, low=0.0), [22, 23, 0]),
        (FeatureReply("End_Hour", "cyclic", period=24.0, low=0.0), [23, 0, 1]),
        (FeatureReply("hr", "cyclic", period=24.0, low=1.0), [22, 23, 24]),
        (FeatureReply("Day_of_Year", "cyclic", period=365.25, low=1.0), [58, 58, 59]),
        (FeatureReply("weekday", "cyclic", period=7.0, low=0.0), [6, 6, 0]),
        (FeatureReply("mnth", "cyclic", period=12.0, low=1.0), [2, 2, 2]),
        (FeatureReply("day", "cyclic", values=DAYS), ["Sun", "Sun", "Mon"]),
        (FeatureReply("month", "cyclic", values=MONTHS), ["february"] * 3),
        (FeatureReply("Season", "category", values=("Winter", "Spring", "Summer", "Fall")), ["Winter"] * 3),
        (FeatureReply("year", "numeric"), [2028] * 3),
        (FeatureReply("at", "time"), ["2028-02-27T22:00:00", "2028-02-27T23:00:00", "2028-02-28T00:00:00"]),
    ],
)
def test_what_a_calendar_tells_is_filled_in_as_the_stream_writes_it(
    feature: FeatureReply, values: list[Any]
) -> None:
    rows = future_rows([feature], {}, SUNDAY, 3)
    assert [row[feature.name] for row in rows] == values
    assert choosable([feature]) == []


def test_what_no_calendar_tells_is_picked_or_left_out() -> None:
    features = [
        FeatureReply("Source", "category", values=("Solar", "Wind")),
        FeatureReply("Wind_Speed", "numeric"),
        FeatureReply("Direction", "cyclic", period=360.0),
        FeatureReply("Date", "dropped", used=False),
    ]
    (row,) = future_rows(features, {"Source": "Wind"}, SUNDAY, 1)
    assert row == {"Source": "Wind"}
    assert [f.name for f in choosable(features)] == ["Source"]
    assert missing_features(features, row) == ["Wind_Speed", "Direction"]


def data_url(text: str | bytes) -> str:
    content = text if isinstance(text, bytes) else text.encode()
    return "data:text/csv;base64," + base64.b64encode(content).decode()


def test_an_uploaded_csv_gives_rows_with_empty_cells_left_out() -> None:
    assert parse_upload(data_url("\ufeffa,b\n1,\n,x y\n")) == [{"a": "1"}, {"b": "x y"}]


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        (data_url(b"\xff\xfe\x00"), "no CSV in UTF-8"),
        (data_url("a,b\n1,2,3\n"), "Line 2 has more cells"),
        (data_url("a,b,a\n1,2,3\n"), "column 'a' is named twice"),
        (data_url("a,b\n"), "no rows"),
        (data_url("a\n" + "1\n" * 10_001), "at most 10,000"),
        ("data:text/csv;base64,***", "no CSV in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_forecast_says_why(contents: str, why: str) -> None:
    with pytest.raises(ForecastError, match=why):
        parse_upload(contents)


def test_a_forecast_is_asked_for_without_a_record_and_written_as_csv() -> None:
    with serving(busy_api()) as url, httpx.Client(base_url=url) as client:
        found = request_forecast(
            client, [{"a": 1}, {"b": "x,y"}], ["2028-01-01T00:00:00", "2028-01-01T01:00:00"]
        )
    lines = list(csv.reader(io.StringIO(as_csv(found))))
    assert lines[0] == ["time", "a", "b", "prediction", "lower", "upper"]
    assert lines[2] == ["2028-01-01T01:00:00", "", "x,y", "101.0", "91.0", "111.0"]
    figure = forecast_chart(found, "Production", LIGHT)
    assert list(figure.data[2].y) == [100.0, 101.0]
    assert not forecast_chart(None, "", LIGHT).data


def test_a_forecast_that_cannot_be_had_says_why() -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{closed_port()}") as client:
        with pytest.raises(ForecastError, match="nothing listens there"):
            request_forecast(client, [{"a": 1}])
        with pytest.raises(ForecastError, match="no rows"):
            request_forecast(client, [])
    refusal = httpx.MockTransport(lambda _: httpx.Response(422, json={"detail": "too odd"}))
    with (
        httpx.Client(base_url="http://api.test", transport=refusal) as client,
        pytest.raises(ForecastError, match="too odd"),
    ):
        request_forecast(client, [{"a": 1}])


def test_rows_without_a_time_are_drawn_one_by_one() -> None:
    found = ForecastResult([{"a": 1}] * 3, [1.0, 2.0, 3.0], [0.0] * 3, [4.0] * 3)
    figure = forecast_chart(found, "", LIGHT)
    assert list(figure.data[2].x) == [1, 2, 3]
    assert figure.layout.xaxis.title.text == "row"
