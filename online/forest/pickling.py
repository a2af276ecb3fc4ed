"""A forest as small as it can be written and read back bit for bit.

Pools are cut at their high-water mark, and of the observers only the bins that hold anything are kept. What a
free slot or node holds does not matter: both are cleared when they are taken.
"""

from __future__ import annotations

import numpy as np

from online.forest import forest_state as state
from online.forest.forest_state import Array, Arrays

__all__ = ["packed", "unpacked"]

SCRATCH = ("direction", "row", "order", "half", "cut", "say", "leaf")


def packed(arrays: Arrays) -> dict[str, Array]:
    """The arrays to keep."""
    nodes, slots = int(arrays.counts[state.NODE_HIGH]), int(arrays.counts[state.SLOT_HIGH])
    kept = {name: array for name, array in arrays._asdict().items() if name not in (*SCRATCH, "bins")}
    for name in state.NODE_POOL:
        kept[name] = kept[name][:nodes].copy()
    for name in state.SLOT_POOL[1:]:
        kept[name] = kept[name][:slots].copy()
    kept["free_node"] = kept["free_node"][: arrays.counts[state.NODE_FREE]]
    kept["free_slot"] = kept["free_slot"][: arrays.counts[state.SLOT_FREE]]
    bins = arrays.bins[:slots]
    filled = bins[..., state.B_N] > 0.0
    filled[kept["free_slot"]] = False
    kept["bins_shape"] = np.array(bins.shape)
    kept["bins_filled"] = np.packbits(filled)
    kept["bins"] = bins[filled]
    return kept


def unpacked(kept: dict[str, Array]) -> Arrays:
    """The arrays as they were, all writable."""
    members, features = len(kept["member_i"]), len(kept["feature"])
    fresh = state.fresh_arrays(members, features, kept["subspace"].shape[1], kept["shadow"].shape[1])
    shape = tuple(kept["bins_shape"].tolist())
    bins = np.zeros(shape, np.float32)
    count = int(np.prod(shape[:3]))
    bins[np.unpackbits(kept["bins_filled"], count=count).astype(bool).reshape(shape[:3])] = kept["bins"]
    free_node, free_slot = np.zeros(len(kept["node_i"]), np.int64), np.zeros(shape[0], np.int64)
    free_node[: len(kept["free_node"])] = kept["free_node"]
    free_slot[: len(kept["free_slot"])] = kept["free_slot"]
    own = {name: kept[name].copy() for name in Arrays._fields if name in kept}
    pools = {"bins": bins, "free_node": free_node, "free_slot": free_slot}
    return fresh._replace(**(own | pools))
