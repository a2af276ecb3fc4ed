"""Random numbers whose state is one integer a generator, kept with the forest's arrays.

SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): every seed is a
good one, the state is a counter, and the same seed gives the same numbers on every machine.
"""

from __future__ import annotations

import math

import numpy as np

from online.forest.forest_state import Array, kernel

__all__ = ["poisson", "scattered", "uniform"]

GAMMA = 0x9E3779B97F4A7C15
MASK64 = (1 << 64) - 1


def scattered(seed: int, n: int) -> Array:
    """Far-apart initial states for ``n`` generators."""
    states = []
    for i in range(n):
        z = (seed * GAMMA + (i + 1) * 0xD1B54A32D192ED03) & MASK64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
        states.append((z ^ (z >> 27)) * 0x94D049BB133111EB & MASK64)
    return np.array(states, np.uint64)


@kernel
def uniform(rng: Array, i: int) -> float:
    """A number in [0, 1) from generator ``i``."""
    rng[i] += np.uint64(0x9E3779B97F4A7C15)
    z = rng[i]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@kernel
def poisson(rng: Array, i: int, rate: float) -> int:
    """A Poisson number by inversion (Devroye 1986, chapter X.3): about ``rate`` steps."""
    u = uniform(rng, i)
    p = math.exp(-rate)
    total = p
    k = 0
    while u > total and k < 100:
        k += 1
        p *= rate / k
        total += p
    return k
