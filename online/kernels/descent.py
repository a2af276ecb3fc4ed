"""Rows on their way down trees, many at a time.

One row in one tree waits at every branch for what it reads there. So a *walker*, which is a row in a tree,
takes one step, then the next walker does, and the processor works on many at once; the step itself has no
jump to guess. In a batch the walkers are many rows in one tree, in a single request one row in many trees.
"""

from __future__ import annotations

from online.kernels.arrays import CHILD_BITS, FEATURE_BIT, GAP_BIT, PlanArrays, Scratch
from online.kernels.compiled import kernel, put_whole, real, whole

__all__ = ["child", "descend", "descend_with_gaps"]


@kernel
def child(p: PlanArrays, node: int, way: int, value: float) -> int:
    """Where a value leads from a branch; ``way`` is the second part of its node."""
    return (way & CHILD_BITS) + (not value <= real(p.node, 2 * node))


@kernel
def descend(p: PlanArrays, s: Scratch, count: int) -> None:
    """Bring ``count`` walkers to their leaves.

    Walker i starts at node ``place[i]``, where its leaf's node is left; its row starts at ``x[start[i]]``.
    """
    going = 0
    for i in range(count):
        put_whole(s.active, going, i)
        going += whole(p.node, 2 * whole(s.place, i) + 1) >= 0
    while going > 0:
        left = 0
        for j in range(going):
            i = whole(s.active, j)
            here = whole(s.place, i)
            way = whole(p.node, 2 * here + 1)
            below = child(p, here, way, real(s.x, whole(s.start, i) + (way >> FEATURE_BIT)))
            put_whole(s.place, i, below)
            put_whole(s.active, left, i)
            left += whole(p.node, 2 * below + 1) >= 0
        going = left


@kernel
def descend_with_gaps(p: PlanArrays, s: Scratch, at: int, node: int, reach: float) -> int:
    """The leaf's node of one row that has values which count as missing."""
    way = whole(p.node, 2 * node + 1)
    while way >= 0:
        value = real(s.x, at + (way >> FEATURE_BIT))
        if abs(value) <= reach:
            node = child(p, node, way, value)
        else:
            node = (way & CHILD_BITS) + ((way >> GAP_BIT) & 1)
        way = whole(p.node, 2 * node + 1)
    return node
