"""An aggregator's numbers as the release before kept them, in one flat array, for snapshots of format 1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from online.model.aggregation.heads import Array
from online.model.aggregation.stack import STACK_STATS
from online.model.aggregation.weights_state import HEADS, SNAPSHOTS, STACKS

__all__ = ["FlatOffsets", "from_flat"]


class FlatOffsets(NamedTuple):
    """Where each part began, and how long the whole was."""

    counts: int
    largest: int
    long: int
    short: int
    best: int
    gained: int
    over: int
    stacks: int
    sizes: int
    now: int
    past: int
    scratch: int
    length: int


def from_flat(numbers: Array, offsets: FlatOffsets, experts: int) -> dict[str, Array]:
    """The arrays of :class:`~online.model.aggregation.weights_state.WeightsState` in a flat array.

    Parameters
    ----------
    numbers
        All of them, (length,).
    offsets
        Where each part begins.
    experts
        How many there are.

    Returns
    -------
    dict
        Arrays by name, scratch among them.

    Raises
    ------
    ValueError
        They are not those of so many experts.
    """
    inputs, block = experts + 1, HEADS * (experts + 3)
    parts = dict(
        zip(FlatOffsets._fields[:-1], np.split(numbers[: offsets.length], offsets[1:-1]), strict=True)
    )
    stacks = parts["stacks"].reshape(STACKS, inputs + inputs * inputs + STACK_STATS)
    heads = np.concatenate((parts["past"], parts["now"])).reshape(SNAPSHOTS + 1, block)
    weights, bias, margin, share = np.split(heads, HEADS * (experts + np.arange(3)), axis=1)
    arrays = {
        "counters": parts["counts"],
        "largest": parts["largest"],
        "lasting": parts["long"].reshape(3, experts),
        "fading": parts["short"].reshape(3, experts),
        "recent_best": parts["best"].reshape(2, experts),
        "over_heads": parts["over"].reshape(3, HEADS),
        "stack_weights": stacks[:, :inputs],
        "stack_inverse": stacks[:, inputs:-STACK_STATS].reshape(STACKS, inputs, inputs),
        "stack_stats": stacks[:, -STACK_STATS:],
        "sizes": parts["sizes"],
        "head_weights": weights.reshape(SNAPSHOTS + 1, HEADS, experts),
        "head_bias": bias,
        "head_margin": margin,
        "head_share": share,
        "outputs": np.zeros(experts),
        "answers": np.zeros(HEADS),
        "row": np.zeros(inputs),
        "gain": np.zeros(inputs),
    }
    return {name: np.ascontiguousarray(array).copy() for name, array in arrays.items()}
