"""Arrays for more features than before: everything learned stays where it is."""

from __future__ import annotations

import math

import numpy as np

from online.forest.forest_state import (
    ABSENT,
    BINS,
    MAX_STACK,
    N_NODES_MAX,
    N_SLOTS_MAX,
    P_SUBSPACE,
    Array,
    Arrays,
    node_bytes,
    slot_bytes,
)
from online.forest.random_state import uniform

__all__ = ["add_delayed_lines", "add_features", "reserve_for_a_row"]

NODES_A_SLOT = 4  # two leaves, one of them without observers, and the branches above them


def reserve_for_a_row(members: int) -> int:
    """Nodes, and slots, that learning a row may take: a split of each tree, and new background trees."""
    return 4 * members + 2


def add_features(arrays: Arrays, features: int, budget: int) -> Arrays:
    """The same forest with room for more features.

    Parameters
    ----------
    arrays
        The forest.
    features
        How many features it is to have.
    budget
        Of all its trees, in bytes.

    Returns
    -------
    Arrays
        Wider arrays; those that do not depend on the features are the same.
    """
    width = max(arrays.subspace.shape[1], math.ceil(arrays.par[P_SUBSPACE] * features), 1)
    wider = arrays._replace(
        feature=padded(arrays.feature, features, arrays.feature.shape[1]),
        category=padded(arrays.category, features, BINS, 2),
        subspace=with_new_features(arrays, features, width),
        line=with_new_weights(arrays.line, features),
        shadow=with_new_weights(arrays.shadow, features),
        bins=padded(arrays.bins, len(arrays.bins), width, *arrays.bins.shape[2:]),
        span=padded(arrays.span, len(arrays.span), width, 3),
        moment=with_new_moments(arrays.moment, features),
        factor=np.eye(features + 1),
        direction=np.zeros(features + 1),
        row=np.zeros((2, features)),
        order=np.zeros(max(features, MAX_STACK), np.int64),
    )
    set_limits(wider, budget)
    return wider


def add_delayed_lines(arrays: Arrays, budget: int) -> Arrays:
    """The same forest with earlier lines to judge leaves by, where labels come late.

    Parameters
    ----------
    arrays
        The forest; its present lines stand for the earlier ones at first.
    budget
        Of all its trees, in bytes.

    Returns
    -------
    Arrays
        With a new ``shadow``.
    """
    shadowed = arrays._replace(shadow=np.concatenate((arrays.line, arrays.line), axis=1))
    set_limits(shadowed, budget)
    return shadowed


def set_limits(arrays: Arrays, budget: int) -> None:
    """Set how many slots and nodes a budget in bytes allows."""
    least = 2 * reserve_for_a_row(len(arrays.member_i))
    node = node_bytes(len(arrays.feature), arrays.shadow.shape[1])
    slots = max(least, budget // (slot_bytes(arrays.subspace.shape[1]) + NODES_A_SLOT * node))
    arrays.counts[N_SLOTS_MAX], arrays.counts[N_NODES_MAX] = slots, NODES_A_SLOT * slots


def padded(old: Array, *shape: int) -> Array:
    """A larger array with the old one in its first corner and zeros around."""
    new = np.zeros(shape, old.dtype)
    new[tuple(slice(0, size) for size in old.shape)] = old
    return new


def with_new_features(arrays: Arrays, features: int, width: int) -> Array:
    """The trees' subspaces, each new feature in each tree with the probability the old ones had."""
    new = np.full((len(arrays.subspace), width), ABSENT, np.int64)
    new[:, : arrays.subspace.shape[1]] = arrays.subspace
    forest = len(arrays.rng) - 1  # the forest's own generator
    for tree in np.flatnonzero(arrays.root != ABSENT):
        for feature in range(len(arrays.feature), features):
            taken = int((new[tree] != ABSENT).sum())
            if taken < width and uniform(arrays.rng, forest) < arrays.par[P_SUBSPACE]:
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
