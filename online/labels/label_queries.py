"""Which served rows to ask labels for: the most valuable ones, spread out, and some drawn at random.

A label is worth more where the interval is wide and the experts disagree (it would correct much there), and
where the row is a drifted input. It is worth less the more rows of the same segment, or of the same moment,
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
from online.storage.served_predictions import EXPERTS_DISAGREE, WIDE_INTERVAL, Served

__all__ = ["RANDOM", "LabelQuery", "choose_queries"]

RANDOM = "drawn at random"
NEW_SEGMENT = "few labels asked for its place"
MOMENT_ROWS = 24  # rows in a row that count as one moment: of an hourly stream, a day
REPEAT_WORTH = 0.5  # what another label of the same segment or moment is worth, to the first
DRIFT_WORTH = 1.0  # what a drifted input adds, to a row of mean width and disagreement, which has 2
NOTABLE = 1.5  # times the mean: then width or disagreement is named as a reason


class LabelQuery(msgspec.Struct, frozen=True):
    """A served row whose label is wanted: with its features, as a label endpoint is asked with."""

    id: str
    features: dict[str, Any]
    prediction: float
    lower: float
    upper: float
    served_at: float
    reasons: tuple[str, ...]


def choose_queries(
    rows: Sequence[Served], segments: Segments, budget: int, random_share: float
) -> list[LabelQuery]:
    """Choose the rows to ask for.

    Parameters
    ----------
    rows
        Served rows without a label, oldest first.
    segments
        Tells the segment of a row.
    budget
        How many rows are asked for at most.
    random_share
        How many of these are drawn at random, 0 to 1: by their ids, so the same ones until labels come.

    Returns
    -------
    list of LabelQuery
        The most valuable row first, the random ones last.
    """
    count = min(budget, len(rows))
    by_rank = sorted(range(len(rows)), key=lambda row_index: random_rank(rows[row_index].id))
    drawn = set(by_rank[: round(random_share * count)])
    others = [row_index for row_index in range(len(rows)) if row_index not in drawn]
    picked = pick_valuable([rows[row_index] for row_index in others], segments, count - len(drawn))
    valuable = [label_query(rows[others[index]], reasons) for index, reasons in picked]
    return valuable + [label_query(rows[row_index], (RANDOM,)) for row_index in sorted(drawn)]


def pick_valuable(
    rows: Sequence[Served], segments: Segments, count: int
) -> list[tuple[int, tuple[str, ...]]]:
    """The indices of the most valuable rows and why: greedily, each valued beside those picked before."""
    if not rows or count <= 0:
        return []
    width = over_mean([row.upper - row.lower for row in rows])
    disagreement = over_mean([max(row.experts, default=0.0) - min(row.experts, default=0.0) for row in rows])
    value = width + disagreement + DRIFT_WORTH * np.array([bool(row.drifted) for row in rows])
    segment = group_numbers([segments.segment_of(row.features) for row in rows])
    moment = np.arange(len(rows)) // MOMENT_ROWS
    picked = []
    for _ in range(min(count, len(rows))):
        best = int(value.argmax())
        reasons = list(rows[best].drifted)
        reasons += [WIDE_INTERVAL] if width[best] > NOTABLE and WIDE_INTERVAL not in reasons else []
        reasons += (
            [EXPERTS_DISAGREE] if disagreement[best] > NOTABLE and EXPERTS_DISAGREE not in reasons else []
        )
        picked.append((best, tuple(reasons) or (NEW_SEGMENT,)))
        value = np.where(segment == segment[best], REPEAT_WORTH * value, value)
        value = np.where(moment == moment[best], REPEAT_WORTH * value, value)
        value[best] = -1.0  # never picked again: all others are above 0, or 0
    return picked


def over_mean(values: Sequence[float]) -> np.ndarray:
    """Values over their mean, (n,); all 1 where that is 0."""
    mean = float(np.mean(values))
    return np.array(values) / mean if mean > 0.0 else np.ones(len(values))


def group_numbers(groups: Sequence[tuple[int, int]]) -> np.ndarray:
    """A number for each distinct group, (n,)."""
    numbers: dict[tuple[int, int], int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups])


def random_rank(name: str) -> bytes:
    """What an id is drawn by: as good as random, and the same each time it is asked for."""
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def label_query(row: Served, reasons: tuple[str, ...]) -> LabelQuery:
    """A row to ask for."""
    return LabelQuery(row.id, row.features, row.prediction, row.lower, row.upper, row.served_at, reasons)
