"""The trees: nodes in a pool, the descent of a row to its leaf, splits, trees started and removed."""

from __future__ import annotations

import math

from online.core.jit import prefetch
from online.forest.forest_state import (
    ABSENT,
    BINS,
    C_DEFAULT,
    C_HIGH,
    C_INDEX,
    C_LEFT_N,
    C_LOW,
    C_MASK,
    C_MERIT,
    C_RIGHT_N,
    C_SEEN,
    C_THRESHOLD,
    DROPPED,
    LEAF_LINES,
    N_NODES_FREE,
    N_NODES_HIGH,
    N_ROWS,
    N_SLOTS_FREE,
    N_SLOTS_HIGH,
    N_SLOTS_MAX,
    NODE_ATTEMPT,
    NODE_COPIED,
    NODE_DEFAULT,
    NODE_DEPTH,
    NODE_ERROR_FAST,
    NODE_ERROR_MEAN,
    NODE_ERROR_SLOW,
    NODE_FEATURE,
    NODE_GAIN,
    NODE_LEFT,
    NODE_M2,
    NODE_MASK,
    NODE_MEAN,
    NODE_N,
    NODE_OBSERVED,
    NODE_OWNER,
    NODE_PARENT,
    NODE_RIGHT,
    NODE_SEEN,
    NODE_SLOT,
    NODE_SPLIT_VALUE,
    NODE_VISITS,
    P_DELTA,
    P_GRACE,
    P_MAX_DEPTH,
    P_MERIT_BAR,
    P_MIN_BRANCH,
    P_MIN_GAIN,
    P_TAU,
    P_Y_MEAN,
    P_Y_VAR,
    SLOT_SHIFT,
    SLOT_UNIT,
    SPAN_INVERSE,
    SPAN_LOW,
    SPAN_OUTSIDE,
    Array,
    Arrays,
    copy_row,
    kernel,
)
from online.forest.leaf import best_error, faded_visits, learn_leaf
from online.forest.observers import observe, prefetch_bins
from online.forest.random_state import uniform
from online.forest.split_search import best_cut, is_significant

__all__ = ["find_leaves", "grow_tree", "learn_tree", "prefetch_leaves", "remove_tree"]

DOUBLES_A_CACHE_LINE = 8  # 64 bytes, which memory gives at once

# Kernels: a Hoeffding tree (Domingos and Hulten 2000) whose nodes are rows of arrays that all trees share.
#   node_i, node_f  (nodes, ...): see `forest_state`; children are numbers of nodes
#   line, shadow    (nodes, ...): the linear models of leaves
#   free_node, free_slot: stacks of the rows of the pools that were given back
# A descent is a chain of dependent reads, for which calls of NumPy are out of the question.


@kernel
def goes_left(forest: Arrays, node: int, row: Array) -> bool:
    """Which way a row (D,) goes at a branch; by the learned default if its value is missing or unseen."""
    value = row[forest.node_i[node, NODE_FEATURE]]
    if math.isnan(value):
        return forest.node_i[node, NODE_DEFAULT] != 0
    mask = forest.node_i[node, NODE_MASK]
    if mask == 0:
        return value <= forest.node_f[node, NODE_SPLIT_VALUE]
    code = int(value)
    if (mask >> (BINS + code)) & 1:
        return (mask >> code) & 1 != 0
    return forest.node_i[node, NODE_DEFAULT] != 0


@kernel
def find_leaves(forest: Arrays, row: Array) -> None:
    """Write each tree's leaf of a row into ``forest.leaf``, ABSENT where there is no tree.

    All trees go down together, a step at a time: their nodes are far apart in memory, and in this way are
    waited for together.

    Parameters
    ----------
    forest
        The forest's arrays.
    row
        The row, (D,), NaN where missing.
    """
    leaf = forest.leaf
    copy_row(leaf, forest.root)
    moving = True
    while moving:
        moving = False
        for tree in range(leaf.shape[0]):
            node = leaf[tree]
            if node != ABSENT and forest.node_i[node, NODE_FEATURE] >= 0:
                side = NODE_LEFT if goes_left(forest, node, row) else NODE_RIGHT
                node = forest.node_i[node, side]
                prefetch(forest.node_i[node])
                prefetch(forest.node_f[node])
                leaf[tree] = node
                moving = True


@kernel
def prefetch_leaves(forest: Arrays) -> None:
    """Have the lines and bins' spans of the leaves in ``forest.leaf`` loaded into the cache."""
    for tree in range(forest.leaf.shape[0]):
        node = forest.leaf[tree]
        if node != ABSENT:
            prefetch_rows(forest.line[node])
            prefetch_rows(forest.shadow[node])
            if forest.node_i[node, NODE_SLOT] >= 0:
                prefetch_rows(forest.span[forest.node_i[node, NODE_SLOT]])


@kernel
def prefetch_rows(rows: Array) -> None:
    """Have rows of doubles (n, m) loaded into the cache."""
    for i in range(rows.shape[0]):
        for j in range(0, rows.shape[1], DOUBLES_A_CACHE_LINE):
            prefetch(rows[i, j:])


@kernel
def take_node(forest: Arrays, tree: int, parent: int, depth: int) -> int:
    """An empty leaf from the pool, which has room: the caller has seen to that."""
    counts = forest.counts
    if counts[N_NODES_FREE] > 0:
        counts[N_NODES_FREE] -= 1
        node = forest.free_node[counts[N_NODES_FREE]]
    else:
        node = counts[N_NODES_HIGH]
        counts[N_NODES_HIGH] += 1
    forest.node_i[node] = 0
    forest.node_f[node] = 0.0
    forest.line[node] = 0.0
    forest.shadow[node] = 0.0
    i = forest.node_i[node]
    i[NODE_FEATURE] = i[NODE_LEFT] = i[NODE_RIGHT] = i[NODE_SLOT] = ABSENT
    i[NODE_PARENT], i[NODE_DEPTH], i[NODE_OWNER] = parent, depth, tree
    return node


@kernel
def take_slot(forest: Arrays, node: int) -> None:
    """Give a leaf empty observers, if the budget allows."""
    counts = forest.counts
    if counts[N_SLOTS_FREE] > 0:
        counts[N_SLOTS_FREE] -= 1
        slot = forest.free_slot[counts[N_SLOTS_FREE]]
    elif counts[N_SLOTS_HIGH] < counts[N_SLOTS_MAX] and counts[N_SLOTS_HIGH] < forest.free_slot.shape[0]:
        slot = counts[N_SLOTS_HIGH]
        counts[N_SLOTS_HIGH] += 1
    else:
        return
    forest.bins[slot] = 0.0
    forest.span[slot] = 0.0
    deviation = math.sqrt(forest.par[P_Y_VAR])
    forest.slot_f[slot, SLOT_SHIFT] = forest.par[P_Y_MEAN]
    forest.slot_f[slot, SLOT_UNIT] = deviation if deviation > 0.0 else 1.0
    forest.node_i[node, NODE_SLOT] = slot
    forest.node_f[node, NODE_OBSERVED] = forest.node_f[node, NODE_ATTEMPT] = 0.0


@kernel
def release_slot(forest: Arrays, node: int) -> None:
    """Put a leaf's observers back into the pool."""
    slot = forest.node_i[node, NODE_SLOT]
    if slot >= 0:
        forest.free_slot[forest.counts[N_SLOTS_FREE]] = slot
        forest.counts[N_SLOTS_FREE] += 1
    forest.node_i[node, NODE_SLOT] = ABSENT


@kernel
def release_node(forest: Arrays, node: int) -> None:
    """Put a node and what it observes back into the pools."""
    release_slot(forest, node)
    forest.node_i[node, NODE_OWNER] = ABSENT
    forest.free_node[forest.counts[N_NODES_FREE]] = node
    forest.counts[N_NODES_FREE] += 1


@kernel
def grow_tree(forest: Arrays, tree: int, generator: int, share: float, features: int) -> int:
    """Start a tree of one leaf on a random subspace of the features (Gomes, Read and Bifet 2019, SRP).

    Parameters
    ----------
    forest
        The forest's arrays.
    tree
        Its number; it has no nodes.
    generator
        Which random numbers are drawn.
    share
        Of the features that the tree may split on, in (0, 1].
    features
        How many there are.

    Returns
    -------
    int
        The leaf.
    """
    chosen = min(forest.subspace.shape[1], max(1, math.ceil(share * features))) if features else 0
    forest.subspace[tree] = ABSENT
    taken = 0
    # selection sampling (Knuth, The Art of Computer Programming, 3.4.2 S), which keeps the features in order
    for j in range(features):
        if uniform(forest.rng, generator) * (features - j) < chosen - taken:
            forest.subspace[tree, taken] = j
            taken += 1
    root = take_node(forest, tree, ABSENT, 0)
    mean = forest.par[P_Y_MEAN]
    forest.node_f[root, NODE_MEAN] = forest.line[root, 0, features] = forest.line[root, 1, features] = mean
    for line in range(forest.shadow.shape[1]):
        forest.shadow[root, line, features] = mean
    forest.node_f[root, NODE_COPIED] = forest.counts[N_ROWS]
    forest.root[tree] = root
    return root


@kernel
def remove_tree(forest: Arrays, tree: int) -> None:
    """Give all nodes of a tree back to the pools.

    Parameters
    ----------
    forest
        The forest's arrays.
    tree
        Its number.
    """
    if forest.root[tree] == ABSENT:
        return
    stack = forest.order
    stack[0] = forest.root[tree]
    waiting = 1
    while waiting > 0:
        waiting -= 1
        node = stack[waiting]
        if forest.node_i[node, NODE_FEATURE] >= 0:
            stack[waiting] = forest.node_i[node, NODE_LEFT]
            stack[waiting + 1] = forest.node_i[node, NODE_RIGHT]
            waiting += 2
        release_node(forest, node)
    forest.root[tree] = ABSENT


@kernel
def merit(forest: Arrays, leaf: int) -> float:
    """The squared error that lies in a leaf, recent rows first: what splitting it could gain."""
    f = forest.node_f[leaf]
    return faded_visits(forest, leaf) * best_error(f)


@kernel
def learn_tree(  # noqa: PLR0913 - a kernel takes each array
    forest: Arrays, tree: int, leaf: int, row: Array, filled: Array, target: float, weight: float
) -> None:
    """Teach one tree a row, and split the leaf when it is time.

    Parameters
    ----------
    forest
        The forest's arrays.
    tree
        Its number.
    leaf
        Where the row came to.
    row
        The row, (D,), NaN where missing.
    filled
        The same without gaps, (D,).
    target
        Its target.
    weight
        How often it counts.
    """
    if forest.node_i[leaf, NODE_SLOT] >= 0:
        prefetch_bins(forest, forest.node_i[leaf, NODE_SLOT], tree, row)
    learn_leaf(forest, leaf, filled, target, weight)
    i, f = forest.node_i[leaf], forest.node_f[leaf]
    # a leaf that lost its observers gets them back at twice the bar, so that it does not come and go
    is_worthy = i[NODE_SLOT] == DROPPED and merit(forest, leaf) > 2.0 * forest.par[P_MERIT_BAR]
    if i[NODE_SLOT] == ABSENT or is_worthy:
        take_slot(forest, leaf)
    if i[NODE_SLOT] < 0:
        return
    observe(forest, i[NODE_SLOT], tree, row, target, weight, f[NODE_OBSERVED])
    f[NODE_OBSERVED] += weight
    if f[NODE_OBSERVED] - f[NODE_ATTEMPT] >= forest.par[P_GRACE] and i[NODE_DEPTH] < forest.par[P_MAX_DEPTH]:
        f[NODE_ATTEMPT] = f[NODE_OBSERVED]
        cut = forest.cut[0]
        best_cut(forest, i[NODE_SLOT], tree, f[NODE_OBSERVED], forest.par[P_MIN_BRANCH], cut, forest.cut[1])
        if cut[C_MERIT] > forest.par[P_MIN_GAIN] and is_significant(
            cut, f[NODE_OBSERVED], forest.par[P_DELTA], forest.par[P_TAU]
        ):
            split(forest, tree, leaf, cut)


@kernel
def split(forest: Arrays, tree: int, leaf: int, cut: Array) -> None:
    """Make a leaf a branch with two leaves, which go on from what it knew."""
    index = int(cut[C_INDEX])
    depth = forest.node_i[leaf, NODE_DEPTH] + 1
    left, right = take_node(forest, tree, leaf, depth), take_node(forest, tree, leaf, depth)
    slot = forest.node_i[leaf, NODE_SLOT]
    unit, shift = forest.slot_f[slot, SLOT_UNIT], forest.slot_f[slot, SLOT_SHIFT]
    for child, start in ((left, C_LEFT_N), (right, C_RIGHT_N)):
        f = forest.node_f[child]
        f[NODE_N] = cut[start]
        f[NODE_MEAN] = shift + unit * cut[start + 1]
        f[NODE_M2] = unit * unit * cut[start + 2]
        for column in (NODE_ERROR_MEAN, NODE_ERROR_SLOW, NODE_ERROR_FAST):
            f[column] = forest.node_f[leaf, column]
        f[NODE_SEEN] = forest.node_f[leaf, NODE_SEEN]
        f[NODE_VISITS] = forest.node_f[leaf, NODE_VISITS] * cut[start] / (cut[C_LEFT_N] + cut[C_RIGHT_N])
        for line in range(LEAF_LINES):
            copy_row(forest.line[child, line], forest.line[leaf, line])
        for line in range(forest.shadow.shape[1]):
            copy_row(forest.shadow[child, line], forest.shadow[leaf, line])
        f[NODE_COPIED] = forest.node_f[leaf, NODE_COPIED]
        take_slot(forest, child)
        inherit_spans(forest, slot, child, index, cut, child == left)
    i = forest.node_i[leaf]
    i[NODE_FEATURE], i[NODE_LEFT], i[NODE_RIGHT] = forest.subspace[tree, index], left, right
    i[NODE_DEFAULT] = int(cut[C_DEFAULT])
    i[NODE_MASK] = (int(cut[C_SEEN]) << BINS) | int(cut[C_MASK])
    forest.node_f[leaf, NODE_SPLIT_VALUE] = cut[C_THRESHOLD]
    forest.node_f[leaf, NODE_GAIN] = cut[C_MERIT] * forest.node_f[leaf, NODE_M2]
    release_slot(forest, leaf)


@kernel
def inherit_spans(  # noqa: PLR0913 - a kernel takes each array
    forest: Arrays, slot: int, child: int, index: int, cut: Array, is_left: bool
) -> None:
    """Lay a new leaf's bins over its parent's span, and its own part of the feature that was split."""
    own = forest.node_i[child, NODE_SLOT]
    if own < 0:
        return
    copy_row(forest.slot_f[own], forest.slot_f[slot])
    for feature in range(forest.span.shape[1]):
        copy_row(forest.span[own, feature], forest.span[slot, feature])
        forest.span[own, feature, SPAN_OUTSIDE] = 0.0
    span = forest.span[own, index]
    if span[SPAN_INVERSE] > 0.0 and cut[C_MASK] == 0.0 and cut[C_SEEN] == 0.0:
        half = 0.5 / span[SPAN_INVERSE]
        low, high = span[SPAN_LOW], span[SPAN_LOW] + BINS / span[SPAN_INVERSE]
        if is_left:
            high = cut[C_LOW] + half
        else:
            low = cut[C_HIGH] - half
        if high - low > 1e-9 * (abs(low) + abs(high)):
            span[SPAN_LOW], span[SPAN_INVERSE] = low, BINS / (high - low)
