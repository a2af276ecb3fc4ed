"""The arrays a forest consists of, and the names of their columns.

Trees are numbered; member ``m`` owns trees ``2 m`` and ``2 m + 1``: one predicts, the other is free or grows
in the background. Nodes and slots (the observers of one leaf) lie in two pools shared by all trees, each a
free list and a high-water mark. Nothing but these arrays decides what a forest does next, so they are all
that is pickled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from online.core.jit import kernel

__all__ = ["Arrays", "copy", "fresh_arrays", "grown", "kernel", "node_bytes", "slot_bytes"]

Array = npt.NDArray[Any]

BINS = 32  # of an observer, and the categories of a feature that are told apart
MISSING = BINS  # the bin of missing values
BUCKETS = 5  # of one size in an ADWIN window before two are merged
LEVELS = 32  # bucket sizes: windows of up to 5 * 2^32 errors
CALIBRATION = 100  # errors whose median becomes the scale of a member's detectors

# counts: int64, one row
ROWS, NODE_HIGH, NODE_FREE, SLOT_HIGH, SLOT_FREE, MAX_NODES, MAX_SLOTS, PRUNED, SILENCED, SKIPPED = range(10)
COUNTS = 10

# par: float64, settings and target statistics, one row
RATE, GRACE, DELTA, TAU, SLOW_STEP, DECAY, WARN_DELTA, DRIFT_DELTA, HORIZON, POWER = range(10)
MAX_DEPTH, MIN_GAIN, ERR_DECAY, Y_N, Y_MEAN, Y_VAR, Y_LOW, Y_HIGH, BAR, MIN_BRANCH = range(10, 20)
SHARE, FAST_STEP, DELAY = range(20, 23)
SETTINGS = 23

# feature: float64, one row a feature
F_N, F_MEAN, F_VAR, F_LOW, F_HIGH, F_KIND = range(6)
FEATURE_COLUMNS = 6

# member_i: int64; tree_f: float64
TREE, BACK, BACK_ROWS, PENDING, WARNINGS, DRIFTS, CALIBRATED = range(7)
MEMBER_INTS = 7
ERR, ERR_N = range(2)
TREE_FLOATS = 2

# node_i: int64; node_f: float64. SLOT: a row of the slot pool, NONE, or SILENT at a leaf that lost it to the
# budget
FEATURE, LEFT, RIGHT, PARENT, DEPTH, OWNER, SLOT, DEFAULT, MASK = range(9)
NODE_INTS = 9
THRESHOLD, N, MEAN, M2, ATTEMPT, E_MEAN, E_SLOW, E_FAST, GAIN, VISITS, SEEN, OBSERVED, SINCE = range(13)
NODE_FLOATS = 13
LINES = 2  # linear models of a leaf: slow and fast
NONE, SILENT = -1, -2

# bins: float32 (slot, feature of the tree, bin, ...): weight, mean and sum of squares about it of scaled
# targets
B_N, B_MEAN, B_M2 = range(3)
# span: float64 (slot, feature of the tree, ...): where the bins start, bins per unit (0: not set), weight
# outside
LOW, INVERSE, OUTSIDE = range(3)
# slot_f: float64: the target as observers see it is (y - SHIFT) / UNIT
SHIFT, UNIT = range(2)

# what is known of a cut; CUT_LOW, CUT_HIGH: the centres of the last bin to the left and the first to the
# right
C_MERIT, C_SECOND, C_PLACE, C_THRESHOLD, C_MASK, C_SEEN, C_DEFAULT = range(7)
C_LEFT_N, C_LEFT_MEAN, C_LEFT_M2, C_RIGHT_N, C_RIGHT_MEAN, C_RIGHT_M2, C_LOW, C_HIGH = range(7, 15)
CUT_COLUMNS = 15
MAX_STACK = 128

# window_f, window_i: one ADWIN detector a row
W_WIDTH, W_TOTAL, W_VAR = range(3)
W_LEVELS, W_TICK = range(2)


class Arrays(NamedTuple):
    """All of a forest. Shapes: T members, D features, F features of a tree, nodes and slots as they grow."""

    counts: Array  # (COUNTS,) int64
    par: Array  # (SETTINGS,) float64
    rng: Array  # (T + 1,) uint64: one generator a member, and one of the forest
    feature: Array  # (D, FEATURE_COLUMNS)
    category: Array  # (D, BINS, 2): weight and target mean of each category
    member_i: Array  # (T, MEMBER_INTS)
    tree_f: Array  # (2 T, TREE_FLOATS)
    scale: Array  # (T,): of the errors the detectors see
    calibration: Array  # (T, CALIBRATION)
    root: Array  # (2 T,) int64
    subspace: Array  # (2 T, F) int64: features of a tree, NONE where it has fewer
    node_i: Array  # (nodes, NODE_INTS)
    node_f: Array  # (nodes, NODE_FLOATS)
    line: Array  # (nodes, LINES, D + 1): weights and intercept of a leaf's linear models
    shadow: (
        Array  # (nodes, 0 or 2 LINES, D + 1): the lines as they were when labels are late, the older first
    )
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
    say: Array  # (T,): scratch, the members' weights
    leaf: Array  # (2 T,) int64: scratch, where a row comes to

    def sizes(self) -> dict[str, int]:
        """The lengths that differ from forest to forest, by the names `LAYOUT` gives them."""
        members, features = len(self.member_i), len(self.feature)
        pools = {"nodes": len(self.free_node), "slots": len(self.free_slot)}
        return lengths(members, features, self.subspace.shape[1], self.shadow.shape[1]) | pools


# Type and shape of each array; names stand for a forest's own lengths
LAYOUT: dict[str, tuple[type, tuple[int | str, ...]]] = {
    "counts": (np.int64, (COUNTS,)),
    "par": (np.float64, (SETTINGS,)),
    "rng": (np.uint64, ("generators",)),
    "feature": (np.float64, ("features", FEATURE_COLUMNS)),
    "category": (np.float64, ("features", BINS, 2)),
    "member_i": (np.int64, ("members", MEMBER_INTS)),
    "tree_f": (np.float64, ("trees", TREE_FLOATS)),
    "scale": (np.float64, ("members",)),
    "calibration": (np.float64, ("members", CALIBRATION)),
    "root": (np.int64, ("trees",)),
    "subspace": (np.int64, ("trees", "width")),
    "node_i": (np.int64, ("nodes", NODE_INTS)),
    "node_f": (np.float64, ("nodes", NODE_FLOATS)),
    "line": (np.float64, ("nodes", LINES, "side")),
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
    "say": (np.float64, ("members",)),
    "leaf": (np.int64, ("trees",)),
}
SIZES = (
    "members",
    "generators",
    "trees",
    "features",
    "side",
    "width",
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


def node_bytes(width: int, shadows: int) -> int:
    """Bytes of one node in a forest whose trees see ``width`` features."""
    return 8 * (NODE_INTS + NODE_FLOATS + (LINES + shadows) * (width + 1) + 1)


def slot_bytes(width: int) -> int:
    """Bytes of one leaf's observers."""
    return 4 * width * (BINS + 1) * 3 + 8 * (3 * width + 2 + 1)


def fresh_arrays(members: int, features: int, width: int, shadows: int) -> Arrays:
    """Arrays of a forest that has no nodes yet."""
    size = lengths(members, features, width, shadows)
    made: dict[str, Array] = {}
    for name, (dtype, shape) in LAYOUT.items():
        made[name] = np.zeros([n if isinstance(n, int) else size[n] for n in shape], dtype)
    arrays = Arrays(**made)
    arrays.root[:] = NONE
    arrays.subspace[:] = NONE
    return arrays


def grown(arrays: Arrays, pool: tuple[str, ...], size: int) -> Arrays:
    """The same forest with a pool of at least ``size`` rows."""
    wider = {}
    for name in pool:
        old: Array = getattr(arrays, name)
        new = np.zeros((size, *old.shape[1:]), old.dtype)
        new[: min(size, len(old))] = old[:size]
        wider[name] = new
    return arrays._replace(**wider)


@kernel
def copy(to: Array, source: Array) -> None:
    """Copy one row; NumPy's assignment of an array allocates, in case they overlap."""
    for i in range(source.shape[0]):
        to[i] = source[i]
