"""Rows on their way down trees, several at a time.

One row in one tree waits at every branch for what it reads there. So *walkers*, each a row in a tree, go down
together, and the processor works on all of them at once; a step has no jump to guess, and a walker that is at
its leaf stays there. In a batch the walkers are many rows in one tree, in a single request one row in many
trees.
"""

from __future__ import annotations

from online.core.jit import kernel, load_f64, load_i64, store_i64
from online.scoring.kernels.plan_arrays import CHILD_BITS, FEATURE_BIT, GAP_BIT, LANES, PlanArrays, Scratch

__all__ = ["child", "descend", "descend_with_gaps"]


@kernel
def child(p: PlanArrays, node: int, way: int, value: float) -> int:
    """Where a value leads from a branch; ``way`` is the second part of its node."""
    return (way & CHILD_BITS) + (not value <= load_f64(p.node, 2 * node))


@kernel
def step(p: PlanArrays, node: int, way: int, x: int) -> int:
    """The node after this one for the row at an address: itself at a leaf, which reads the cell before."""
    below = child(p, node, way, load_f64(x, way >> FEATURE_BIT))
    return int(below ^ ((below ^ node) & (way >> 63)))


@kernel
def way_of(p: PlanArrays, node: int) -> int:
    """The second part of a node."""
    return int(load_i64(p.node, 2 * node + 1))


@kernel
def descend(p: PlanArrays, s: Scratch, at: int, stride: int, count: int) -> None:
    """Bring ``count`` walkers to their leaves.

    Walker i starts at node ``place[i]``, where its leaf's row of the leaf table is left; what it walks by
    starts at ``x[at + i * stride]``. Walkers up to whole eights go along, to nowhere in particular.
    """
    for i in range(count, (count + LANES - 1) // LANES * LANES):
        store_i64(s.place, i, load_i64(s.place, 0))
    for i in range(0, count, LANES):
        eight(p, s.place + 8 * i, s.x + 8 * (at + i * stride), 8 * stride)


@kernel
def eight(p: PlanArrays, place: int, x: int, row: int) -> None:
    """Bring eight walkers to their leaves; each row starts ``row`` bytes after the one before."""
    a, b, c, d = load_i64(place, 0), load_i64(place, 1), load_i64(place, 2), load_i64(place, 3)
    e, f, g, h = load_i64(place, 4), load_i64(place, 5), load_i64(place, 6), load_i64(place, 7)
    at_a, at_b, at_c, at_d = way_of(p, a), way_of(p, b), way_of(p, c), way_of(p, d)
    at_e, at_f, at_g, at_h = way_of(p, e), way_of(p, f), way_of(p, g), way_of(p, h)
    while at_a & at_b & at_c & at_d & at_e & at_f & at_g & at_h >= 0:
        a, b = step(p, a, at_a, x), step(p, b, at_b, x + row)
        c, d = step(p, c, at_c, x + 2 * row), step(p, d, at_d, x + 3 * row)
        e, f = step(p, e, at_e, x + 4 * row), step(p, f, at_f, x + 5 * row)
        g, h = step(p, g, at_g, x + 6 * row), step(p, h, at_h, x + 7 * row)
        at_a, at_b, at_c, at_d = way_of(p, a), way_of(p, b), way_of(p, c), way_of(p, d)
        at_e, at_f, at_g, at_h = way_of(p, e), way_of(p, f), way_of(p, g), way_of(p, h)
    for i, at in enumerate((at_a, at_b, at_c, at_d, at_e, at_f, at_g, at_h)):
        store_i64(place, i, at & CHILD_BITS)


@kernel
def descend_with_gaps(p: PlanArrays, s: Scratch, at: int, node: int, reach: float) -> int:
    """The leaf's node of one row that has values which count as missing."""
    way = way_of(p, node)
    while way >= 0:
        value = load_f64(s.x, at + (way >> FEATURE_BIT))
        if abs(value) <= reach:
            node = child(p, node, way, value)
        else:
            node = (way & CHILD_BITS) + ((way >> GAP_BIT) & 1)
        way = way_of(p, node)
    return node
