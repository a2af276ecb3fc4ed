"""Rows on their way down trees, several at a time.

One row in one tree waits at every branch for what it reads there. So *walkers*, each a row in a tree, go down
together, and the processor works on all of them at once: interleaved traversal, as in Asadi, Lin and de Vries
(2014, Runtime optimizations for tree-based machine learning models; their VPred). A step has no jump to
guess, and a walker that is at its leaf stays there. In a batch the walkers are many rows in one tree, in a
single request one row in many trees.

Nodes are laid out as :mod:`online.scoring.kernels.plan_arrays` says: two children are neighbours, so the one
a value leads to is an addition, and threshold and link share a cache line.

Kernels, because a row passes some 2,000 nodes in a few microseconds; in Python a node costs 50 ns at the
least, so a row some 100 us.
"""

from __future__ import annotations

from online.core.jit import kernel, load_f64, load_i64, store_i64
from online.scoring.kernels.plan_arrays import (
    CHILD_BITS,
    COLUMN_BIT,
    LANES,
    MISSING_RIGHT_BIT,
    PlanArrays,
    Scratch,
)

__all__ = ["descend", "descend_with_gaps"]


@kernel
def link_of(p: PlanArrays, node: int) -> int:
    """The second word of a node."""
    return int(load_i64(p.node, 2 * node + 1))


@kernel
def child(p: PlanArrays, node: int, link: int, value: float) -> int:
    """Where a value leads from a branch; ``not <=``, so that NaN goes to the second child."""
    return (link & CHILD_BITS) + (not value <= load_f64(p.node, 2 * node))


@kernel
def step(p: PlanArrays, node: int, link: int, x: int) -> int:
    """The node after this one for the row at an address: itself at a leaf.

    A leaf "tests" column -1, the cell before the row: reading it costs less than a jump around it. The link
    of a leaf is negative, so its sign, spread over all bits, chooses between the child and the node itself.
    """
    below = child(p, node, link, load_f64(x, link >> COLUMN_BIT))
    return int(below ^ ((below ^ node) & (link >> 63)))


@kernel
def descend(p: PlanArrays, s: Scratch, offset: int, stride: int, count: int) -> None:
    """Bring walkers to their leaves.

    Walker i starts at node ``s.walker[i]``, where its leaf's row of the leaf table is left; the row it walks
    by starts at ``s.x[offset + i * stride]``. Walkers up to whole eights go along, to nowhere in particular.

    Parameters
    ----------
    p, s
        The plan, and scratch space with rows and walkers.
    offset, stride
        Where the first walker's row starts, and how far on the next one's does.
    count
        How many walkers there are.
    """
    for i in range(count, (count + LANES - 1) // LANES * LANES):
        store_i64(s.walker, i, load_i64(s.walker, 0))
    for i in range(0, count, LANES):
        descend_eight(p, s.walker + 8 * i, s.x + 8 * (offset + i * stride), 8 * stride)


@kernel
def descend_eight(p: PlanArrays, walker: int, x: int, row: int) -> None:
    """Bring eight walkers to their leaves; each row starts ``row`` bytes after the one before.

    Eight variables in place of an array of eight: they stay in registers. All links are negative when their
    conjunction is, as a sign is one bit.
    """
    a, b, c, d = load_i64(walker, 0), load_i64(walker, 1), load_i64(walker, 2), load_i64(walker, 3)
    e, f, g, h = load_i64(walker, 4), load_i64(walker, 5), load_i64(walker, 6), load_i64(walker, 7)
    link_a, link_b, link_c, link_d = link_of(p, a), link_of(p, b), link_of(p, c), link_of(p, d)
    link_e, link_f, link_g, link_h = link_of(p, e), link_of(p, f), link_of(p, g), link_of(p, h)
    while link_a & link_b & link_c & link_d & link_e & link_f & link_g & link_h >= 0:
        a, b = step(p, a, link_a, x), step(p, b, link_b, x + row)
        c, d = step(p, c, link_c, x + 2 * row), step(p, d, link_d, x + 3 * row)
        e, f = step(p, e, link_e, x + 4 * row), step(p, f, link_f, x + 5 * row)
        g, h = step(p, g, link_g, x + 6 * row), step(p, h, link_h, x + 7 * row)
        link_a, link_b, link_c, link_d = link_of(p, a), link_of(p, b), link_of(p, c), link_of(p, d)
        link_e, link_f, link_g, link_h = link_of(p, e), link_of(p, f), link_of(p, g), link_of(p, h)
    for i, link in enumerate((link_a, link_b, link_c, link_d, link_e, link_f, link_g, link_h)):
        store_i64(walker, i, link & CHILD_BITS)


@kernel
def descend_with_gaps(p: PlanArrays, s: Scratch, offset: int, node: int, missing_above: float) -> int:
    """The leaf's node of a row that has values which count as missing.

    Parameters
    ----------
    p, s
        The plan, and scratch space with the row.
    offset
        Where in ``s.x`` the row starts.
    node
        The tree's root.
    missing_above
        A value further from 0 counts as missing.

    Returns
    -------
    int
        The node; its link says which row of the leaf table it has.
    """
    link = link_of(p, node)
    while link >= 0:
        value = load_f64(s.x, offset + (link >> COLUMN_BIT))
        if abs(value) <= missing_above:
            node = child(p, node, link, value)
        else:
            node = (link & CHILD_BITS) + ((link >> MISSING_RIGHT_BIT) & 1)
        link = link_of(p, node)
    return node
