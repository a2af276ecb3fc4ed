"""The kernels that are called from Python.

Numba looks for a kernel's compiled form by its own source alone. So only these outermost ones, which contain
all others, are kept on disk, and under a checksum of all sources they come from: a change in any compiles
them anew.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from online.core.jit import kept, source_hash
from online.forest.members import learn_rows, predict_rows
from online.forest.numba_pointers import column_at, forest_at, table_at

__all__ = ["Kernels", "kernels"]


class Kernels(NamedTuple):
    """What is called from Python; each takes the address of a handle, and of rows."""

    learn: Callable[[int, int, int, int, int, int], int]  # rows, targets, weights, asked, number; how many
    predict: Callable[[int, int, int, int], None]  # rows, where predictions go, number


@functools.cache
def kernels() -> Kernels:
    """The kernels, compiled when first called and kept on disk."""
    return compiled_for(source_hash(__file__))


def compiled_for(sources: int) -> Kernels:
    """The kernels of a version of the sources, which each must mention for Numba to tell versions apart."""

    @kept
    def learn(handle: int, rows: int, targets: int, weights: int, asked: int, n: int) -> int:
        if not sources:
            return 0
        s = forest_at(handle)
        return learn_rows(
            s, table_at(rows, n, s.feature.shape[0]), column_at(targets, n), column_at(weights, n),
            column_at(asked, n),
        )  # fmt: skip

    @kept
    def predict(handle: int, rows: int, out: int, n: int) -> None:
        if sources:
            s = forest_at(handle)
            predict_rows(s, table_at(rows, n, s.feature.shape[0]), column_at(out, n))

    return Kernels(learn, predict)
