"""The history read for charts: columns over the journal, small however long the history is.

Up to :data:`FINE` outcomes, asked for or there, are read one by one; beyond, from bins of :data:`BIN` labels
that the learner keeps up to date (:mod:`online.storage.metrics_store`), so that a look at 200,000 labels
costs what one at 4,000 does.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
import numpy as np

__all__ = [
    "BIN",
    "WINDOW",
    "ErrorBreakdown",
    "OutcomeSeries",
    "WeightSeries",
    "errors",
    "naive_mae",
    "outcomes",
    "weights",
]

BIN = 50  # journal records in a bin
WINDOW = 1000  # labels in a rolling mean
FINE = 2000  # outcomes read one by one
ONE = (
    "seq, 1, received_at, truth, prediction, lower, upper, abs(truth - prediction), abs(truth - baseline),"
    " abs(truth - naive), truth BETWEEN lower AND upper, delay_seconds FROM scored"
)
BINNED = (
    "seq, n, received_at, truth, prediction, lower, upper, error, baseline_error, naive_error, covered,"
    " delay_seconds FROM bin"
)
PLAIN, ROLLED = slice(2, 7), slice(7, 11)  # which columns are shown as they are, which as rolling means
DELAYS = 4  # bins of the histogram of delays to a power of ten
SHORTEST, LONGEST = -3, 8  # powers of ten of seconds: a millisecond, three years

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
    """The weight of each expert, ``weights[expert]`` having one a ``seq``, oldest first."""

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
    kept = db.execute("SELECT coalesce(sum(n), 0) FROM bin").fetchone()[0]
    fine = min(last, kept) <= FINE
    select, size = (ONE, 1) if fine else (BINNED, BIN)
    query = f"SELECT * FROM (SELECT {select} ORDER BY seq DESC LIMIT ?) ORDER BY seq"
    rows = db.execute(query, ((last + WINDOW) // size,)).fetchall()
    if not rows:
        return OutcomeSeries(*([] for _ in range(11)))
    table = np.array(rows, dtype=np.float64)
    table[:, ROLLED] = rolling(table[:, ROLLED], table[:, 1])
    return grouped(table[-max(1, last // size) :], points)


def rolling(values: Floats, counts: Floats) -> Floats:
    """Means of the last WINDOW labels at each row of ``values`` (rows, columns), of fewer at the start.

    A row stands for ``counts`` labels. A value that is NaN counts for none; a mean of none is NaN.
    """
    known = ~np.isnan(values)
    weight = known * counts[:, None]
    total = np.vstack([np.zeros(values.shape[1]), np.cumsum(np.where(known, values, 0.0) * weight, axis=0)])
    number = np.vstack([np.zeros(values.shape[1]), np.cumsum(weight, axis=0)])
    reached = np.concatenate([[0.0], np.cumsum(counts)])
    ends = np.arange(1, len(values) + 1)
    starts = np.minimum(np.searchsorted(reached, reached[ends] - WINDOW), ends - 1)
    with np.errstate(invalid="ignore"):
        return np.asarray((total[ends] - total[starts]) / (number[ends] - number[starts]))


def grouped(table: Floats, points: int) -> OutcomeSeries:
    """At most ``points`` groups of rows: means weighted by count, and the last rolling means of each."""
    edges = np.linspace(0, len(table), min(points, len(table)) + 1).astype(int)
    ends = edges[1:] - 1
    counts = table[:, 1:2]
    plain = np.column_stack([table[:, PLAIN], table[:, 11]])
    means = np.add.reduceat(plain * counts, edges[:-1], axis=0) / np.add.reduceat(counts, edges[:-1], axis=0)
    shown = [column.tolist() for column in means.T]
    rolled = [without_nan(column) for column in table[ends, ROLLED].T]
    columns: list[Any] = [[int(seq) for seq in table[ends, 0]], *shown[:5], *rolled, shown[5]]
    return OutcomeSeries(*columns)


def without_nan(column: Floats) -> list[float | None]:
    """A column as a list, None where it is NaN."""
    return [None if value != value else value for value in column.tolist()]


def naive_mae(db: sqlite3.Connection) -> float | None:
    """Error of the naive guess over about the last WINDOW labels; None before any."""
    newest = f"SELECT n, naive_error FROM bin ORDER BY bin DESC LIMIT {WINDOW // BIN}"
    query = f"SELECT sum(n * naive_error) / sum(n) FROM ({newest}) WHERE naive_error IS NOT NULL"
    found: float | None = db.execute(query).fetchone()[0]
    return found


def weights(db: sqlite3.Connection, points: int, last: int) -> WeightSeries:
    """The experts' weights over the last labels, at most ``points`` times, evenly chosen, newest included."""
    query = "SELECT seq, weights FROM weight WHERE seq > (SELECT max(seq) FROM weight) - ? ORDER BY seq"
    rows = db.execute(query, (last,)).fetchall()
    step = -(-len(rows) // points) or 1
    kept = rows[::-1][::step][::-1]
    found = [msgspec.json.decode(text, type=dict[str, float]) for _, text in kept]
    names = list(dict.fromkeys(name for one in reversed(found) for name in one))
    return WeightSeries(
        [row[0] for row in kept], names, [[one.get(name, 0.0) for one in found] for name in names]
    )


def errors(db: sqlite3.Connection, last: int, keys: int, slots: int) -> ErrorBreakdown:
    """Where the last predictions were wrong, by ``keys`` and ``slots``, and how late their labels came."""
    newest = "FROM scored WHERE seq > (SELECT max(seq) FROM scored) - ?"
    query = f"SELECT key, slot, avg(abs(truth - prediction)), avg(prediction - truth), count(*) {newest}"
    mae: list[list[float | None]] = [[None] * slots for _ in range(keys)]
    bias: list[list[float | None]] = [[None] * slots for _ in range(keys)]
    n = [[0] * slots for _ in range(keys)]
    for key, slot, error, lean, count in db.execute(f"{query} GROUP BY key, slot", (last,)):
        if 0 <= key < keys and 0 <= slot < slots:
            mae[key][slot], bias[key][slot], n[key][slot] = error, lean, count
    delays = [row[0] for row in db.execute(f"SELECT delay_seconds {newest}", (last,))]
    edges = np.logspace(SHORTEST, LONGEST, DELAYS * (LONGEST - SHORTEST) + 1)
    counts, _ = np.histogram(np.clip(delays, edges[0], edges[-1]), edges)
    return ErrorBreakdown(mae, bias, n, edges.tolist(), counts.tolist())
