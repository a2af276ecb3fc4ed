"""Keeping a forest within its bytes: first observers go, of the leaves with least to gain, then subtrees.

As in Domingos and Hulten 2000 (section 3, "memory"), a leaf's promise is the weight that reaches it times its
error; here recent rows count most. A silenced leaf goes on predicting and learning its mean and line; it
observes again once its worth is above twice that of the best leaf that was silenced last. This is needed so
rarely that it is plain NumPy, which spares its compilation.
"""

from __future__ import annotations

import numpy as np

from online.forest import forest_state as state
from online.forest.forest_state import Array, Arrays

__all__ = ["keep_budget"]

PART = 10  # one in so many is given up at a time


def keep_budget(s: Arrays, need: int) -> None:
    """Free nodes and slots until ``need`` of each can be taken within the budget."""
    c = s.counts
    room = c[state.MAX_SLOTS] - c[state.SLOT_HIGH] + c[state.SLOT_FREE]
    if room < need:
        silence(s, int(need - room + c[state.MAX_SLOTS] // PART))
    most = c[state.MAX_NODES]
    if free_nodes(s) >= need:
        return
    while free_nodes(s) < need + most // PART and prune(s, int(most // (4 * PART) + 1)):
        pass


def free_nodes(s: Arrays) -> int:
    """How many nodes the budget still allows."""
    c = s.counts
    return int(c[state.MAX_NODES] - c[state.NODE_HIGH] + c[state.NODE_FREE])


def visits(s: Arrays, nodes: Array) -> Array:
    """The faded weight of the rows that came to leaves, as `leaf.faded_visits`."""
    f = s.node_f[nodes]
    age = f[:, state.SEEN] - s.counts[state.ROWS]
    return f[:, state.VISITS] * np.exp(age / s.par[state.HORIZON])


def worths(s: Arrays, nodes: Array) -> Array:
    """What splitting leaves could gain, as `tree.worth`."""
    errors = s.node_f[nodes, state.E_MEAN : state.E_FAST + 1]
    return visits(s, nodes) * errors.min(axis=1)


def silence(s: Arrays, count: int) -> None:
    """Take the observers from the ``count`` leaves with least to gain."""
    i = s.node_i[: s.counts[state.NODE_HIGH]]
    leaves = np.flatnonzero((i[:, state.OWNER] != state.NONE) & (i[:, state.SLOT] >= 0))
    promise = worths(s, leaves)
    order = np.argsort(promise, kind="stable")[:count]
    if len(order):
        s.par[state.BAR] = promise[order[-1]]
    release_slots(s, leaves[order])
    s.node_i[leaves[order], state.SLOT] = state.SILENT
    s.counts[state.SILENCED] += len(order)


def prune(s: Arrays, count: int) -> bool:
    """Fold the ``count`` least useful pairs of leaves into their parents; whether there was any."""
    i = s.node_i[: s.counts[state.NODE_HIGH]]
    branches = np.flatnonzero((i[:, state.OWNER] != state.NONE) & (i[:, state.FEATURE] >= 0))
    children = i[branches][:, [state.LEFT, state.RIGHT]]
    branches = branches[(i[children, state.FEATURE] < 0).all(axis=1)]
    children = i[branches][:, [state.LEFT, state.RIGHT]]
    weight = visits(s, children[:, 0]) + visits(s, children[:, 1])
    use = weight * s.node_f[branches, state.GAIN] / np.maximum(1.0, s.node_f[branches, state.N])
    order = np.argsort(use, kind="stable")[:count]
    if len(order):
        fold(s, branches[order], children[order, 0], children[order, 1])
        s.par[state.BAR] = max(s.par[state.BAR], worths(s, branches[order]).max())
    return len(order) > 0


def fold(s: Arrays, nodes: Array, left: Array, right: Array) -> None:
    """Make branches over two leaves leaves again that know what both knew."""
    f, a, b = s.node_f[nodes], s.node_f[left], s.node_f[right]
    weight_a, weight_b = visits(s, left), visits(s, right)
    both = weight_a + weight_b
    share = np.divide(weight_a, both, out=np.full(len(nodes), 0.5), where=both > 0.0)
    n = a[:, state.N] + b[:, state.N]
    part = np.divide(b[:, state.N], n, out=np.zeros(len(nodes)), where=n > 0.0)
    gap = b[:, state.MEAN] - a[:, state.MEAN]
    f[:, state.M2] = a[:, state.M2] + b[:, state.M2] + gap * gap * a[:, state.N] * part
    f[:, state.MEAN] = a[:, state.MEAN] + gap * part
    f[:, state.N] = n
    for column in (state.E_MEAN, state.E_SLOW, state.E_FAST):
        f[:, column] = np.maximum(a[:, column], b[:, column])
    f[:, state.VISITS], f[:, state.SEEN], f[:, state.GAIN] = both, s.counts[state.ROWS], 0.0
    s.node_f[nodes] = f
    mix = share[:, None, None]
    for lines in (s.line, s.shadow):
        lines[nodes] = mix * lines[left] + (1.0 - mix) * lines[right]
    release_nodes(s, np.concatenate((left, right)))
    s.node_i[nodes[:, None], [state.FEATURE, state.LEFT, state.RIGHT]] = state.NONE
    s.node_i[nodes, state.MASK], s.node_i[nodes, state.SLOT] = 0, state.SILENT
    s.counts[state.PRUNED] += len(nodes)


def release_slots(s: Arrays, nodes: Array) -> None:
    """Put leaves' observers back into the pool."""
    slots = s.node_i[nodes, state.SLOT]
    slots = slots[slots >= 0]
    free = int(s.counts[state.SLOT_FREE])
    s.free_slot[free : free + len(slots)] = slots
    s.counts[state.SLOT_FREE] += len(slots)
    s.node_i[nodes, state.SLOT] = state.NONE


def release_nodes(s: Arrays, nodes: Array) -> None:
    """Put nodes and what they observe back into the pools."""
    release_slots(s, nodes)
    s.node_i[nodes, state.OWNER] = state.NONE
    free = int(s.counts[state.NODE_FREE])
    s.free_node[free : free + len(nodes)] = nodes
    s.counts[state.NODE_FREE] += len(nodes)
