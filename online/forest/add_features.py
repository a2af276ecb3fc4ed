"""Arrays for more features than before: everything learned stays where it is."""

from __future__ import annotations

import math

import numpy as np

from online.forest.forest_state import (
    BINS,
    MAX_NODES,
    MAX_SLOTS,
    MAX_STACK,
    NONE,
    SHARE,
    Array,
    Arrays,
    node_bytes,
    slot_bytes,
)
from online.forest.random_state import uniform

__all__ = ["needed", "widened", "with_shadows"]

NODES_A_SLOT = 4  # two leaves, one of them silent, and the branches above them


def needed(members: int) -> int:
    """Nodes, and slots, that learning one row may take: a split of each tree, and new background trees."""
    return 4 * members + 2


def widened(a: Arrays, features: int, budget: int) -> Arrays:
    """The same forest with so many features and room for their observers; ``budget`` is in bytes."""
    width = max(a.subspace.shape[1], math.ceil(a.par[SHARE] * features), 1)
    wider = a._replace(
        feature=padded(a.feature, features, a.feature.shape[1]),
        category=padded(a.category, features, BINS, 2),
        subspace=with_new_features(a, features, width),
        line=with_new_weights(a.line, features),
        shadow=with_new_weights(a.shadow, features),
        bins=padded(a.bins, len(a.bins), width, *a.bins.shape[2:]),
        span=padded(a.span, len(a.span), width, 3),
        moment=with_new_moments(a.moment, features),
        factor=np.eye(features + 1),
        direction=np.zeros(features + 1),
        row=np.zeros((2, features)),
        order=np.zeros(max(features, MAX_STACK), np.int64),
    )
    allot(wider, budget)
    return wider


def with_shadows(a: Arrays, budget: int) -> Arrays:
    """The same forest, its lines of now taken for those it will be judged by; ``budget`` is in bytes."""
    shadowed = a._replace(shadow=np.concatenate((a.line, a.line), axis=1))
    allot(shadowed, budget)
    return shadowed


def allot(a: Arrays, budget: int) -> None:
    """Write down how many slots and nodes a budget in bytes allows."""
    least = 2 * needed(len(a.member_i))
    node = node_bytes(len(a.feature), a.shadow.shape[1])
    slots = max(least, budget // (slot_bytes(a.subspace.shape[1]) + NODES_A_SLOT * node))
    a.counts[MAX_SLOTS], a.counts[MAX_NODES] = slots, NODES_A_SLOT * slots


def padded(old: Array, *shape: int) -> Array:
    """A larger array with the old one in its first corner and zeros around."""
    new = np.zeros(shape, old.dtype)
    new[tuple(slice(0, size) for size in old.shape)] = old
    return new


def with_new_features(a: Arrays, features: int, width: int) -> Array:
    """The trees' subspaces, each new feature in each tree with the probability the old ones had."""
    new = np.full((len(a.subspace), width), NONE, np.int64)
    new[:, : a.subspace.shape[1]] = a.subspace
    forest = len(a.rng) - 1
    for tree in np.flatnonzero(a.root != NONE):
        for feature in range(len(a.feature), features):
            taken = int((new[tree] != NONE).sum())
            if taken < width and uniform(a.rng, forest) < a.par[SHARE]:
                new[tree, taken] = feature
    return new


def with_new_weights(old: Array, features: int) -> Array:
    """Linear models with zeros for the new features; the intercepts stay last."""
    new = np.zeros((*old.shape[:2], features + 1))
    new[:, :, : old.shape[2] - 1] = old[:, :, :-1]
    new[:, :, -1] = old[:, :, -1]
    return new


def with_new_moments(old: Array, features: int) -> Array:
    """Moments that know nothing of the new features; the always-one stays last."""
    known = len(old) - 1
    new = np.zeros((features + 1, features + 1))
    new[:known, :known] = old[:known, :known]
    new[features, :known] = old[known, :known]
    new[features, features] = old[known, known]
    return new
