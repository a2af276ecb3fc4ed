"""Random numbers whose state is one integer a generator, kept with the forest's arrays.

SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): every seed is a
good one, the state is a counter, and the same seed gives the same numbers on every machine.
"""

from __future__ import annotations

import math

import numpy as np

from online.forest.forest_state import Array, kernel

__all__ = ["poisson", "seeded_generators", "uniform"]

GAMMA = 0x9E3779B97F4A7C15
MASK64 = (1 << 64) - 1

# Kernels: SplitMix64's counter and finaliser, z = mix(state += GAMMA), whose top 53 bits make a number in
# [0, 1).
#   rng (T + 1,) uint64: one state a member, and one of the forest


def seeded_generators(seed: int, count: int) -> Array:
    """Initial states for generators, far apart.

    Parameters
    ----------
    seed
        The same seed gives the same states.
    count
        How many generators.

    Returns
    -------
    array
        (count,) uint64.
    """
    states = []
    for i in range(count):
        z = (seed * GAMMA + (i + 1) * 0xD1B54A32D192ED03) & MASK64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
        states.append((z ^ (z >> 27)) * 0x94D049BB133111EB & MASK64)
    return np.array(states, np.uint64)


@kernel
def uniform(rng: Array, generator: int) -> float:
    """Draw a number in [0, 1).

    Parameters
    ----------
    rng
        The generators' states, (count,) uint64; the one drawn from moves on.
    generator
        Which one.

    Returns
    -------
    float
        The number.
    """
    rng[generator] += np.uint64(0x9E3779B97F4A7C15)
    z = rng[generator]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@kernel
def poisson(rng: Array, generator: int, rate: float) -> int:
    """Draw a Poisson number by inversion (Devroye 1986, chapter X.3), in about ``rate`` steps.

    Parameters
    ----------
    rng
        The generators' states, (count,) uint64; the one drawn from moves on.
    generator
        Which one.
    rate
        The mean, at most some tens.

    Returns
    -------
    int
        At most 100.
    """
    u = uniform(rng, generator)
    p = math.exp(-rate)
    total = p
    k = 0
    while u > total and k < 100:
        k += 1
        p *= rate / k
        total += p
    return k
