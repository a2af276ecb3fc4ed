"""The metrics store read for charts: columns of a bounded length, however many outcomes there are.

Up to :data:`MAX_SINGLE_OUTCOMES` outcomes are read one by one; more are read from bins of :data:`BIN_LABELS`
labels, which the learner keeps up to date (:mod:`online.storage.metrics_store`). So reading 200,000 labels
costs what reading 4,000 does.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
import numpy as np

__all__ = ["BIN_LABELS", "ErrorBreakdown", "OutcomeSeries", "WeightSeries"]

BIN_LABELS = 50  # journal records in a bin
ROLLING_LABELS = 1000  # labels in a rolling mean
MAX_SINGLE_OUTCOMES = 2000  # outcomes read one by one
# both ways of reading give the same twelve columns
SINGLE_OUTCOMES = (
    "seq, 1, received_at, truth, prediction, lower, upper, abs(truth - prediction), abs(truth - baseline),"
    " abs(truth - naive), truth BETWEEN lower AND upper, delay_seconds FROM scored"
)
BINNED_OUTCOMES = (
    "seq, n, received_at, truth, prediction, lower, upper, error, baseline_error, naive_error, covered,"
    " delay_seconds FROM bin"
)
SHOWN_COLUMNS = slice(2, 7)  # of those twelve: received_at to upper, averaged over what one point stands for
ROLLING_COLUMNS = slice(7, 11)  # errors and coverage, averaged over the last ROLLING_LABELS
DELAY_BINS = 4  # of the histogram of delays, for each power of ten
MIN_DELAY_POWER, MAX_DELAY_POWER = -3, 8  # powers of ten of seconds: a millisecond, three years

Floats = np.ndarray


class OutcomeSeries(msgspec.Struct, frozen=True):
    """Outcomes as columns of equal length, oldest first; errors and coverage are rolling, of 1,000 labels.

    ``baseline_mae`` is the error of the frozen first model, ``naive_mae`` that of the newest label of the
    same key and slot which was known when the prediction was served.
    """

    seq: list[int]
    received_at: list[float]
    truth: list[float]
    prediction: list[float]
    lower: list[float]
    upper: list[float]
    mae: list[float]
    baseline_mae: list[float | None]
    naive_mae: list[float | None]
    coverage: list[float]
    delay_seconds: list[float]


class WeightSeries(msgspec.Struct, frozen=True):
    """The experts' weights, oldest first: ``weights[i][j]`` is ``experts[i]``'s after label ``seq[j]``."""

    seq: list[int]
    experts: list[str]
    weights: list[list[float]]


class ErrorBreakdown(msgspec.Struct, frozen=True):
    """Mean absolute error, bias (prediction less truth) and count by key and slot, and how late labels came.

    ``mae[key][slot]`` is None where no label fell. ``delay_counts[i]`` labels came ``delay_edges[i]`` to
    ``delay_edges[i + 1]`` seconds after their prediction.
    """

    mae: list[list[float | None]]
    bias: list[list[float | None]]
    n: list[list[int]]
    delay_edges: list[float]
    delay_counts: list[int]


def outcomes(db: sqlite3.Connection, points: int, last: int) -> OutcomeSeries:
    """The last outcomes, averaged into at most ``points`` groups of about equal count."""
    stored = db.execute("SELECT coalesce(sum(n), 0) FROM bin").fetchone()[0]
    single = min(last, stored) <= MAX_SINGLE_OUTCOMES
    select, size = (SINGLE_OUTCOMES, 1) if single else (BINNED_OUTCOMES, BIN_LABELS)
    query = f"SELECT * FROM (SELECT {select} ORDER BY seq DESC LIMIT ?) ORDER BY seq"
    # as many more are read as the first one's rolling mean goes back
    rows = db.execute(query, ((last + ROLLING_LABELS) // size,)).fetchall()
    if not rows:
        return OutcomeSeries(*([] for _ in range(11)))
    table = np.array(rows, dtype=np.float64)
    table[:, ROLLING_COLUMNS] = rolling(table[:, ROLLING_COLUMNS], table[:, 1])
    return grouped(table[-max(1, last // size) :], points)


def rolling(values: Floats, counts: Floats) -> Floats:
    """Means of the last ROLLING_LABELS labels at each row of ``values`` (rows, columns), fewer at the start.

    A row stands for ``counts`` labels. A value that is NaN counts for none; a mean of none is NaN.
    """
    known = ~np.isnan(values)
    weight = known * counts[:, None]
    sums = np.vstack([np.zeros(values.shape[1]), np.cumsum(np.where(known, values, 0.0) * weight, axis=0)])
    weights_before = np.vstack([np.zeros(values.shape[1]), np.cumsum(weight, axis=0)])
    labels_before = np.concatenate([[0.0], np.cumsum(counts)])
    ends = np.arange(1, len(values) + 1)
    starts = np.minimum(np.searchsorted(labels_before, labels_before[ends] - ROLLING_LABELS), ends - 1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the mean of none
        return np.asarray((sums[ends] - sums[starts]) / (weights_before[ends] - weights_before[starts]))


def grouped(table: Floats, points: int) -> OutcomeSeries:
    """At most ``points`` groups of rows: means weighted by count, and each group's last rolling means."""
    edges = np.linspace(0, len(table), min(points, len(table)) + 1).astype(int)
    last_rows = edges[1:] - 1
    counts = table[:, 1:2]
    shown = np.column_stack([table[:, SHOWN_COLUMNS], table[:, 11]])
    means = np.add.reduceat(shown * counts, edges[:-1], axis=0) / np.add.reduceat(counts, edges[:-1], axis=0)
    *averages, delays = [column.tolist() for column in means.T]
    rolling_means = [without_nan(column) for column in table[last_rows, ROLLING_COLUMNS].T]
    columns: list[Any] = [[int(seq) for seq in table[last_rows, 0]], *averages, *rolling_means, delays]
    return OutcomeSeries(*columns)


def without_nan(column: Floats) -> list[float | None]:
    """A column as a list, None where it is NaN."""
    return [None if value != value else value for value in column.tolist()]


def naive_mae(db: sqlite3.Connection) -> float | None:
    """Error of the naive forecast over about the last ROLLING_LABELS labels; None before any."""
    newest = f"SELECT n, naive_error FROM bin ORDER BY bin DESC LIMIT {ROLLING_LABELS // BIN_LABELS}"
    query = f"SELECT sum(n * naive_error) / sum(n) FROM ({newest}) WHERE naive_error IS NOT NULL"
    mae: float | None = db.execute(query).fetchone()[0]
    return mae


def weights(db: sqlite3.Connection, points: int, last: int) -> WeightSeries:
    """The experts' weights over the last labels, at most ``points`` times, evenly chosen, newest included."""
    query = "SELECT seq, weights FROM weight WHERE seq > (SELECT max(seq) FROM weight) - ? ORDER BY seq"
    rows = db.execute(query, (last,)).fetchall()
    step = -(-len(rows) // points) or 1
    chosen = rows[::-1][::step][::-1]  # from the newest backwards
    moments = [msgspec.json.decode(text, type=dict[str, float]) for _, text in chosen]
    # the newest moment's order; an expert that has come or gone has weight 0 where it was not
    experts = list(dict.fromkeys(name for moment in reversed(moments) for name in moment))
    table = [[moment.get(name, 0.0) for moment in moments] for name in experts]
    return WeightSeries([seq for seq, _ in chosen], experts, table)


def errors(db: sqlite3.Connection, last: int, keys: int, slots: int) -> ErrorBreakdown:
    """The last predictions' errors by ``keys`` and ``slots``, and how late their labels came."""
    newest = "FROM scored WHERE seq > (SELECT max(seq) FROM scored) - ?"
    query = f"SELECT key, slot, avg(abs(truth - prediction)), avg(prediction - truth), count(*) {newest}"
    mae: list[list[float | None]] = [[None] * slots for _ in range(keys)]
    bias: list[list[float | None]] = [[None] * slots for _ in range(keys)]
    counts = [[0] * slots for _ in range(keys)]
    for key, slot, mean_error, mean_bias, count in db.execute(f"{query} GROUP BY key, slot", (last,)):
        if 0 <= key < keys and 0 <= slot < slots:  # -1 is a row of no key or slot
            mae[key][slot], bias[key][slot], counts[key][slot] = mean_error, mean_bias, count
    delays = [row[0] for row in db.execute(f"SELECT delay_seconds {newest}", (last,))]
    edges = np.logspace(
        MIN_DELAY_POWER, MAX_DELAY_POWER, DELAY_BINS * (MAX_DELAY_POWER - MIN_DELAY_POWER) + 1
    )
    delay_counts, _ = np.histogram(np.clip(delays, edges[0], edges[-1]), edges)
    return ErrorBreakdown(mae, bias, counts, edges.tolist(), delay_counts.tolist())
