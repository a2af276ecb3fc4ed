"""What scoring some rows gave, kept as it came: the reply is made from it now, the ledger's rows later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from online.encoding import Encoded, clean
from online.plan import ScoringPlan
from online.schema import Schema
from online.served import Served

__all__ = ["Scored"]


class Scored(msgspec.Struct, frozen=True, eq=False):
    """Rows scored together with one plan: a :class:`~online.served.Batch` for the ledger.

    Parameters
    ----------
    plan
        What they were scored with.
    at
        When, in unix seconds.
    names
        Their ids.
    rows
        As they came.
    encoded
        As they were encoded.
    contexts
        Their context features, NaN where there is none.
    predictions, lower, upper
        In target units.
    experts
        The experts' outputs, (n, experts), in target units.
    """

    plan: ScoringPlan
    at: float
    names: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    encoded: Sequence[Encoded]
    contexts: Sequence[Sequence[float]]
    predictions: list[float]
    lower: list[float]
    upper: list[float]
    experts: Sequence[Sequence[float]] | np.ndarray

    def __len__(self) -> int:
        """How many rows."""
        return len(self.rows)

    def values(self) -> Sequence[Sequence[float]]:
        """What the features of each encoded to, NaN where one is missing."""
        return [one.values for one in self.encoded]

    def served(self) -> list[Served]:
        """Each prediction as served, with the row's known fields."""
        info, fields = self.plan.info, self.plan.fields
        experts = self.experts.tolist() if isinstance(self.experts, np.ndarray) else self.experts
        return [
            Served(
                name, self.at, clean(row, fields), named(info.schema, context), tuple(outputs), prediction,
                lower, upper, tuple(one.imputed), tuple(one.drifted), info.version, info.seq,
            )
            for name, row, one, context, outputs, prediction, lower, upper in zip(
                self.names, self.rows, self.encoded, self.contexts, experts, self.predictions,
                self.lower, self.upper, strict=True,
            )
        ]  # fmt: skip


def named(schema: Schema, context: Sequence[float]) -> dict[str, float]:
    """Context features by name, those there are."""
    return {spec.name: v for spec, v in zip(schema.context, context, strict=True) if v == v}
