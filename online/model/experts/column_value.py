"""The plainest expert: one column's value is the prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from river import base

__all__ = ["ColumnValue"]


class ColumnValue(base.Regressor):
    """Predict by the value of one feature, as persistence, the seasonal naive forecast or a decayed table do.

    What the feature means, for instance the last label of the row's key, or the mean of those of its hour, is
    the context's doing; nothing is learned here.

    Parameters
    ----------
    column
        The feature's name. Its unit is the target's.

    Examples
    --------
    >>> from online.model.experts.column_value import ColumnValue
    >>> ColumnValue("last label").predict_one({"last label": 7.5, "wind": 3.0})
    7.5
    """

    def __init__(self, column: str) -> None:
        self.column = column

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"column": "ordinal_date"}

    def learn_one(self, x: Mapping[str, float], y: float) -> None:
        """Do nothing.

        Parameters
        ----------
        x
            Feature values by name.
        y
            The target.
        """

    def predict_one(self, x: Mapping[str, float]) -> float:
        """Return the feature's value; NaN when the row has none, which a pool replaces.

        Parameters
        ----------
        x
            Feature values by name.
        """
        return float(x.get(self.column, math.nan))
