"""What scoring some rows gave, kept as it came: the reply is made from it now, the ledger's rows later."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from online.features.encoder import clean
from online.scoring.plan import ScoringPlan
from online.storage.served_predictions import Served, ServedColumns, moments

__all__ = ["Scored"]


class Scored(msgspec.Struct, frozen=True, eq=False):
    """Rows scored together with one plan: a :class:`~online.storage.served_predictions.Batch` for the ledger.

    Parameters
    ----------
    plan
        What they were scored with.
    at
        When, in unix seconds, all or each.
    names
        Their ids.
    rows
        As they came.
    values
        What their features encode to, (n, columns), NaN where one is missing.
    imputed, drifted
        Of each, as in :class:`~online.features.encoder.Encoded`.
    contexts
        Their context features, NaN where there is none.
    predictions, lower, upper
        In target units.
    experts
        The experts' outputs, (n, experts), in target units.
    """

    plan: ScoringPlan
    at: float | Sequence[float]
    names: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    values: Sequence[Sequence[float]] | np.ndarray
    imputed: Sequence[list[str]]
    drifted: Sequence[list[str]]
    contexts: Sequence[Sequence[float]]
    predictions: Sequence[float]
    lower: Sequence[float]
    upper: Sequence[float]
    experts: Sequence[Sequence[float]] | np.ndarray

    def __len__(self) -> int:
        """How many rows."""
        return len(self.rows)

    @property
    def outputs(self) -> Sequence[Sequence[float]]:
        """The experts' outputs row by row, in target units."""
        return self.experts.tolist() if isinstance(self.experts, np.ndarray) else self.experts

    def cut(self, first: int, last: int) -> Scored:
        """Those from one place up to another."""
        part = slice(first, last)
        at = self.at if isinstance(self.at, float) else self.at[part]
        return Scored(
            self.plan, at, self.names[part], self.rows[part], self.values[part], self.imputed[part],
            self.drifted[part], self.contexts[part], self.predictions[part], self.lower[part],
            self.upper[part], self.experts[part],
        )  # fmt: skip

    @property
    def kin(self) -> ScoringPlan | None:
        """What a few rows share that can be joined: their plan."""
        return None if isinstance(self.experts, np.ndarray) else self.plan

    def joined(self, several: Sequence[Scored]) -> Scored:
        """Few rows scored with this one's plan as one batch, in order."""
        fields = (map(operator.attrgetter(name), several) for name in self.__struct_fields__[2:])
        at = [at for one in several for at in moments(one.at, len(one))]
        return Scored(self.plan, at, *(list(itertools.chain.from_iterable(parts)) for parts in fields))

    def columns(self) -> list[ServedColumns]:
        """As they were served, with no more of a row than is needed to encode it again."""
        info, plain, fields = self.plan.info, self.plan.plain, self.plan.fields
        features = [
            row if row.keys() <= plain and not (imputed or drifted) else clean(row, fields)
            for row, imputed, drifted in zip(self.rows, self.imputed, self.drifted, strict=True)
        ]
        return [
            ServedColumns(
                self.at, info.version, info.seq, self.plan.context_names, self.names, features, self.contexts,
                self.outputs, self.predictions, self.lower, self.upper, self.imputed, self.drifted,
            )
        ]  # fmt: skip

    def served(self) -> list[Served]:
        """Each prediction as served, with the row's known fields."""
        return [one for part in self.columns() for one in part.served(self.plan.fields)]
