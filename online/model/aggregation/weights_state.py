"""All an aggregator has learned, in one array of numbers, and where in it everything lies.

For k experts and H heads: counts and largest disagreements; the convex heads' weights with what they are
learned from; regrets a row; the weights over the heads; the stacks; the heads as they are now, then as they
were: every 8 labels they are kept, 128 times. What is kept lets a head be judged by what it would have
served.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from online.model.aggregation.heads import Array, Heads
from online.model.aggregation.stack import RIDGE, SEEN

__all__ = ["CONVEX", "HEADS", "KEPT", "MEMORIES", "STRIDE", "Places", "fresh", "heads_at", "places"]

CONVEX = 3  # heads: ML-Poly for good, ML-Poly with fading, whoever was best of late
MEMORIES = (0.9999, 0.999, 0.997)  # of the stacks, which are the other heads
HEADS = CONVEX + len(MEMORIES)
STRIDE = 8  # labels between two kept states
KEPT = 128  # states: heads are known as they were up to a thousand labels ago
POLY = 3  # rows of an ML-Poly: weights, regrets, squares


class Places(NamedTuple):
    """Where each part begins, and how long the whole is."""

    counts: int  # (4,): rows learned, states noted, how late labels come (log), and the latest they came
    largest: int  # (3,): of the two ML-Poly heads, and of the one over the heads
    long: int  # (POLY, k)
    short: int  # (POLY, k)
    best: int  # (2, k): weights, faded errors
    gained: int  # (k,): absolute error of the combination less the expert's, a row
    over: int  # (POLY, H)
    stacks: int  # (stacks, (k + 1) + (k + 1)^2 + SEEN)
    sizes: int  # (k,): of the experts' weights, summing to one
    now: int  # (H k + 3 H): weights, bias, margin, share
    past: int  # (KEPT, H k + 3 H): a ring of them
    scratch: int  # (k + H + 2 (k + 1))
    length: int


def places(experts: int) -> Places:
    """Where everything lies, for so many experts."""
    side, block = experts + 1, HEADS * (experts + 3)
    sizes = (
        4, 3, POLY * experts, POLY * experts, 2 * experts, experts, POLY * HEADS,
        len(MEMORIES) * (side + side * side + SEEN), experts, block, KEPT * block, experts + HEADS + 2 * side,
    )  # fmt: skip
    return Places(*np.cumsum((0, *sizes)).tolist())


def fresh(experts: int) -> Array:
    """What an aggregator knows before any label."""
    at, side = places(experts), experts + 1
    numbers = np.zeros(at.length)
    for head in (at.long, at.short, at.best, at.sizes):
        numbers[head : head + experts] = 1.0 / experts
    numbers[at.over : at.over + HEADS] = 1.0 / HEADS
    for stack in range(len(MEMORIES)):
        inverse = at.stacks + stack * (side + side * side + SEEN) + side
        numbers[inverse : inverse + side * side] = (np.eye(side) / RIDGE).ravel()
    now = heads_at(numbers, at.now, experts)
    now.weights[:] = 1.0 / experts
    now.share[:] = 1.0 / HEADS
    return numbers


def heads_at(numbers: Array, start: int, experts: int) -> Heads:
    """The heads that lie at a place, as views."""
    weights = numbers[start : start + HEADS * experts].reshape(HEADS, experts)
    rest = numbers[start + HEADS * experts : start + HEADS * (experts + 3)].reshape(3, HEADS)
    return Heads(weights, *rest)
