"""Which served rows to ask labels for: those whose labels promise most, spread out, and some drawn at random.

A label is worth more where the interval is wide and the experts disagree (what it would correct is large
there), and where the row is a drifted input; and less the more rows of the same place, or of the same moment,
are asked for already. The random ones are drawn whatever the row is like, so that errors estimated from them
are unbiased.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from online.features.segments import Segments
from online.storage.served_predictions import Served

__all__ = ["RANDOM", "Wanted", "choose"]

RANDOM = "drawn at random"
WIDE, DISAGREE, NEW_PLACE = "wide interval", "experts disagree", "few labels asked for its place"
MOMENT = 24  # rows that count as one moment
CROWDED = 0.5  # what another label of the same place or moment is worth, to the first
DRIFTED = 1.0  # what a drifted input adds, to a row of mean width and disagreement, which has 2
NOTABLE = 1.5  # times the mean: then width or disagreement is named as a reason


class Wanted(msgspec.Struct, frozen=True):
    """A served row whose label is wanted: with its features, as a label endpoint is asked with."""

    id: str
    features: dict[str, Any]
    prediction: float
    lower: float
    upper: float
    served_at: float
    reasons: tuple[str, ...]


def choose(rows: Sequence[Served], slots: Segments, budget: int, share: float) -> list[Wanted]:
    """The rows to ask for, the most wanted first, the random ones last.

    Parameters
    ----------
    rows
        Served rows without a label, oldest first.
    slots
        What tells their places.
    budget
        How many are wanted at most.
    share
        How many of these are drawn at random, 0 to 1: by their ids, so the same ones until labels come.
    """
    drawn = set(
        sorted(range(len(rows)), key=lambda i: lot(rows[i].id))[: round(share * min(budget, len(rows)))]
    )
    left = [i for i in range(len(rows)) if i not in drawn]
    picked = greedy([rows[i] for i in left], slots, min(budget, len(rows)) - len(drawn))
    chosen = [wanted(rows[left[i]], reasons) for i, reasons in picked]
    return chosen + [wanted(rows[i], (RANDOM,)) for i in sorted(drawn)]


def greedy(rows: Sequence[Served], slots: Segments, count: int) -> list[tuple[int, tuple[str, ...]]]:
    """Places of the most valuable rows and why, each valued beside those taken before."""
    if not rows or count <= 0:
        return []
    width = relative([one.upper - one.lower for one in rows])
    spread = relative([max(one.experts, default=0.0) - min(one.experts, default=0.0) for one in rows])
    value = width + spread + DRIFTED * np.array([bool(one.drifted) for one in rows])
    places = numbered([slots.segment_of(one.features) for one in rows])
    moments = np.arange(len(rows)) // MOMENT
    found = []
    for _ in range(min(count, len(rows))):
        best = int(value.argmax())
        reasons = list(rows[best].drifted)
        reasons += [WIDE] if width[best] > NOTABLE and WIDE not in reasons else []
        reasons += [DISAGREE] if spread[best] > NOTABLE and DISAGREE not in reasons else []
        found.append((best, tuple(reasons) or (NEW_PLACE,)))
        value = np.where(places == places[best], CROWDED * value, value)
        value = np.where(moments == moments[best], CROWDED * value, value)
        value[best] = -1.0
    return found


def relative(values: Sequence[float]) -> np.ndarray:
    """Values over their mean, all 1 where that is 0."""
    mean = float(np.mean(values))
    return np.array(values) / mean if mean > 0.0 else np.ones(len(values))


def numbered(places: Sequence[tuple[int, int]]) -> np.ndarray:
    """A number for each place."""
    numbers: dict[tuple[int, int], int] = {}
    return np.array([numbers.setdefault(place, len(numbers)) for place in places])


def lot(name: str) -> bytes:
    """What an id draws."""
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def wanted(one: Served, reasons: tuple[str, ...]) -> Wanted:
    """A row to ask for."""
    return Wanted(one.id, one.features, one.prediction, one.lower, one.upper, one.served_at, reasons)
