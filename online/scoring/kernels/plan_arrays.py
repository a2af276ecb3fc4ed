"""The arrays of a plan: one description, from which their table, their checks and their file follow.

Everything a plan scores with is a weighted set of trees. A linear model is a tree of one leaf, and so is the
value of a column. Rows are scored as ``[imputed values, scaled values]``, of C columns each, so a tree on
either only differs in which columns it asks for.

A node is two words of 64 bits: the bits of the float64 threshold, and the *link*, what is tested and where
that leads::

    bit 63 ... 32   the column tested, of 2 C; -1 at a leaf
    bit 31          1 where a missing value goes to the second child
    bit 30 ... 0    the child a value <= the threshold goes to, which the other child follows;
                    at a leaf its row of the leaf table

A row of the leaf table is intercept, lowest and highest answer, and where its weights start, -1 where it
answers with the intercept alone. Weights come in whole fours, so that a line is summed four at a time.

With the experts' outputs o, each finite and within the limits, the prediction is::

    sum_q head_share[q] * clip(head_bias[q] + head_weight[q] . o, min(o) - margin[q], max(o) + margin[q])

within the limits as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple, get_type_hints

import numpy as np

from online.core.jit import Array, kernel, table_reader

__all__ = [
    "BUILT", "STORED", "ArraySpec", "ArrayTable", "PlanArrays", "Scratch", "padded",
    "read_plan", "scratch_of", "scratch_size",
]  # fmt: skip

BLOCK_ROWS = 64  # rows scored together: what they need stays in the caches closest to the core
LANES = 8  # walkers that go down trees together

# columns of the leaf table
INTERCEPT, ANSWER_LOW, ANSWER_HIGH, WEIGHTS_AT = range(4)
LEAF_COLUMNS = 4
# columns and bits of a node
NODE_THRESHOLD, NODE_LINK = range(2)
CHILD_BITS = 2**31 - 1
MISSING_RIGHT_BIT = 31
COLUMN_BIT = 32
# limits
TARGET_LOW, TARGET_HIGH, FALLBACK = range(3)


class ArraySpec(NamedTuple):
    """What one array is.

    Parameters
    ----------
    dtype
        Of its elements.
    shape
        In numbers and named dimensions, which must be the same in all arrays; ``x+1`` is one more than ``x``.
    rows_of
        The array whose rows its elements point at.
    starts_of
        The array in whose rows each part starts; the last element is where the last part ends.
    columns_of_row
        Whether its elements are columns of a row as it is scored, in [0, 2 C).
    """

    dtype: type
    shape: tuple[int | str, ...]
    rows_of: str = ""
    starts_of: str = ""
    columns_of_row: bool = False


I32, I64, F64 = np.int32, np.int64, np.float64


class PlanArrays(NamedTuple):
    """The array table of a plan as kernels see it: addresses of its arrays, then sizes, all int64."""

    # trees
    node: Annotated[int, ArraySpec(I64, ("nodes", 2))]
    leaf: Annotated[int, ArraySpec(F64, ("leaves", LEAF_COLUMNS))]
    weight: Annotated[int, ArraySpec(F64, ("weights",))]
    tree_root: Annotated[int, ArraySpec(I32, ("trees",), rows_of="node")]
    tree_weight: Annotated[int, ArraySpec(F64, ("trees",))]  # an expert's output is the sum of its trees'
    # experts
    expert_tree_start: Annotated[int, ArraySpec(I32, ("experts+1",), starts_of="tree_root")]
    expert_read_start: Annotated[int, ArraySpec(I32, ("experts+1",), starts_of="read_column")]
    expert_missing_above: Annotated[int, ArraySpec(F64, ("experts",))]  # in size, for this expert
    # what the lines of an expert read, each clipped to its bounds
    read_column: Annotated[int, ArraySpec(I32, ("reads",), columns_of_row=True)]
    read_low: Annotated[int, ArraySpec(F64, ("reads",))]
    read_high: Annotated[int, ArraySpec(F64, ("reads",))]
    read_fill: Annotated[int, ArraySpec(F64, ("reads",))]  # for a missing value
    # heads
    head_bias: Annotated[int, ArraySpec(F64, ("heads",))]
    head_margin: Annotated[int, ArraySpec(F64, ("heads",))]
    head_share: Annotated[int, ArraySpec(F64, ("heads",))]
    head_weight: Annotated[int, ArraySpec(F64, ("heads", "experts"))]
    # rows: missing values, then (value - mean) / scale, 0 for scale 0
    impute: Annotated[int, ArraySpec(F64, ("columns",))]
    mean: Annotated[int, ArraySpec(F64, ("columns",))]
    scale: Annotated[int, ArraySpec(F64, ("columns",))]

    # Built from those and the plan's info when a plan is to score, in no file
    limits: Annotated[int, ArraySpec(F64, (3,))]  # lowest and highest target, and what stands in for NaN
    expert_share: Annotated[int, ArraySpec(F64, ("experts",))]  # in the experts' disagreement, one in all
    # small trees as online.scoring.kernels.quickscorer scores them
    qs_expert: Annotated[int, ArraySpec(I32, ("experts",))]  # 1 if an expert is scored so
    qs_offset: Annotated[int, ArraySpec(I32, ("tested+1",))]  # where an expert's tests of a column start
    qs_threshold: Annotated[int, ArraySpec(F64, ("tests",))]  # rising
    qs_tree_id: Annotated[int, ArraySpec(I32, ("tests",))]  # which of the expert's trees
    qs_bitvector: Annotated[int, ArraySpec(I64, ("tests",))]  # the leaves left if the value lies beyond
    qs_leaf_start: Annotated[int, ArraySpec(I32, ("trees",))]  # where a tree's leaf values start
    qs_leaf_value: Annotated[int, ArraySpec(F64, ("values",))]  # the first child's before the second's
    qs_tree_test: Annotated[int, ArraySpec(I32, ("trees", 2))]  # where a tree's rows of qs_test start, end
    qs_test: Annotated[int, ArraySpec(I64, ("tests", 4))]  # the same tests tree by tree

    # Sizes
    columns: int  # C
    experts: int
    heads: int
    widest_line: int  # weights, whole fours
    most_trees: int  # of an expert


SPECS: dict[str, ArraySpec] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(PlanArrays, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}
BUILT = tuple(SPECS)[tuple(SPECS).index("limits") :]
# What a plan's file holds: the kernels' arrays, and three that Python reads: the cells of all context tables
# one after the other, those of the table of groups' errors, and what each expert weighs in the prediction.
STORED: dict[str, ArraySpec] = {name: spec for name, spec in SPECS.items() if name not in BUILT} | {
    "context": ArraySpec(F64, ("context cells",)),
    "group_error": ArraySpec(F64, ("groups",)),
    "expert_weight": ArraySpec(F64, ("experts",)),
}

read_plan = table_reader(PlanArrays)  # read_plan(address of the table), for kernels


def padded(width: int) -> int:
    """Weights of a line that reads so many columns: whole fours."""
    return (width + 3) // 4 * 4


def plan_sizes(arrays: Mapping[str, Array]) -> dict[str, int]:
    """The sizes in a plan's array table, by name."""
    reads, trees = np.diff(arrays["expert_read_start"]), np.diff(arrays["expert_tree_start"])
    return {
        "columns": len(arrays["impute"]),
        "experts": len(arrays["expert_missing_above"]),
        "heads": len(arrays["head_bias"]),
        "widest_line": padded(int(reads.max(initial=0))),
        "most_trees": int(trees.max(initial=0)),
    }


class ArrayTable(NamedTuple):
    """The array table of a plan, with what its addresses are of: they must live as long."""

    words: Array
    arrays: Mapping[str, Array]
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> ArrayTable:
        """The table of C-contiguous arrays, those that are built included."""
        sizes = plan_sizes(arrays)
        words = {name: arrays[name].ctypes.data for name in SPECS} | sizes
        return cls(np.array(PlanArrays(**words), np.int64), arrays, sizes)


class Scratch(NamedTuple):
    """Addresses of what a kernel notes on the way; W walkers: rows of a block, or trees of an expert.

    Every part is a multiple of 64 bytes long, but the last.
    """

    x: int  # (BLOCK_ROWS * 2 C,) float64: rows imputed, then scaled; the cell before may be read too
    by_column: int  # (2 C * BLOCK_ROWS,) float64: the same column by column
    line: int  # (BLOCK_ROWS * widest_line,) float64: what lines read of each
    total: int  # (BLOCK_ROWS,) float64: an expert's outputs so far
    gap: int  # (BLOCK_ROWS,) int64: 1 where a row misses a value
    walker: int  # (W,) int64: each walker's node, then its leaf


def scratch_size(sizes: Mapping[str, int]) -> int:
    """Cells of 8 bytes that scoring by a plan of such sizes needs."""
    walkers = max(BLOCK_ROWS, sizes["most_trees"] + LANES)
    return 1 + BLOCK_ROWS * (4 * sizes["columns"] + sizes["widest_line"] + 2) + walkers


@kernel
def scratch_of(p: PlanArrays, work: int) -> Scratch:
    """Scratch space for a plan.

    Parameters
    ----------
    p
        The plan.
    work
        The address of :func:`scratch_size` cells.

    Returns
    -------
    Scratch
        The addresses of its parts.
    """
    x = work + 8  # the cell before is what a leaf "tests", see tree_descent.step
    by_column = x + 8 * BLOCK_ROWS * 2 * p.columns
    line = by_column + 8 * BLOCK_ROWS * 2 * p.columns
    total = line + 8 * BLOCK_ROWS * p.widest_line
    gap = total + 8 * BLOCK_ROWS
    return Scratch(x, by_column, line, total, gap, gap + 8 * BLOCK_ROWS)
