"""A stream of hourly wind and solar production, with the faults and drifts a real one has.

Wind speed is autocorrelated, stronger in winter, and becomes power along a cubic curve with cut-in, rated
and cut-out speed. Sunlight follows the sun's elevation at one latitude through autocorrelated cloud. The
fleet grows, its equipment ages, some readings are faulty, and twice the world changes from one day to
the next: :data:`EQUIPMENT_DRIFTS` names what happens and when.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from online.core.errors import InputError
from online.core.home import Home, write_atomically

__all__ = ["EQUIPMENT_DRIFTS", "Drift", "Generated", "generate", "generate_stream", "write_stream"]

Floats = npt.NDArray[np.float64]

FIRST_DAY = pd.Timestamp("2022-01-01")  # two years without a leap day
LATITUDE = np.radians(47.0)
WIND_SITES = 8  # wind sites, whose weather is alike but not the same

WIND_CAPACITY = 17_000.0  # MW at the first hour
SOLAR_CAPACITY = 13_000.0
WIND_GROWTH = 0.06  # share of the first capacity added a year
SOLAR_GROWTH = 0.12
AGEING = 0.008  # efficiency lost a year

CUT_IN, RATED, CUT_OUT = 3.0, 13.0, 25.0  # m/s
STUCK = 0.0006  # share of readings at which a meter sticks, for STUCK_ROWS rows
STUCK_ROWS = 5
SPIKES = 0.002  # share of readings that are off by a factor

SEASONS = ("Winter", "Winter", "Spring", "Spring", "Spring", "Summer",
           "Summer", "Summer", "Fall", "Fall", "Fall", "Winter")  # fmt: skip


class Drift(msgspec.Struct, frozen=True):
    """An abrupt change: ``day`` days into the second half, ``source`` yields ``factor`` times as much."""

    day: int
    source: str
    factor: float
    what: str


EQUIPMENT_DRIFTS = (
    Drift(44, "Wind", 1.75, "an offshore wind park joins the grid"),
    Drift(196, "Solar", 1.55, "the solar inverters are replaced with better ones"),
)


class Generated(msgspec.Struct, frozen=True):
    """A generated stream.

    Parameters
    ----------
    frame
        The rows, in the order of their days and shuffled within each.
    half
        The row at which the second half starts, the stream still to come.
    drift_rows
        The first row of each of :data:`EQUIPMENT_DRIFTS` that lies within the frame, counted from its start.
    """

    frame: pd.DataFrame
    half: int
    drift_rows: tuple[int, ...]


def generate_stream(seed: int, days: int) -> pd.DataFrame:
    """The rows of :func:`generate` alone.

    Parameters
    ----------
    seed
        Equal seeds give equal streams.
    days
        Length of the stream, from two days on.

    Returns
    -------
    DataFrame
        The rows, a column a feature, and ``Production``.
    """
    return generate(seed, days).frame


def generate(seed: int, days: int) -> Generated:
    """Hourly production in MWh, a wind row for each hour and a solar row for each hour of daylight.

    Parameters
    ----------
    seed
        Equal seeds give equal streams.
    days
        Length of the stream, from two days on.

    Returns
    -------
    Generated
        The rows, and where their drifts begin.

    Raises
    ------
    InputError
        ``days`` is below 2.
    """
    if days < 2:
        raise InputError("days: a stream needs at least 2 days, one for each half", field="days")
    rng = np.random.default_rng(seed)
    hours = pd.Series(pd.date_range(FIRST_DAY, periods=24 * days, freq="h"))
    elevation = sun(hours)
    rows = pd.concat(
        [
            source_rows(hours, "Wind", wind(rng, hours), days, rng),
            source_rows(hours[elevation > 0.05], "Solar", solar(rng, hours, elevation), days, rng),
        ]
    )
    frame = columns(shuffled_within_days(rows, rng))
    day = (pd.to_datetime(frame["Date"]) - FIRST_DAY).dt.days.to_numpy()
    starts = [
        int(np.searchsorted(day, days // 2 + d.day)) for d in EQUIPMENT_DRIFTS if days // 2 + d.day < days
    ]
    return Generated(frame, int(np.searchsorted(day, days // 2)), tuple(starts))


def write_stream(home: Home, seed: int, days: int) -> None:
    """Write the first half to ``data/raw.csv`` and the second to ``data/stream.csv``.

    Parameters
    ----------
    home
        The home; its folders are made where they are missing.
    seed
        Equal seeds give equal streams.
    days
        Length of the stream, from two days on; each half has as many.

    Raises
    ------
    InputError
        One of the files exists already, or ``days`` is below 2. Nothing was written.
    """
    raw, stream = home.data / "raw.csv", home.data / "stream.csv"
    for path in (raw, stream):
        if path.exists():
            raise InputError(
                f"{path} exists already: move or delete it, or give another --home", field="home"
            )
    made = generate(seed, days)
    home.create()
    write_atomically(stream, made.frame.iloc[made.half :].to_csv(index=False).encode())
    write_atomically(raw, made.frame.iloc[: made.half].to_csv(index=False).encode())


# weather


def sun(hours: pd.Series[pd.Timestamp]) -> Floats:
    """Sine of the sun's elevation in the middle of each hour."""
    yearday = hours.dt.day_of_year.to_numpy()
    declination = np.radians(-23.44) * np.cos(2 * np.pi * (yearday + 10) / 365.25)
    hour_angle = np.radians(15.0) * (hours.dt.hour.to_numpy() + 0.5 - 12.5)  # noon by the sun is at 12:30
    across = np.cos(LATITUDE) * np.cos(declination) * np.cos(hour_angle)
    return np.asarray(np.sin(LATITUDE) * np.sin(declination) + across)


def autocorrelated(rng: np.random.Generator, rows: int, series: int, rho: float) -> Floats:
    """AR(1) noise of unit variance, ``rows`` by ``series``: each row keeps ``rho`` of the one before."""
    noise = pd.DataFrame(rng.standard_normal((rows, series)))
    noise.iloc[1:] *= np.sqrt(1 - rho**2) / (1 - rho)
    return noise.ewm(alpha=1 - rho, adjust=False).mean().to_numpy()


def winter(hours: pd.Series[pd.Timestamp]) -> Floats:
    """1 in the middle of January, -1 in the middle of July."""
    return np.asarray(np.cos(2 * np.pi * (hours.dt.day_of_year.to_numpy() - 15) / 365.25))


def wind(rng: np.random.Generator, hours: pd.Series[pd.Timestamp]) -> Floats:
    """Share of the wind fleet's capacity in use, 0 to 1."""
    weather = autocorrelated(rng, len(hours), WIND_SITES + 1, 0.98)
    own, common = weather[:, :WIND_SITES], weather[:, WIND_SITES:]
    afternoon = 0.4 * np.cos(2 * np.pi * (hours.dt.hour.to_numpy() - 15) / 24)
    mean = 8.2 + 0.9 * winter(hours) + afternoon  # m/s at the hub
    speed = mean[:, None] * np.exp(0.32 * (0.75 * common + 0.66 * own) - 0.05)
    return np.asarray(power_curve(speed).mean(axis=1))


def power_curve(speed: Floats) -> Floats:
    """Share of a turbine's rated power at a wind speed in m/s."""
    rising = (speed**3 - CUT_IN**3) / (RATED**3 - CUT_IN**3)
    return np.where((speed < CUT_IN) | (speed > CUT_OUT), 0.0, np.clip(rising, 0.0, 1.0))


def solar(rng: np.random.Generator, hours: pd.Series[pd.Timestamp], elevation: Floats) -> Floats:
    """Share of the solar fleet's capacity in use, 0 to 1, of the hours of daylight."""
    weather = autocorrelated(rng, len(hours), 1, 0.96)[:, 0] + 0.35 * winter(hours)
    cloud = 1 / (1 + np.exp(-1.2 * weather))  # share of the sky covered
    light = np.maximum(elevation, 0.0) ** 1.15 * (1 - 0.75 * cloud**2.4)
    return np.asarray(light[elevation > 0.05])


# the fleet and its meters


def source_rows(
    hours: pd.Series[pd.Timestamp], source: str, share: Floats, days: int, rng: np.random.Generator
) -> pd.DataFrame:
    """One source's rows in time order, its production read by faulty meters."""
    capacity, growth = (WIND_CAPACITY, WIND_GROWTH) if source == "Wind" else (SOLAR_CAPACITY, SOLAR_GROWTH)
    age = (hours - FIRST_DAY).dt.total_seconds().to_numpy() / (365.25 * 86400)
    fleet = capacity * (1 + growth * age) * (1 - AGEING * age)
    for drift in EQUIPMENT_DRIFTS:
        if drift.source == source:
            fleet = (
                np.where(hours >= FIRST_DAY + pd.Timedelta(days=days // 2 + drift.day), drift.factor, 1)
                * fleet
            )
    readings = faulty(fleet * share * rng.normal(1.0, 0.02, len(share)), rng)
    return pd.DataFrame({"when": hours, "Source": source, "Production": np.rint(readings).astype(np.int64)})


def faulty(readings: Floats, rng: np.random.Generator) -> Floats:
    """Readings as meters report them: some stick for a while, some spike."""
    stuck = (
        pd.Series(rng.random(len(readings)) < STUCK).rolling(STUCK_ROWS, min_periods=1).max().to_numpy() > 0
    )
    stuck[0] = False
    reported = pd.Series(readings).mask(stuck).ffill().to_numpy(copy=True)
    spiked = rng.random(len(readings)) < SPIKES
    reported[spiked] *= rng.choice([0.0, 0.3, 2.0, 2.5], int(spiked.sum()))
    return np.maximum(reported, 0.0)


def shuffled_within_days(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Rows by day, in no order within a day."""
    day = rows["when"].dt.normalize().to_numpy()
    return rows.iloc[np.lexsort((rng.random(len(rows)), day))].reset_index(drop=True)


def columns(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns a data provider would publish."""
    when = rows["when"].dt
    published: dict[str, Any] = {
        "Date": when.strftime("%Y-%m-%d"),
        "Start_Hour": when.hour,
        "End_Hour": (when.hour + 1) % 24,
        "Source": rows["Source"],
        "Day_of_Year": when.day_of_year,
        "Day_Name": when.day_name(),
        "Month_Name": when.month_name(),
        "Season": when.month.map(lambda month: SEASONS[month - 1]),
        "Production": rows["Production"],
    }
    return pd.DataFrame(published)
