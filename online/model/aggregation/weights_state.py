"""All that an aggregator has learned: named arrays, described once.

For k experts, H heads (ways to combine them) and S stacks (heads that are linear models). Kernels reach the
arrays through the array table of :func:`online.core.jit.table_pointer`, so a part is ``s.lasting`` to them
whatever k is, and a call from Python hands over one address instead of twenty arrays.

Heads are kept as they were, every 8 labels, 128 times, and as they are now at the end, in row ``CURRENT``.
That lets a head be judged by what it would have served.
"""

from __future__ import annotations

import numpy as np

from online.core.jit import table_pointer
from online.model.aggregation.heads import Array, Heads
from online.model.aggregation.stack import STACK_RIDGE, STACK_STATS

__all__ = ["CONVEX", "CURRENT", "HEADS", "MEMORIES", "SNAPSHOTS", "STRIDE", "WeightsState", "weights_at"]

CONVEX = 3  # heads: ML-Poly for good, ML-Poly with fading, whoever was best of late
MEMORIES = (0.9999, 0.999, 0.997)  # of the stacks, which are the other heads
STACKS = len(MEMORIES)
HEADS = CONVEX + STACKS
STRIDE = 8  # labels between two snapshots of the heads
SNAPSHOTS = 128  # heads are known as they were up to a thousand labels ago
CURRENT = SNAPSHOTS

# rows of an ML-Poly, and of the best of late
WEIGHTS, REGRETS, SQUARES = range(3)
ERRORS = 1
# counters: labels learned, and noted; how late they come, faded and at most, in log(1 + labels)
LEARNED, NOTED, FADED_DELAY, HIGHEST_DELAY = range(4)
# largest disagreements, one for each ML-Poly
OF_LASTING, OF_FADING, OF_HEADS = range(3)

# Shape of each array, all float64; names stand for lengths that differ with the experts
WEIGHTS_LAYOUT: dict[str, tuple[type, tuple[int | str, ...]]] = {
    "counters": (np.float64, (4,)),
    "largest": (np.float64, (3,)),
    "lasting": (np.float64, (3, "experts")),  # ML-Poly for good
    "fading": (np.float64, (3, "experts")),  # ML-Poly with fading
    "recent_best": (np.float64, (2, "experts")),  # weights, faded errors
    "over_heads": (np.float64, (3, HEADS)),  # ML-Poly over the heads
    "stack_weights": (np.float64, (STACKS, "inputs")),
    "stack_inverse": (np.float64, (STACKS, "inputs", "inputs")),
    "stack_stats": (np.float64, (STACKS, STACK_STATS)),
    "sizes": (np.float64, ("experts",)),  # of the experts' weights, summing to one
    "head_weights": (np.float64, (SNAPSHOTS + 1, HEADS, "experts")),
    "head_bias": (np.float64, (SNAPSHOTS + 1, HEADS)),
    "head_margin": (np.float64, (SNAPSHOTS + 1, HEADS)),
    "head_share": (np.float64, (SNAPSHOTS + 1, HEADS)),
    # scratch
    "outputs": (np.float64, ("experts",)),
    "answers": (np.float64, (HEADS,)),
    "row": (np.float64, ("inputs",)),
    "gain": (np.float64, ("inputs",)),
}
LENGTHS = ("experts", "inputs")  # a stack's inputs are the experts and an always-one

weights_at = table_pointer("WeightsState", LENGTHS, WEIGHTS_LAYOUT)  # weights_at(address), for kernels


class WeightsState:
    """The arrays of an aggregator.

    Parameters
    ----------
    experts
        How many there are.
    arrays
        What to go on from, by the names of the layout; by default what is known before any label.

    Raises
    ------
    ValueError
        The arrays are not those of so many experts.
    """

    def __init__(self, experts: int, arrays: dict[str, Array] | None = None) -> None:
        lengths = {"experts": experts, "inputs": experts + 1}
        shapes = {
            name: tuple(size if isinstance(size, int) else lengths[size] for size in shape)
            for name, (_, shape) in WEIGHTS_LAYOUT.items()
        }
        if arrays is not None and {name: array.shape for name, array in arrays.items()} != shapes:
            raise ValueError("this aggregator was pickled by another version of Millrace")
        self.arrays = untaught(shapes, experts) if arrays is None else arrays
        addresses = [self.arrays[name].ctypes.data for name in WEIGHTS_LAYOUT]
        self._table = np.array([*(lengths[name] for name in LENGTHS), *addresses], np.int64)
        self.address: int = self._table.ctypes.data  # of the array table

    def heads(self) -> Heads:
        """The heads as they are now, as views."""
        arrays = self.arrays
        return Heads(
            arrays["head_weights"][CURRENT], arrays["head_bias"][CURRENT], arrays["head_margin"][CURRENT],
            arrays["head_share"][CURRENT],
        )  # fmt: skip


def untaught(shapes: dict[str, tuple[int, ...]], experts: int) -> dict[str, Array]:
    """What an aggregator knows before any label."""
    arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
    for name in ("lasting", "fading", "recent_best"):
        arrays[name][WEIGHTS] = 1.0 / experts
    arrays["sizes"][:] = 1.0 / experts
    arrays["over_heads"][WEIGHTS] = 1.0 / HEADS
    arrays["stack_inverse"][:] = np.eye(experts + 1) / STACK_RIDGE
    arrays["head_weights"][CURRENT] = 1.0 / experts
    arrays["head_share"][CURRENT] = 1.0 / HEADS
    return arrays
