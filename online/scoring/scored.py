"""The result of scoring rows: the reply is made from it now, the prediction log's records later."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from online.features.value_encoder import clean
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
        Of each, as in :class:`~online.features.value_encoder.Encoded`.
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
    def ids(self) -> Sequence[str]:
        """The id of each."""
        return self.names

    @property
    def outputs(self) -> Sequence[Sequence[float]]:
        """The experts' outputs row by row, in target units."""
        return self.experts.tolist() if isinstance(self.experts, np.ndarray) else self.experts

    def slice_rows(self, first: int, last: int) -> Scored:
        """A part of the rows.

        Parameters
        ----------
        first, last
            Indices of its first row, and of the row after its last.

        Returns
        -------
        Scored
            Those rows.
        """
        part = slice(first, last)
        at = self.at if isinstance(self.at, float) else self.at[part]
        return Scored(self.plan, at, *(getattr(self, name)[part] for name in self.__struct_fields__[2:]))

    @property
    def join_key(self) -> ScoringPlan | None:
        """What a few rows share that can be joined: their plan."""
        return None if isinstance(self.experts, np.ndarray) else self.plan

    def joined(self, several: Sequence[Scored]) -> Scored:
        """Few rows scored with this one's plan as one batch, in order."""
        columns = (map(operator.attrgetter(name), several) for name in self.__struct_fields__[2:])
        at = [moment for batch in several for moment in moments(batch.at, len(batch))]
        return Scored(self.plan, at, *(list(itertools.chain.from_iterable(parts)) for parts in columns))

    def columns(self) -> list[ServedColumns]:
        """As they were served, with no more of a row than is needed to encode it again."""
        info, plain, fields = self.plan.info, self.plan.plain, self.plan.fields
        features = [
            row if row.keys() <= plain and not (imputed or drifted) else clean(row, fields)
            for row, imputed, drifted in zip(self.rows, self.imputed, self.drifted, strict=True)
        ]
        return [
            ServedColumns(
                served_at=self.at,
                model_version=info.version,
                plan_seq=info.seq,
                context_names=self.plan.context_names,
                ids=self.names,
                features=features,
                contexts=self.contexts,
                experts=self.outputs,
                predictions=self.predictions,
                lower=self.lower,
                upper=self.upper,
                imputed=self.imputed,
                drifted=self.drifted,
                schema_hash=self.plan.schema_hash,
                encoded=np.asarray(self.values, "<f8").tobytes(),
            )
        ]

    def served(self) -> list[Served]:
        """Each prediction as served, with the row's known fields."""
        return [served for part in self.columns() for served in part.served(self.plan.fields)]
