"""A forest as small as it can be written and read back bit for bit.

Pools are cut at their high-water mark, and of the observers only the bins that hold anything are kept. What a
free slot or node holds does not matter: both are cleared when they are taken.
"""

from __future__ import annotations

import numpy as np

from online.forest import forest_state as state
from online.forest.forest_state import Array, Arrays

__all__ = ["pack_arrays", "unpack_arrays"]

SCRATCH_ARRAYS = ("direction", "row", "order", "half", "cut", "votes", "leaf")


def pack_arrays(arrays: Arrays) -> dict[str, Array]:
    """What to pickle of a forest, by name."""
    nodes, slots = int(arrays.counts[state.N_NODES_HIGH]), int(arrays.counts[state.N_SLOTS_HIGH])
    packed = {
        name: array for name, array in arrays._asdict().items() if name not in (*SCRATCH_ARRAYS, "bins")
    }
    for name in state.NODE_POOL:
        packed[name] = packed[name][:nodes].copy()
    for name in state.SLOT_POOL[1:]:
        packed[name] = packed[name][:slots].copy()
    packed["free_node"] = packed["free_node"][: arrays.counts[state.N_NODES_FREE]]
    packed["free_slot"] = packed["free_slot"][: arrays.counts[state.N_SLOTS_FREE]]
    bins = arrays.bins[:slots]
    filled = bins[..., state.B_N] > 0.0
    filled[packed["free_slot"]] = False
    packed["bins_shape"] = np.array(bins.shape)
    packed["bins_filled"] = np.packbits(filled)
    packed["bins"] = bins[filled]
    return packed


def unpack_arrays(packed: dict[str, Array]) -> Arrays:
    """The arrays as they were when they were packed, all writable."""
    members, features = len(packed["member_i"]), len(packed["feature"])
    fresh = state.fresh_arrays(members, features, packed["subspace"].shape[1], packed["shadow"].shape[1])
    shape = tuple(packed["bins_shape"].tolist())
    bins = np.zeros(shape, np.float32)
    count = int(np.prod(shape[:3]))
    bins[np.unpackbits(packed["bins_filled"], count=count).astype(bool).reshape(shape[:3])] = packed["bins"]
    free_node, free_slot = np.zeros(len(packed["node_i"]), np.int64), np.zeros(shape[0], np.int64)
    free_node[: len(packed["free_node"])] = packed["free_node"]
    free_slot[: len(packed["free_slot"])] = packed["free_slot"]
    own = {name: packed[name].copy() for name in Arrays._fields if name in packed}
    pools = {"bins": bins, "free_node": free_node, "free_slot": free_slot}
    return fresh._replace(**(own | pools))
