"""Keeping a forest within its bytes: first observers go, of the leaves with least to gain, then subtrees.

As in Domingos and Hulten 2000 (section 3, "memory"), a leaf's merit is the weight that reaches it times its
error; here recent rows count most. A leaf without observers goes on predicting, and learning its mean and
lines; it observes again once its merit is above twice that of the best leaf that lost its observers last. It
is needed so rarely that this is plain NumPy, which spares its compilation.
"""

from __future__ import annotations

import numpy as np

from online.forest import forest_state as state
from online.forest.forest_state import Array, Arrays

__all__ = ["keep_budget"]

FREED_PART = 10  # one in so many is given up at a time


def keep_budget(forest: Arrays, reserve: int) -> None:
    """Free nodes and slots for the rows to come.

    Parameters
    ----------
    forest
        The forest's arrays.
    reserve
        So many of each can be taken within the budget afterwards.
    """
    counts = forest.counts
    room = counts[state.N_SLOTS_MAX] - counts[state.N_SLOTS_HIGH] + counts[state.N_SLOTS_FREE]
    if room < reserve:
        drop_observers(forest, int(reserve - room + counts[state.N_SLOTS_MAX] // FREED_PART))
    most = counts[state.N_NODES_MAX]
    if free_nodes(forest) >= reserve:
        return
    pairs = int(most // (4 * FREED_PART) + 1)
    while free_nodes(forest) < reserve + most // FREED_PART and prune(forest, pairs):
        pass


def free_nodes(forest: Arrays) -> int:
    """How many nodes the budget still allows."""
    counts = forest.counts
    return int(counts[state.N_NODES_MAX] - counts[state.N_NODES_HIGH] + counts[state.N_NODES_FREE])


def visits(forest: Arrays, nodes: Array) -> Array:
    """The faded weight of the rows that came to leaves, as `leaf.faded_visits`."""
    f = forest.node_f[nodes]
    age = f[:, state.NODE_SEEN] - forest.counts[state.N_ROWS]
    return f[:, state.NODE_VISITS] * np.exp(age / forest.par[state.P_HORIZON])


def merits(forest: Arrays, nodes: Array) -> Array:
    """What splitting leaves could gain, as `tree.merit`."""
    errors = forest.node_f[nodes, state.NODE_ERROR_MEAN : state.NODE_ERROR_FAST + 1]
    return visits(forest, nodes) * errors.min(axis=1)


def drop_observers(forest: Arrays, count: int) -> None:
    """Take the observers from the ``count`` leaves with least to gain."""
    i = forest.node_i[: forest.counts[state.N_NODES_HIGH]]
    leaves = np.flatnonzero((i[:, state.NODE_OWNER] != state.ABSENT) & (i[:, state.NODE_SLOT] >= 0))
    leaf_merits = merits(forest, leaves)
    order = np.argsort(leaf_merits, kind="stable")[:count]
    if len(order):
        forest.par[state.P_MERIT_BAR] = leaf_merits[order[-1]]
    release_slots(forest, leaves[order])
    forest.node_i[leaves[order], state.NODE_SLOT] = state.DROPPED
    forest.counts[state.N_OBSERVERS_DROPPED] += len(order)


def prune(forest: Arrays, count: int) -> bool:
    """Collapse the ``count`` least useful pairs of leaves into their parents; whether there was any."""
    i = forest.node_i[: forest.counts[state.N_NODES_HIGH]]
    branches = np.flatnonzero((i[:, state.NODE_OWNER] != state.ABSENT) & (i[:, state.NODE_FEATURE] >= 0))
    children = i[branches][:, [state.NODE_LEFT, state.NODE_RIGHT]]
    branches = branches[(i[children, state.NODE_FEATURE] < 0).all(axis=1)]
    children = i[branches][:, [state.NODE_LEFT, state.NODE_RIGHT]]
    weight = visits(forest, children[:, 0]) + visits(forest, children[:, 1])
    gain, targets = forest.node_f[branches][:, [state.NODE_GAIN, state.NODE_N]].T
    use = weight * gain / np.maximum(1.0, targets)
    order = np.argsort(use, kind="stable")[:count]
    if len(order):
        collapse(forest, branches[order], children[order, 0], children[order, 1])
        best = merits(forest, branches[order]).max()
        forest.par[state.P_MERIT_BAR] = max(forest.par[state.P_MERIT_BAR], best)
    return len(order) > 0


def collapse(forest: Arrays, nodes: Array, left: Array, right: Array) -> None:
    """Make branches over two leaves into leaves that know what both knew: pooled moments, averaged lines."""
    f, a, b = forest.node_f[nodes], forest.node_f[left], forest.node_f[right]
    weight_a, weight_b = visits(forest, left), visits(forest, right)
    both = weight_a + weight_b
    share = np.divide(weight_a, both, out=np.full(len(nodes), 0.5), where=both > 0.0)
    n = a[:, state.NODE_N] + b[:, state.NODE_N]
    part = np.divide(b[:, state.NODE_N], n, out=np.zeros(len(nodes)), where=n > 0.0)
    gap = b[:, state.NODE_MEAN] - a[:, state.NODE_MEAN]
    f[:, state.NODE_M2] = a[:, state.NODE_M2] + b[:, state.NODE_M2] + gap * gap * a[:, state.NODE_N] * part
    f[:, state.NODE_MEAN] = a[:, state.NODE_MEAN] + gap * part
    f[:, state.NODE_N] = n
    for column in (state.NODE_ERROR_MEAN, state.NODE_ERROR_SLOW, state.NODE_ERROR_FAST):
        f[:, column] = np.maximum(a[:, column], b[:, column])
    f[:, state.NODE_VISITS] = both
    f[:, state.NODE_SEEN] = forest.counts[state.N_ROWS]
    f[:, state.NODE_GAIN] = 0.0
    forest.node_f[nodes] = f
    mix = share[:, None, None]
    for lines in (forest.line, forest.shadow):
        lines[nodes] = mix * lines[left] + (1.0 - mix) * lines[right]
    release_nodes(forest, np.concatenate((left, right)))
    forest.node_i[nodes[:, None], [state.NODE_FEATURE, state.NODE_LEFT, state.NODE_RIGHT]] = state.ABSENT
    forest.node_i[nodes, state.NODE_MASK], forest.node_i[nodes, state.NODE_SLOT] = 0, state.DROPPED
    forest.counts[state.N_PRUNED] += len(nodes)


def release_slots(forest: Arrays, nodes: Array) -> None:
    """Put leaves' observers back into the pool."""
    slots = forest.node_i[nodes, state.NODE_SLOT]
    slots = slots[slots >= 0]
    free = int(forest.counts[state.N_SLOTS_FREE])
    forest.free_slot[free : free + len(slots)] = slots
    forest.counts[state.N_SLOTS_FREE] += len(slots)
    forest.node_i[nodes, state.NODE_SLOT] = state.ABSENT


def release_nodes(forest: Arrays, nodes: Array) -> None:
    """Put nodes and what they observe back into the pools."""
    release_slots(forest, nodes)
    forest.node_i[nodes, state.NODE_OWNER] = state.ABSENT
    free = int(forest.counts[state.N_NODES_FREE])
    forest.free_node[free : free + len(nodes)] = nodes
    forest.counts[state.N_NODES_FREE] += len(nodes)
