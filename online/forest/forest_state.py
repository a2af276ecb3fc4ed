"""The arrays a forest consists of, and the names of their columns.

Trees are numbered; member ``m`` owns trees ``2 m`` and ``2 m + 1``: one predicts, the other is free or grows
in the background. Nodes and slots (the observers of one leaf) lie in two pools shared by all trees, each a
free list and a high-water mark. Nothing but these arrays decides what a forest does next, so they are all
that is pickled.

In the kernels an argument ``forest`` is these arrays (behind one pointer, see
:mod:`online.forest.array_table`); ``row`` a row as it came, (D,), NaN where a value is missing; ``filled``
the same without gaps or outliers, for linear models; ``target`` its label, in target units.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from online.core.jit import kernel

__all__ = ["Arrays", "copy_row", "fresh_arrays", "kernel", "node_bytes", "slot_bytes", "with_pool_of"]

Array = npt.NDArray[Any]

BINS = 32  # of an observer, and the categories of a feature that are told apart
MISSING_BIN = BINS  # the bin of missing values
BUCKETS = 5  # of one size in an ADWIN window before two are merged
LEVELS = 32  # bucket sizes: windows of up to 5 * 2^32 errors
CALIBRATION_ERRORS = 100  # errors whose median becomes the scale of a member's detectors
LEAF_LINES = 2  # linear models of a leaf: slow and fast
ABSENT = -1  # no node, no slot, no feature
DROPPED = -2  # in place of a slot: the leaf lost its observers to the budget

# counts: int64, one row
(
    N_ROWS,  # learned
    N_NODES_HIGH,  # high-water mark of the node pool
    N_NODES_FREE,  # on its free list
    N_SLOTS_HIGH,
    N_SLOTS_FREE,
    N_NODES_MAX,  # what the budget allows
    N_SLOTS_MAX,
    N_PRUNED,  # branches collapsed into leaves for the budget
    N_OBSERVERS_DROPPED,  # leaves that lost their observers to it
    N_SKIPPED,  # rows whose target or weight taught nothing
) = range(10)
COUNT_COLUMNS = 10

# par: float64, settings and target statistics, one row; the settings are AdaptiveForestRegressor's parameters
(
    P_RATE,
    P_GRACE,
    P_DELTA,
    P_TAU,
    P_SLOW_STEP,
    P_DECAY,
    P_WARN_DELTA,
    P_DRIFT_DELTA,
    P_HORIZON,
    P_POWER,  # of a member's faded error in its weight
    P_MAX_DEPTH,
    P_MIN_GAIN,  # a split's least merit
    P_ERROR_DECAY,  # of the members' faded errors
    P_Y_N,  # rows the target statistics are of
    P_Y_MEAN,
    P_Y_VAR,
    P_Y_LOW,
    P_Y_HIGH,
    P_MERIT_BAR,  # merit of the best leaf that lost its observers last
    P_MIN_BRANCH,  # least weight on either side of a split
    P_SUBSPACE,
    P_FAST_STEP,
    P_DELAY,
) = range(23)
PARAMETER_COLUMNS = 23

# feature: float64, one row a feature: weight, faded mean and variance, range, 1 for a category
F_N, F_MEAN, F_VAR, F_LOW, F_HIGH, F_KIND = range(6)
FEATURE_COLUMNS = 6

# member_i: int64: its tree, its background tree or ABSENT, the rows that one has learned, 1 while a drift
# waits for it to become the better tree, warnings, drifts, errors seen by the calibration
M_TREE, M_BACKGROUND, M_BACKGROUND_ROWS, M_PENDING, M_WARNINGS, M_DRIFTS, M_CALIBRATED = range(7)
MEMBER_COLUMNS = 7
# tree_f: float64: faded sum of absolute errors, and of their number
T_ERROR, T_ERROR_N = range(2)
TREE_COLUMNS = 2

# node_i: int64
(
    NODE_FEATURE,  # what a branch asks for; ABSENT at a leaf
    NODE_LEFT,
    NODE_RIGHT,
    NODE_PARENT,
    NODE_DEPTH,
    NODE_OWNER,  # the tree; ABSENT in a free node
    NODE_SLOT,  # a row of the slot pool, ABSENT, or DROPPED
    NODE_DEFAULT,  # 1: missing and unseen values go left
    NODE_MASK,  # categories: bit c, c goes left; bit BINS + c, c was seen when the split was made
) = range(9)
NODE_INT_COLUMNS = 9
# node_f: float64
(
    NODE_SPLIT_VALUE,  # values up to it go left
    NODE_N,  # weight, mean and sum of squares about it of the targets
    NODE_MEAN,
    NODE_M2,
    NODE_ATTEMPT,  # weight observed at the last attempt to split
    NODE_ERROR_MEAN,  # faded squared errors of the mean and of the two lines
    NODE_ERROR_SLOW,
    NODE_ERROR_FAST,
    NODE_GAIN,  # sum of squares that a branch's split took away
    NODE_VISITS,  # faded weight of the rows that came here
    NODE_SEEN,  # the row count at the last of them
    NODE_OBSERVED,  # weight its observers have seen
    NODE_COPIED,  # the row count when the lines were last copied into ``shadow``
) = range(13)
NODE_FLOAT_COLUMNS = 13

# bins: float32 (slot, feature of the tree, bin, ...): weight, mean and sum of squares about it of scaled
# targets
B_N, B_MEAN, B_M2 = range(3)
# span: float64 (slot, feature of the tree, ...): where the bins start, bins per unit (0: not set), weight
# outside
SPAN_LOW, SPAN_INVERSE, SPAN_OUTSIDE = range(3)
# slot_f: float64: the target as observers see it is (y - SLOT_SHIFT) / SLOT_UNIT
SLOT_SHIFT, SLOT_UNIT = range(2)

# cut: float64, what is known of a split
(
    C_MERIT,
    C_SECOND,  # merit of the second-best feature
    C_INDEX,  # the feature, by its index in the tree's subspace; before that, the last bin to the left
    C_THRESHOLD,
    C_MASK,
    C_SEEN,
    C_DEFAULT,
    C_LEFT_N,
    C_LEFT_MEAN,
    C_LEFT_M2,
    C_RIGHT_N,
    C_RIGHT_MEAN,
    C_RIGHT_M2,
    C_LOW,  # the centres of the last bin to the left and the first to the right
    C_HIGH,
) = range(15)
CUT_COLUMNS = 15
MAX_STACK = 128  # at most 61 nodes wait on a walk through a tree of the greatest depth, 60

# window_f, window_i: one ADWIN detector a row
W_WIDTH, W_TOTAL, W_VAR = range(3)
W_LEVELS, W_TICK = range(2)


class Arrays(NamedTuple):
    """All of a forest. Shapes: T members, D features, F features of a tree, nodes and slots as they grow."""

    counts: Array  # (COUNT_COLUMNS,) int64
    par: Array  # (PARAMETER_COLUMNS,) float64
    rng: Array  # (T + 1,) uint64: one generator a member, and one of the forest
    feature: Array  # (D, FEATURE_COLUMNS)
    category: Array  # (D, BINS, 2): weight and target mean of each category
    member_i: Array  # (T, MEMBER_COLUMNS)
    tree_f: Array  # (2 T, TREE_COLUMNS)
    scale: Array  # (T,): of the errors the detectors see
    calibration: Array  # (T, CALIBRATION_ERRORS)
    root: Array  # (2 T,) int64
    subspace: Array  # (2 T, F) int64: features of a tree, ABSENT where it has fewer
    node_i: Array  # (nodes, NODE_INT_COLUMNS)
    node_f: Array  # (nodes, NODE_FLOAT_COLUMNS)
    line: Array  # (nodes, LEAF_LINES, D + 1): weights and intercept of a leaf's linear models
    shadow: Array  # (nodes, 0 or 2 LEAF_LINES, D + 1): earlier lines, where labels are late; the older first
    free_node: Array  # (nodes,) int64
    bins: Array  # (slots, F, BINS + 1, 3) float32
    span: Array  # (slots, F, 3)
    slot_f: Array  # (slots, 2)
    free_slot: Array  # (slots,) int64
    bucket: Array  # (2 T, LEVELS, BUCKETS + 1, 2): total and variance
    bucket_n: Array  # (2 T, LEVELS) int64
    window_f: Array  # (2 T, 3)
    window_i: Array  # (2 T, 2) int64
    moment: Array  # (D + 1, D + 1): faded second moments of the features and an always-one
    factor: Array  # (D + 1, D + 1): their Cholesky factor of late
    direction: Array  # (D + 1,): scratch, the moments' inverse times the row
    row: Array  # (2, D): scratch, a row as it came and without gaps
    order: Array  # (max(D, BINS),) int64: scratch
    half: Array  # (2, 3): scratch
    cut: Array  # (2, CUT_COLUMNS): scratch
    votes: Array  # (T,): scratch, the members' weights
    leaf: Array  # (2 T,) int64: scratch, where a row comes to

    def sizes(self) -> dict[str, int]:
        """The lengths that differ from forest to forest, by the names `LAYOUT` gives them."""
        members, features = len(self.member_i), len(self.feature)
        pools = {"nodes": len(self.free_node), "slots": len(self.free_slot)}
        return lengths(members, features, self.subspace.shape[1], self.shadow.shape[1]) | pools


# Type and shape of each array; names stand for a forest's own lengths
LAYOUT: dict[str, tuple[type, tuple[int | str, ...]]] = {
    "counts": (np.int64, (COUNT_COLUMNS,)),
    "par": (np.float64, (PARAMETER_COLUMNS,)),
    "rng": (np.uint64, ("generators",)),
    "feature": (np.float64, ("features", FEATURE_COLUMNS)),
    "category": (np.float64, ("features", BINS, 2)),
    "member_i": (np.int64, ("members", MEMBER_COLUMNS)),
    "tree_f": (np.float64, ("trees", TREE_COLUMNS)),
    "scale": (np.float64, ("members",)),
    "calibration": (np.float64, ("members", CALIBRATION_ERRORS)),
    "root": (np.int64, ("trees",)),
    "subspace": (np.int64, ("trees", "width")),
    "node_i": (np.int64, ("nodes", NODE_INT_COLUMNS)),
    "node_f": (np.float64, ("nodes", NODE_FLOAT_COLUMNS)),
    "line": (np.float64, ("nodes", LEAF_LINES, "side")),
    "shadow": (np.float64, ("nodes", "shadows", "side")),
    "free_node": (np.int64, ("nodes",)),
    "bins": (np.float32, ("slots", "width", BINS + 1, 3)),
    "span": (np.float64, ("slots", "width", 3)),
    "slot_f": (np.float64, ("slots", 2)),
    "free_slot": (np.int64, ("slots",)),
    "bucket": (np.float64, ("trees", LEVELS, BUCKETS + 1, 2)),
    "bucket_n": (np.int64, ("trees", LEVELS)),
    "window_f": (np.float64, ("trees", 3)),
    "window_i": (np.int64, ("trees", 2)),
    "moment": (np.float64, ("side", "side")),
    "factor": (np.float64, ("side", "side")),
    "direction": (np.float64, ("side",)),
    "row": (np.float64, (2, "features")),
    "order": (np.int64, ("scratch",)),
    "half": (np.float64, (2, 3)),
    "cut": (np.float64, (2, CUT_COLUMNS)),
    "votes": (np.float64, ("members",)),
    "leaf": (np.int64, ("trees",)),
}
# the order of the lengths in the array table
LENGTH_NAMES = (
    "members",
    "generators",
    "trees",
    "features",
    "side",  # features and an always-one
    "width",  # features a tree may split on
    "shadows",
    "scratch",
    "nodes",
    "slots",
)

NODE_POOL = ("node_i", "node_f", "line", "shadow", "free_node")
SLOT_POOL = ("bins", "span", "slot_f", "free_slot")


def lengths(members: int, features: int, width: int, shadows: int) -> dict[str, int]:
    """The lengths of a forest without nodes."""
    return {
        "members": members,
        "generators": members + 1,
        "trees": 2 * members,
        "features": features,
        "side": features + 1,
        "width": width,
        "shadows": shadows,
        "scratch": max(features, MAX_STACK),
        "nodes": 0,
        "slots": 0,
    }


def node_bytes(features: int, shadows: int) -> int:
    """Bytes of one node.

    Parameters
    ----------
    features
        How many features the forest has.
    shadows
        How many earlier lines a leaf keeps.

    Returns
    -------
    int
        Of its rows in all arrays of the node pool.
    """
    return 8 * (NODE_INT_COLUMNS + NODE_FLOAT_COLUMNS + (LEAF_LINES + shadows) * (features + 1) + 1)


def slot_bytes(width: int) -> int:
    """Bytes of one leaf's observers, in a forest whose trees see ``width`` features."""
    return 4 * width * (BINS + 1) * 3 + 8 * (3 * width + 2 + 1)


def fresh_arrays(members: int, features: int, width: int, shadows: int) -> Arrays:
    """Arrays of a forest that has no nodes yet.

    Parameters
    ----------
    members
        How many trees predict.
    features
        How many features there is room for.
    width
        How many of them a tree may split on.
    shadows
        How many earlier lines a leaf keeps: 0 or 2 LEAF_LINES.

    Returns
    -------
    Arrays
        All zero, but for what is absent.
    """
    size = lengths(members, features, width, shadows)
    made: dict[str, Array] = {}
    for name, (dtype, shape) in LAYOUT.items():
        made[name] = np.zeros([n if isinstance(n, int) else size[n] for n in shape], dtype)
    arrays = Arrays(**made)
    arrays.root[:] = ABSENT
    arrays.subspace[:] = ABSENT
    return arrays


def with_pool_of(arrays: Arrays, pool: tuple[str, ...], size: int) -> Arrays:
    """The same forest with more room in a pool.

    Parameters
    ----------
    arrays
        The forest.
    pool
        ``NODE_POOL`` or ``SLOT_POOL``.
    size
        How many rows the pool is to have.

    Returns
    -------
    Arrays
        The arrays of the pool are new ones, the others the same.
    """
    larger = {}
    for name in pool:
        old: Array = getattr(arrays, name)
        new = np.zeros((size, *old.shape[1:]), old.dtype)
        new[: min(size, len(old))] = old[:size]
        larger[name] = new
    return arrays._replace(**larger)


@kernel
def copy_row(out: Array, source: Array) -> None:
    """Copy one row.

    NumPy's assignment of an array allocates, in case they overlap, and these kernels must not.

    Parameters
    ----------
    out
        Where to, (n,).
    source
        From where, (n,).
    """
    for i in range(source.shape[0]):
        out[i] = source[i]
