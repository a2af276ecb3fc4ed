"""How kernels reach a forest's arrays: through one pointer to its array table, a row of sizes and addresses.

To the kernels an `Arrays` is that pointer, and ``s.node_f`` reads from the table where the array lies and how
long it is; see :func:`online.core.jit.table_pointer` for why.
"""

from __future__ import annotations

import numpy as np

from online.core.jit import table_pointer
from online.forest.forest_state import LAYOUT, LENGTH_NAMES, Array, Arrays

__all__ = ["array_table_of", "forest_at"]

forest_at = table_pointer("Forest", LENGTH_NAMES, LAYOUT)  # forest_at(address of the table)


def array_table_of(arrays: Arrays) -> Array:
    """The array table of a forest. All its arrays must be C-contiguous and outlive the table."""
    sizes = arrays.sizes()
    addresses = [getattr(arrays, name).ctypes.data for name in LAYOUT]
    return np.array([*(sizes[name] for name in LENGTH_NAMES), *addresses], np.int64)
