"""Keeping a forest within its bytes: first observers go, of the leaves with least to gain, then subtrees.

As in Domingos and Hulten 2000 (section 3, "memory"), a leaf's promise is the weight that reaches it times its
error; here recent rows count most. A silenced leaf goes on predicting and learning its mean and line; it
observes again once its worth is above twice that of the best leaf that was silenced last.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from online.forest.leaf import faded_visits
from online.forest.state import (
    BAR,
    E_FAST,
    E_MEAN,
    E_SLOW,
    FEATURE,
    GAIN,
    LEFT,
    M2,
    MASK,
    MAX_NODES,
    MAX_SLOTS,
    MEAN,
    NODE_FREE,
    NODE_HIGH,
    NONE,
    OWNER,
    PRUNED,
    RIGHT,
    ROWS,
    SEEN,
    SILENCED,
    SILENT,
    SLOT,
    SLOT_FREE,
    SLOT_HIGH,
    VISITS,
    Arrays,
    N,
)
from online.forest.tree import release_node, release_slot, worth

__all__ = ["keep_budget"]

PART = 10  # one in so many is given up at a time


@njit(error_model="numpy")
def keep_budget(s: Arrays, need: int) -> None:
    """Free nodes and slots until ``need`` of each can be taken within the budget."""
    c = s.counts
    room = c[MAX_SLOTS] - c[SLOT_HIGH] + c[SLOT_FREE]
    if room < need:
        silence(s, need - room + c[MAX_SLOTS] // PART)
    if c[MAX_NODES] - c[NODE_HIGH] + c[NODE_FREE] >= need:
        return
    while c[MAX_NODES] - c[NODE_HIGH] + c[NODE_FREE] < need + c[MAX_NODES] // PART:
        if not prune(s, c[MAX_NODES] // (4 * PART) + 1):
            break


@njit(error_model="numpy")
def silence(s: Arrays, count: int) -> None:
    """Take the observers from the ``count`` leaves with least to gain."""
    leaves = np.empty(s.counts[SLOT_HIGH], np.int64)
    promise = np.empty(s.counts[SLOT_HIGH])
    n = 0
    for node in range(s.counts[NODE_HIGH]):
        if s.node_i[node, OWNER] != NONE and s.node_i[node, SLOT] >= 0:
            leaves[n], promise[n] = node, worth(s, node)
            n += 1
    order = np.argsort(promise[:n], kind="mergesort")
    for place in range(min(n, count)):
        leaf = leaves[order[place]]
        s.par[BAR] = promise[order[place]]
        release_slot(s, leaf)
        s.node_i[leaf, SLOT] = SILENT
        s.counts[SILENCED] += 1


@njit(error_model="numpy")
def prune(s: Arrays, count: int) -> bool:
    """Fold the ``count`` least useful pairs of leaves into their parents; whether there was any."""
    high = s.counts[NODE_HIGH]
    branches = np.empty(high, np.int64)
    use = np.empty(high)
    n = 0
    for node in range(high):
        if s.node_i[node, OWNER] == NONE or s.node_i[node, FEATURE] < 0:
            continue
        left, right = s.node_i[node, LEFT], s.node_i[node, RIGHT]
        if s.node_i[left, FEATURE] < 0 and s.node_i[right, FEATURE] < 0:
            branches[n] = node
            weight = faded_visits(s, left) + faded_visits(s, right)
            use[n] = weight * s.node_f[node, GAIN] / max(1.0, s.node_f[node, N])
            n += 1
    order = np.argsort(use[:n], kind="mergesort")
    for place in range(min(n, count)):
        branch = branches[order[place]]
        fold(s, branch)
        s.par[BAR] = max(s.par[BAR], worth(s, branch))
    return n > 0


@njit(error_model="numpy")
def fold(s: Arrays, node: int) -> None:
    """Make a branch over two leaves a leaf again that knows what both knew."""
    left, right = s.node_i[node, LEFT], s.node_i[node, RIGHT]
    a, b, f = s.node_f[left], s.node_f[right], s.node_f[node]
    weight_a, weight_b = faded_visits(s, left), faded_visits(s, right)
    share = weight_a / (weight_a + weight_b) if weight_a + weight_b > 0.0 else 0.5
    n = a[N] + b[N]
    gap = b[MEAN] - a[MEAN]
    f[M2] = a[M2] + b[M2] + (gap * gap * a[N] * b[N] / n if n > 0.0 else 0.0)
    f[MEAN] = a[MEAN] + (gap * b[N] / n if n > 0.0 else 0.0)
    f[N] = n
    s.line[node] = share * s.line[left] + (1.0 - share) * s.line[right]
    s.shadow[node] = share * s.shadow[left] + (1.0 - share) * s.shadow[right]
    for column in (E_MEAN, E_SLOW, E_FAST):
        f[column] = max(a[column], b[column])
    f[VISITS], f[SEEN], f[GAIN] = weight_a + weight_b, s.counts[ROWS], 0.0
    release_node(s, left)
    release_node(s, right)
    i = s.node_i[node]
    i[FEATURE] = i[LEFT] = i[RIGHT] = NONE
    i[MASK], i[SLOT] = 0, SILENT
    s.counts[PRUNED] += 1
