"""The forest's kernels that Python calls: each takes the address of an array table, and those of rows.

They alone are cached on disk, as they contain all other kernels of the forest. They take addresses instead of
arrays because handing Numba an array costs 0.2-0.3 us, and a row of a request is scored in about ten.
"""

from __future__ import annotations

from online.core.jit import matrix_at, njit_cached, vector_at
from online.forest.array_table import forest_at
from online.forest.members import learn_rows, predict_rows

__all__ = ["learn_at", "predict_at"]


@njit_cached
def learn_at(  # noqa: PLR0913 - a kernel takes each array
    table: int, rows: int, targets: int, weights: int, asked: int, count: int
) -> int:
    """Learn rows until all are, or a pool has to grow first; answer those that are asked about.

    Parameters
    ----------
    table
        The address of the forest's array table.
    rows, targets, weights, asked
        The addresses of rows (count, D) and one number for each (count,), all float64; where ``asked`` is
        not 0 the prediction takes the target's place.
    count
        How many rows.

    Returns
    -------
    int
        How many were done.
    """
    s = forest_at(table)
    return learn_rows(
        s, matrix_at(rows, count, s.feature.shape[0]), vector_at(targets, count), vector_at(weights, count),
        vector_at(asked, count),
    )  # fmt: skip


@njit_cached
def predict_at(table: int, rows: int, out: int, count: int) -> None:
    """Predict rows.

    Parameters
    ----------
    table
        The address of the forest's array table.
    rows, out
        The addresses of rows (count, D) and of where the predictions go (count,), all float64.
    count
        How many rows.
    """
    s = forest_at(table)
    predict_rows(s, matrix_at(rows, count, s.feature.shape[0]), vector_at(out, count))
