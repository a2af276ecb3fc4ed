"""Calling kernels with all of a forest for the price of one argument.

Handing Numba an array costs 0.2-0.3 us each, which for the thirty of a forest is more than scoring a row. So
a forest keeps one array of addresses and sizes, its handle, and kernels that are called from Python look the
arrays up there. The handle's owner keeps the arrays alive and makes a new one whenever an array is replaced.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from online.forest.budget import keep_budget
from online.forest.members import learn_rows, predict_rows
from online.forest.state import (
    BINS,
    BUCKETS,
    CALIBRATION,
    COUNTS,
    CUT_COLUMNS,
    FEATURE_COLUMNS,
    LEVELS,
    LINES,
    MAX_STACK,
    MEMBER_FLOATS,
    MEMBER_INTS,
    NODE_FLOATS,
    NODE_INTS,
    SETTINGS,
    Array,
    Arrays,
)

__all__ = ["Kernels", "handle_of", "kernels"]

SOURCES = (
    "adwin", "budget", "handle", "leaf", "members", "observers", "random", "split", "state", "tree",
    "whitening",
)  # fmt: skip
SIZES = 6  # members, features, features of a tree, nodes, slots, lines in shadow; then the addresses


def handle_of(arrays: Arrays) -> Array:
    """The handle of a forest. All its arrays must be C-contiguous and outlive the handle."""
    members, features = len(arrays.member_i), len(arrays.feature)
    sizes = [members, features, arrays.subspace.shape[1], len(arrays.free_node), len(arrays.free_slot)]
    sizes.append(arrays.shadow.shape[1])
    return np.array([*sizes, *(array.ctypes.data for array in arrays)], np.int64)


@intrinsic
def pointer(typing: Any, address: Any) -> Any:
    """An address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@njit
def opened(h: Array) -> Arrays:
    """The arrays behind a handle, in the order of `Arrays`."""
    m, d, w, nodes, slots = h[0], h[1], h[2], h[3], h[4]
    a = h[SIZES:]
    scratch = max(d, MAX_STACK)
    return Arrays(
        carray(pointer(a[0]), (COUNTS,), np.int64),
        carray(pointer(a[1]), (SETTINGS,), np.float64),
        carray(pointer(a[2]), (m + 1,), np.uint64),
        carray(pointer(a[3]), (d, FEATURE_COLUMNS), np.float64),
        carray(pointer(a[4]), (d, BINS, 2), np.float64),
        carray(pointer(a[5]), (m, MEMBER_INTS), np.int64),
        carray(pointer(a[6]), (m, MEMBER_FLOATS), np.float64),
        carray(pointer(a[7]), (m, CALIBRATION), np.float64),
        carray(pointer(a[8]), (2 * m,), np.int64),
        carray(pointer(a[9]), (2 * m, w), np.int64),
        carray(pointer(a[10]), (nodes, NODE_INTS), np.int64),
        carray(pointer(a[11]), (nodes, NODE_FLOATS), np.float64),
        carray(pointer(a[12]), (nodes, LINES, d + 1), np.float64),
        carray(pointer(a[13]), (nodes, h[5], d + 1), np.float64),
        carray(pointer(a[14]), (nodes,), np.int64),
        carray(pointer(a[15]), (slots, w, BINS + 1, 3), np.float32),
        carray(pointer(a[16]), (slots, w, 3), np.float64),
        carray(pointer(a[17]), (slots, 2), np.float64),
        carray(pointer(a[18]), (slots,), np.int64),
        carray(pointer(a[19]), (2 * m, LEVELS, BUCKETS + 1, 2), np.float64),
        carray(pointer(a[20]), (2 * m, LEVELS), np.int64),
        carray(pointer(a[21]), (2 * m, 3), np.float64),
        carray(pointer(a[22]), (2 * m, 2), np.int64),
        carray(pointer(a[23]), (d + 1, d + 1), np.float64),
        carray(pointer(a[24]), (d + 1, d + 1), np.float64),
        carray(pointer(a[25]), (d + 1,), np.float64),
        carray(pointer(a[26]), (2, d), np.float64),
        carray(pointer(a[27]), (scratch,), np.int64),
        carray(pointer(a[28]), (2, 3), np.float64),
        carray(pointer(a[29]), (2, CUT_COLUMNS), np.float64),
        carray(pointer(a[30]), (m,), np.float64),
    )


class Kernels(NamedTuple):
    """What is called from Python; each takes a handle first, and rows by their address and number."""

    learn: Callable[[Array, int, int, int, int], int]  # rows, targets, weights, number; how many were learned
    predict: Callable[[Array, int, int, int], None]  # rows, where predictions go, number
    thin: Callable[[Array, int], None]  # make room within the budget


@functools.cache
def kernels() -> Kernels:
    """The kernels, compiled when first called and kept on disk.

    Numba looks for a kernel's compiled form by its own source alone. So only these outermost ones, which
    contain all others, are kept, and under a checksum of all sources they come from: a change in any compiles
    them anew.
    """
    sources = [Path(__file__).with_name(f"{name}.py") for name in SOURCES]
    return compiled_for(zlib.crc32(b"".join(source.read_bytes() for source in sources)) + 1)


def compiled_for(sources: int) -> Kernels:
    """The kernels of a version of the sources, which each must mention for Numba to tell versions apart."""

    @njit(cache=True)
    def learn(h: Array, rows: int, targets: int, weights: int, n: int) -> int:
        if not sources:
            return 0
        x = carray(pointer(rows), (n, h[1]), np.float64)
        y = carray(pointer(targets), (n,), np.float64)
        return learn_rows(opened(h), x, y, carray(pointer(weights), (n,), np.float64))

    @njit(cache=True)
    def predict(h: Array, rows: int, out: int, n: int) -> None:
        if sources:
            x = carray(pointer(rows), (n, h[1]), np.float64)
            predict_rows(opened(h), x, carray(pointer(out), (n,), np.float64))

    @njit(cache=True)
    def thin(h: Array, need: int) -> None:
        if sources:
            keep_budget(opened(h), need)

    return Kernels(learn, predict, thin)
