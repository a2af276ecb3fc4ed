"""Space in which one caller at a time has rows scored, kept from call to call.

Making arrays takes NumPy longer than the kernel takes for a row, so a single row is packed into bytes that
are there already, and its outputs are unpacked from bytes, by ``struct``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from online.core.jit import Array
from online.scoring.kernels.plan_arrays import ArrayTable, scratch_size

__all__ = ["ScratchBuffer"]

CACHE_LINE = 64  # bytes
ROW_COUNT = 2  # where a kernel's call says how many rows there are


class ScratchBuffer:
    """Room for a few rows, their outputs and what the kernel notes on the way.

    Parameters
    ----------
    table
        The plan's array table.
    rows
        For how many rows there is room.

    Attributes
    ----------
    outputs : int
        How many numbers a row's score has: the prediction, the experts' outputs, their disagreement.
    """

    def __init__(self, table: ArrayTable, rows: int) -> None:
        self._table = table
        columns, self.outputs = table.sizes["columns"], 2 + table.sizes["experts"]
        self._work = scratch_space(scratch_size(table.sizes))
        inbox, outbox = np.zeros(rows * columns), np.zeros(rows * self.outputs)
        self._call = self.call_of(inbox, 1, outbox)
        self.call_address: int = self._call.ctypes.data  # a call for one row
        self._rows, self._out = inbox.data, outbox.view(np.uint8).data
        row, output = struct.Struct(f"{columns}d"), struct.Struct(f"{self.outputs}d")
        # bound methods: looking them up takes as long as what they do
        self._pack, self._row_bytes = row.pack_into, row.size
        self._unpack, self._unpack_each, self._output_bytes = (
            output.unpack_from,
            output.iter_unpack,
            output.size,
        )

    def call_of(self, rows: Array, count: int, out: Array) -> Array:
        """What the kernel is called with, by its address.

        Parameters
        ----------
        rows, out
            C-contiguous float64 arrays, (count, columns) and (count, outputs); they must outlive the call.
        count
            How many rows.

        Returns
        -------
        array
            The words of :class:`online.scoring.kernels.score_rows.ScoreKernel`.
        """
        addresses = (self._table.words.ctypes.data, rows.ctypes.data, count, out.ctypes.data)
        return np.array([*addresses, self._work.ctypes.data], np.int64)

    def write(self, values: Sequence[float]) -> None:
        """Put one row in."""
        self._pack(self._rows, 0, *values)

    def read(self) -> tuple[Any, ...]:
        """The outputs of one row."""
        return self._unpack(self._out)

    def write_rows(self, rows: Sequence[Sequence[float]]) -> None:
        """Put several rows in, and have the next call score so many."""
        for index, values in enumerate(rows):
            self._pack(self._rows, index * self._row_bytes, *values)
        self._call[ROW_COUNT] = len(rows)

    def read_rows(self, count: int) -> list[tuple[Any, ...]]:
        """The outputs of several rows; the next call is for one row again."""
        self._call[ROW_COUNT] = 1
        return list(self._unpack_each(self._out[: count * self._output_bytes]))


def scratch_space(cells: int) -> Array:
    """Cells for the kernel, which start one before a line of the cache.

    All its parts but the first cell are whole lines, so none of its vectors lies across two: a block of rows
    takes a quarter longer where memory happens to begin elsewhere.
    """
    room = np.zeros(cells + CACHE_LINE // 8)
    skipped = -(room.ctypes.data + 8) % CACHE_LINE // 8
    return room[skipped : skipped + cells]
