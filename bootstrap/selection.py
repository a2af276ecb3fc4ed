"""Forward selection of features for a linear model, by the squared error of rows still to come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Selection"]

Floats = npt.NDArray[np.float64]

SELECTION_BLOCKS = 10  # the rows in order, each block predicted from those before it
WARM_BLOCKS = 2  # blocks learned before the first is predicted
BLOCK_DECAY = 0.7  # what earlier blocks count when a block has passed: streams drift
RIDGE_PER_ROW = 1e-3  # penalty a row, on standardised columns


class Block(NamedTuple):
    """Sums of products of all columns, the target last: of the rows before a block, and of the block."""

    before: Floats
    within: Floats


class Selection:
    """Chooses among columns that may be served in several ways.

    Every way is a stream of its own; a column is judged by its error over all of them. Adding one column
    to a ridge regression has a closed form (the block inverse), so all candidates are tried at once.

    Parameters
    ----------
    own
        Columns always used, (rows, own); NaN where a value is missing.
    served
        For each way, the columns to choose from, (rows, candidates); NaN where there is none.
    targets
        (rows,), in any unit.
    """

    def __init__(self, own: Floats, served: Sequence[Floats], targets: Floats) -> None:
        self._own = own.shape[1] + 1
        self._candidates = served[0].shape[1]
        constant, target = np.ones((len(targets), 1)), standardised(targets[:, None])
        self._ways = [
            blocks(np.hstack([constant, standardised(own), standardised(columns), target]))
            for columns in served
        ]

    def alone(self) -> Floats:
        """How far each candidate alone lowers the logarithm of the squared error, (candidates,)."""
        return self._gains(range(self._own), range(self._own, self._own + self._candidates))

    def forward(self, most: int = 10, least: float = 0.005) -> Iterator[tuple[int, float]]:
        """Candidates in the order chosen, each with the share of squared error it took away.

        Parameters
        ----------
        most
            Candidates chosen at most.
        least
            Smallest share that is worth a feature.

        Yields
        ------
        tuple of int and float
            A candidate's index, and the share of the squared error it took away.
        """
        chosen = list(range(self._own))
        left = list(range(self._own, self._own + self._candidates))
        while left and most:
            gains = self._gains(chosen, left)
            best = int(np.argmax(gains))
            gain = 1.0 - float(np.exp(-gains[best]))
            if not gain > least:
                return
            yield left[best] - self._own, gain
            chosen.append(left.pop(best))
            most -= 1

    def _gains(self, chosen: Sequence[int], left: Sequence[int]) -> Floats:
        return np.asarray(np.mean([way_gains(way, chosen, left) for way in self._ways], axis=0))


def standardised(columns: Floats) -> Floats:
    """Columns of mean 0 and deviation 1; missing values become 0, columns that do not vary stay 0."""
    present = ~np.isnan(columns)
    count = np.maximum(present.sum(axis=0), 1)
    filled = np.where(present, columns, 0.0)
    centred = np.where(present, columns - filled.sum(axis=0) / count, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=0) / count)
    return np.where(deviation > 0.0, centred / np.where(deviation > 0.0, deviation, 1.0), 0.0)


def blocks(matrix: Floats) -> list[Block]:
    """The sums of products, block after block."""
    sums = [part.T @ part for part in np.array_split(matrix, SELECTION_BLOCKS)]
    before, folds = np.zeros_like(sums[0]), []
    for index, within in enumerate(sums):
        if index >= WARM_BLOCKS:
            folds.append(Block(before, within))
        before = BLOCK_DECAY * before + within
    return folds


def way_gains(way: Sequence[Block], chosen: Sequence[int], left: Sequence[int]) -> Floats:
    """For each candidate left, the fall of the logarithm of the squared error of all blocks."""
    without, with_it = np.sum([errors(block, chosen, left) for block in way], axis=0).T
    return np.asarray(np.log(np.maximum(without, 1e-12)) - np.log(np.maximum(with_it, 1e-12)))


def errors(block: Block, chosen: Sequence[int], left: Sequence[int]) -> Floats:
    """Squared error of the block without and with each candidate, (candidates, 2)."""
    train, test, last = block.before, block.within, -1
    penalty = RIDGE_PER_ROW * train[0, 0]
    gram = train[np.ix_(chosen, chosen)] + penalty * np.eye(len(chosen))
    beside = train[np.ix_(chosen, left)]
    solved = np.linalg.solve(gram, np.column_stack([train[chosen, last], beside]))
    weights, shift = solved[:, 0], solved[:, 1:]
    rest = train[left, left] + penalty - np.sum(beside * shift, axis=0)
    slope = (train[left, last] - beside.T @ weights) / rest
    inner, across = test[np.ix_(chosen, chosen)], test[np.ix_(chosen, left)]
    residual = inner @ weights - test[chosen, last]
    error = test[last, last] + weights @ (residual - test[chosen, last])
    first = across.T @ weights - test[left, last] - shift.T @ residual
    second = test[left, left] - 2 * np.sum(shift * across, axis=0) + np.sum(shift * (inner @ shift), axis=0)
    return np.column_stack([np.full(len(left), error), error + 2 * slope * first + slope**2 * second])
