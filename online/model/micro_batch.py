"""A small batch of rows that scaler and experts learn and predict in order, one expert after the other.

An expert that goes through many rows at once finds its arrays and code still in the processor's caches; the
result is the same to the last bit as row by row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from river import base

from online.core.clip import clip
from online.features.matrix import Floats, rows_to_matrix

__all__ = ["BatchRegressor", "BatchScaler", "FeatureView", "MicroBatch", "QueuedRow", "TargetStats"]

Row = Mapping[str, Any]


class TargetStats(NamedTuple):
    """Lowest, highest and mean target so far, in target units; infinity, minus infinity and 0 before any."""

    low: float
    high: float
    mean: float

    @property
    def is_known(self) -> bool:
        """Whether there was any target."""
        return self.low <= self.high

    def clip(self, output: float) -> float:
        """An output clipped to that range; the mean where it is NaN or infinite, or before any target."""
        if self.low <= output <= self.high:
            return output
        if not self.is_known or not math.isfinite(output):
            return self.mean
        return clip(output, self.low, self.high)


class QueuedRow(NamedTuple):
    """A row that scaler and experts are to learn or, where it has no target, that experts are to predict."""

    row: Row
    target: float | None
    target_stats: TargetStats  # before this row


class FeatureView(NamedTuple):
    """What an expert reads of a row: standardised or as it came, all columns or those named."""

    scaled: bool = True
    columns: frozenset[str] | None = None

    def of(self, row: Row) -> Row:
        """The columns of a row that are read."""
        return row if self.columns is None else {c: v for c, v in row.items() if c in self.columns}


@runtime_checkable
class BatchRegressor(Protocol):
    """A regressor that goes through many rows faster than one by one."""

    def learn_predict_many(
        self, names: tuple[str, ...], rows: Floats, targets: Sequence[float]
    ) -> list[float] | None:
        """Learn and predict rows in order, to the last bit as one by one.

        Parameters
        ----------
        names
            The features, in the order of their names.
        rows
            Their values, (n, features), C-contiguous.
        targets
            The targets, (n,), NaN for rows to predict.

        Returns
        -------
        list or None
            The predictions for those, in target units; None, and nothing was done, when it does not know just
            these features.
        """


@runtime_checkable
class BatchScaler(Protocol):
    """A scaler that goes through many rows faster than one by one."""

    def learn_transform_many(
        self, names: tuple[str, ...], rows: Floats, transform_only: Sequence[bool]
    ) -> bool:
        """Learn rows and scale them in place, in order, to the last bit as one by one.

        Parameters
        ----------
        names
            The features.
        rows
            Their values, (n, features), C-contiguous.
        transform_only
            Which rows are scaled but not learned, (n,).

        Returns
        -------
        bool
            False, and nothing was done, when it does not know just these features in this order.
        """


class MicroBatch:
    """Rows as they came and standardised, for one expert after the other.

    Parameters
    ----------
    queued
        The rows, at least one.
    scaler
        Standardises them, and learns those with a target before it does.
    """

    def __init__(self, queued: Sequence[QueuedRow], scaler: base.Transformer) -> None:
        self._targets = [math.nan if item.target is None else item.target for item in queued]
        self._predict_only = [item.target is None for item in queued]
        raw = [item.row for item in queued]
        names = tuple(raw[0])
        self._raw = BatchRows(raw, rows_to_matrix(names, raw) if len(raw) > 1 else None)
        self._scaled = self._scale_at_once(scaler, names) or self._scale_one_by_one(scaler, names)
        if len(raw) > 1:
            # experts that number features by name find them in the order they know
            order = sorted(range(len(names)), key=lambda column: str(names[column]))
            self._names = tuple(names[column] for column in order)
            self._raw, self._scaled = self._raw.ordered(order), self._scaled.ordered(order)

    def _scale_at_once(self, scaler: base.Transformer, names: tuple[str, ...]) -> BatchRows | None:
        """All rows standardised as a matrix, where there is one and the scaler does that."""
        if self._raw.matrix is None or not isinstance(scaler, BatchScaler):
            return None
        matrix = self._raw.matrix.copy()
        if not scaler.learn_transform_many(names, matrix, self._predict_only):
            return None
        return BatchRows([dict(zip(names, row, strict=True)) for row in matrix.tolist()], matrix)

    def _scale_one_by_one(self, scaler: base.Transformer, names: tuple[str, ...]) -> BatchRows:
        """All rows standardised."""
        scaled = []
        for row, predict_only in zip(self._raw.dicts, self._predict_only, strict=True):
            if not predict_only:
                scaler.learn_one(row)
            scaled.append(scaler.transform_one(row))
        return BatchRows(scaled, rows_to_matrix(names, scaled) if len(scaled) > 1 else None)

    def learn_predict(self, expert: base.Regressor, view: FeatureView) -> list[float]:
        """Have an expert learn and predict the rows in order.

        Parameters
        ----------
        expert
            The expert.
        view
            What it reads of each row.

        Returns
        -------
        list of float
            Its outputs for the rows without a target, in target units.
        """
        rows = self._scaled if view.scaled else self._raw
        if rows.matrix is not None and view.columns is None and isinstance(expert, BatchRegressor):
            outputs = expert.learn_predict_many(self._names, rows.matrix, self._targets)
            if outputs is not None:
                return outputs
        outputs = []
        for row, target, predict_only in zip(rows.dicts, self._targets, self._predict_only, strict=True):
            if predict_only:
                outputs.append(expert.predict_one(view.of(row)))
            else:
                expert.learn_one(view.of(row), target)
        return outputs


class BatchRows(NamedTuple):
    """The same rows by name and as a matrix (n, features); no matrix where their features differ."""

    dicts: Sequence[Row]
    matrix: Floats | None

    def ordered(self, order: Sequence[int]) -> BatchRows:
        """With the matrix's columns in another order."""
        if self.matrix is None:
            return self
        return BatchRows(self.dicts, np.ascontiguousarray(self.matrix[:, order]))
