"""The trees: nodes in a pool, the way of a row down to its leaf, splits, and planting and felling of whole
trees."""

from __future__ import annotations

import math

from online.core.jit import prefetch
from online.forest.forest_state import (
    ATTEMPT,
    BAR,
    BINS,
    C_DEFAULT,
    C_HIGH,
    C_LEFT_N,
    C_LOW,
    C_MASK,
    C_MERIT,
    C_PLACE,
    C_RIGHT_N,
    C_SEEN,
    C_THRESHOLD,
    DEFAULT,
    DELTA,
    DEPTH,
    E_FAST,
    E_MEAN,
    E_SLOW,
    FEATURE,
    GAIN,
    GRACE,
    INVERSE,
    LEFT,
    LINES,
    LOW,
    M2,
    MASK,
    MAX_DEPTH,
    MAX_SLOTS,
    MEAN,
    MIN_BRANCH,
    MIN_GAIN,
    NODE_FREE,
    NODE_HIGH,
    NONE,
    OBSERVED,
    OUTSIDE,
    OWNER,
    PARENT,
    RIGHT,
    ROWS,
    SEEN,
    SHIFT,
    SILENT,
    SINCE,
    SLOT,
    SLOT_FREE,
    SLOT_HIGH,
    TAU,
    THRESHOLD,
    UNIT,
    VISITS,
    Y_MEAN,
    Y_VAR,
    Array,
    Arrays,
    N,
    copy,
    kernel,
)
from online.forest.leaf import best_error, faded_visits, learn_leaf
from online.forest.observers import fetch_bins, observe
from online.forest.random_state import uniform
from online.forest.split_search import best_cut, is_significant

__all__ = [
    "fell", "fetch_leaves", "find_leaves", "goes_left", "learn_tree", "plant", "release_node", "release_slot",
    "worth",
]  # fmt: skip

TOGETHER = 8  # doubles that memory gives at once


@kernel
def goes_left(s: Arrays, node: int, x: Array) -> bool:
    """Which way a row goes at a branch; by the learned default if its value is missing or unseen."""
    value = x[s.node_i[node, FEATURE]]
    if math.isnan(value):
        return s.node_i[node, DEFAULT] != 0
    mask = s.node_i[node, MASK]
    if mask == 0:
        return value <= s.node_f[node, THRESHOLD]
    code = int(value)
    if (mask >> (BINS + code)) & 1:
        return (mask >> code) & 1 != 0
    return s.node_i[node, DEFAULT] != 0


@kernel
def find_leaves(s: Arrays, x: Array) -> None:
    """Write each tree's leaf of a row into ``s.leaf``, NONE where there is no tree.

    All trees go down together, a step at a time: their nodes are far apart in memory, and so they come
    together.
    """
    leaf = s.leaf
    copy(leaf, s.root)
    below = True
    while below:
        below = False
        for tree in range(leaf.shape[0]):
            node = leaf[tree]
            if node != NONE and s.node_i[node, FEATURE] >= 0:
                node = s.node_i[node, LEFT] if goes_left(s, node, x) else s.node_i[node, RIGHT]
                prefetch(s.node_i[node])
                prefetch(s.node_f[node])
                leaf[tree] = node
                below = True


@kernel
def fetch_leaves(s: Arrays) -> None:
    """Have the lines and bins' spans of the leaves in ``s.leaf`` brought nearer."""
    for tree in range(s.leaf.shape[0]):
        node = s.leaf[tree]
        if node != NONE:
            fetch_rows(s.line[node])
            fetch_rows(s.shadow[node])
            if s.node_i[node, SLOT] >= 0:
                fetch_rows(s.span[s.node_i[node, SLOT]])


@kernel
def fetch_rows(rows: Array) -> None:
    """Have rows of doubles brought nearer."""
    for i in range(rows.shape[0]):
        for j in range(0, rows.shape[1], TOGETHER):
            prefetch(rows[i, j:])


@kernel
def take_node(s: Arrays, tree: int, parent: int, depth: int) -> int:
    """An empty leaf from the pool, which has room: the caller has seen to that."""
    c = s.counts
    if c[NODE_FREE] > 0:
        c[NODE_FREE] -= 1
        node = s.free_node[c[NODE_FREE]]
    else:
        node = c[NODE_HIGH]
        c[NODE_HIGH] += 1
    s.node_i[node] = 0
    s.node_f[node] = 0.0
    s.line[node] = 0.0
    s.shadow[node] = 0.0
    i = s.node_i[node]
    i[FEATURE] = i[LEFT] = i[RIGHT] = i[SLOT] = NONE
    i[PARENT], i[DEPTH], i[OWNER] = parent, depth, tree
    return node


@kernel
def take_slot(s: Arrays, node: int) -> None:
    """Give a leaf empty observers, if the budget allows."""
    c = s.counts
    if c[SLOT_FREE] > 0:
        c[SLOT_FREE] -= 1
        slot = s.free_slot[c[SLOT_FREE]]
    elif c[SLOT_HIGH] < c[MAX_SLOTS] and c[SLOT_HIGH] < s.free_slot.shape[0]:
        slot = c[SLOT_HIGH]
        c[SLOT_HIGH] += 1
    else:
        return
    s.bins[slot] = 0.0
    s.span[slot] = 0.0
    deviation = math.sqrt(s.par[Y_VAR])
    s.slot_f[slot, SHIFT] = s.par[Y_MEAN]
    s.slot_f[slot, UNIT] = deviation if deviation > 0.0 else 1.0
    s.node_i[node, SLOT] = slot
    s.node_f[node, OBSERVED] = s.node_f[node, ATTEMPT] = 0.0


@kernel
def release_slot(s: Arrays, node: int) -> None:
    """Put a leaf's observers back into the pool."""
    slot = s.node_i[node, SLOT]
    if slot >= 0:
        s.free_slot[s.counts[SLOT_FREE]] = slot
        s.counts[SLOT_FREE] += 1
    s.node_i[node, SLOT] = NONE


@kernel
def release_node(s: Arrays, node: int) -> None:
    """Put a node and what it observes back into the pools."""
    release_slot(s, node)
    s.node_i[node, OWNER] = NONE
    s.free_node[s.counts[NODE_FREE]] = node
    s.counts[NODE_FREE] += 1


@kernel
def plant(s: Arrays, tree: int, generator: int, share: float, features: int) -> int:
    """Start a tree of one leaf, which is returned, on a random subspace (Gomes, Read and Bifet 2019, SRP)."""
    chosen = min(s.subspace.shape[1], max(1, math.ceil(share * features))) if features else 0
    s.subspace[tree] = NONE
    taken = 0
    for j in range(
        features
    ):  # selection sampling (Knuth, The Art of Computer Programming, 3.4.2 S): in order
        if uniform(s.rng, generator) * (features - j) < chosen - taken:
            s.subspace[tree, taken] = j
            taken += 1
    root = take_node(s, tree, NONE, 0)
    s.node_f[root, MEAN] = s.line[root, 0, features] = s.line[root, 1, features] = s.par[Y_MEAN]
    for line in range(s.shadow.shape[1]):
        s.shadow[root, line, features] = s.par[Y_MEAN]
    s.node_f[root, SINCE] = s.counts[ROWS]
    s.root[tree] = root
    return root


@kernel
def fell(s: Arrays, tree: int) -> None:
    """Give all nodes of a tree back."""
    if s.root[tree] == NONE:
        return
    stack = s.order
    stack[0] = s.root[tree]
    waiting = 1
    while waiting > 0:
        waiting -= 1
        node = stack[waiting]
        if s.node_i[node, FEATURE] >= 0:
            stack[waiting], stack[waiting + 1] = s.node_i[node, LEFT], s.node_i[node, RIGHT]
            waiting += 2
        release_node(s, node)
    s.root[tree] = NONE


@kernel
def worth(s: Arrays, leaf: int) -> float:
    """The squared error that lies in a leaf, recent rows first: what splitting it could gain."""
    f = s.node_f[leaf]
    return faded_visits(s, leaf) * best_error(f)


@kernel
def learn_tree(s: Arrays, tree: int, leaf: int, x: Array, filled: Array, y: float, weight: float) -> None:
    """Teach one tree a row that came to ``leaf``, and split that when it is time."""
    if s.node_i[leaf, SLOT] >= 0:
        fetch_bins(s, s.node_i[leaf, SLOT], tree, x)
    learn_leaf(s, leaf, filled, y, weight)
    i, f = s.node_i[leaf], s.node_f[leaf]
    if i[SLOT] == NONE or (i[SLOT] == SILENT and worth(s, leaf) > 2.0 * s.par[BAR]):
        take_slot(s, leaf)
    if i[SLOT] < 0:
        return
    observe(s, i[SLOT], tree, x, y, weight, f[OBSERVED])
    f[OBSERVED] += weight
    if f[OBSERVED] - f[ATTEMPT] >= s.par[GRACE] and i[DEPTH] < s.par[MAX_DEPTH]:
        f[ATTEMPT] = f[OBSERVED]
        cut = s.cut[0]
        best_cut(s, i[SLOT], tree, f[OBSERVED], s.par[MIN_BRANCH], cut, s.cut[1])
        if cut[C_MERIT] > s.par[MIN_GAIN] and is_significant(cut, f[OBSERVED], s.par[DELTA], s.par[TAU]):
            split(s, tree, leaf, cut)


@kernel
def split(s: Arrays, tree: int, leaf: int, cut: Array) -> None:
    """Make a leaf a branch with two leaves, which go on from what it knew."""
    k = int(cut[C_PLACE])
    depth = s.node_i[leaf, DEPTH] + 1
    left, right = take_node(s, tree, leaf, depth), take_node(s, tree, leaf, depth)
    slot = s.node_i[leaf, SLOT]
    unit, shift = s.slot_f[slot, UNIT], s.slot_f[slot, SHIFT]
    for child, start in ((left, C_LEFT_N), (right, C_RIGHT_N)):
        f = s.node_f[child]
        f[N], f[MEAN], f[M2] = cut[start], shift + unit * cut[start + 1], unit * unit * cut[start + 2]
        for column in (E_MEAN, E_SLOW, E_FAST):
            f[column] = s.node_f[leaf, column]
        f[SEEN] = s.node_f[leaf, SEEN]
        f[VISITS] = s.node_f[leaf, VISITS] * cut[start] / (cut[C_LEFT_N] + cut[C_RIGHT_N])
        for line in range(LINES):
            copy(s.line[child, line], s.line[leaf, line])
        for line in range(s.shadow.shape[1]):
            copy(s.shadow[child, line], s.shadow[leaf, line])
        f[SINCE] = s.node_f[leaf, SINCE]
        take_slot(s, child)
        inherit_spans(s, slot, child, k, cut, child == left)
    i = s.node_i[leaf]
    i[FEATURE], i[LEFT], i[RIGHT] = s.subspace[tree, k], left, right
    i[DEFAULT] = int(cut[C_DEFAULT])
    i[MASK] = (int(cut[C_SEEN]) << BINS) | int(cut[C_MASK])
    s.node_f[leaf, THRESHOLD] = cut[C_THRESHOLD]
    s.node_f[leaf, GAIN] = cut[C_MERIT] * s.node_f[leaf, M2]
    release_slot(s, leaf)


@kernel
def inherit_spans(s: Arrays, slot: int, child: int, k: int, cut: Array, is_left: bool) -> None:
    """Lay a new leaf's bins over its parent's span, and its own part of the feature that was split."""
    own = s.node_i[child, SLOT]
    if own < 0:
        return
    copy(s.slot_f[own], s.slot_f[slot])
    for feature in range(s.span.shape[1]):
        copy(s.span[own, feature], s.span[slot, feature])
        s.span[own, feature, OUTSIDE] = 0.0
    span = s.span[own, k]
    if span[INVERSE] > 0.0 and cut[C_MASK] == 0.0 and cut[C_SEEN] == 0.0:
        half = 0.5 / span[INVERSE]
        low, high = span[LOW], span[LOW] + BINS / span[INVERSE]
        if is_left:
            high = cut[C_LOW] + half
        else:
            low = cut[C_HIGH] - half
        if high - low > 1e-9 * (abs(low) + abs(high)):
            span[LOW], span[INVERSE] = low, BINS / (high - low)
