"""Scoring without HTTP: rows in, predictions as served out. What routes, replay and tests call."""

from __future__ import annotations

import contextlib
import itertools
import logging
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from online.core.errors import InputError, PlanError
from online.core.file_watcher import FileWatcher
from online.scoring.plan import FEW, ScoringPlan
from online.scoring.plan_file import previous_of
from online.scoring.scored import Scored
from online.storage.served_predictions import Served, identifier, new_name, new_prefix

__all__ = ["PlanWatch", "Scorer"]

log = logging.getLogger(__name__)


class HasPlan(Protocol):
    """Where the plan at hand is found."""

    @property
    def plan(self) -> ScoringPlan | None:
        """The plan, once there is one."""


class PlanWatch:
    """Keeps the newest published plan at hand.

    A thread looks at the file every ``poll_seconds`` and swaps one reference; ``plan`` never waits. A torn
    plan, or one behind the plan at hand, is left alone; at the start, the one published before stands in.

    Parameters
    ----------
    path
        The published plan.
    poll_seconds
        How often to look.
    """

    def __init__(self, path: Path, poll_seconds: float = 0.02) -> None:
        self._path = path
        self.plan: ScoringPlan | None = None
        self.loaded_at = 0.0
        self._file = FileWatcher(path, self._load, poll_seconds, "plan")
        self._file.refresh()
        if self.plan is None:
            self._fall_back()
        self._file.start()

    def refresh(self) -> None:
        """Look now."""
        self._file.refresh()

    def _load(self) -> None:
        try:
            self._take(ScoringPlan.load(self._path))
        except PlanError as exc:
            log.warning("%s; scoring goes on from the plan at hand", exc)

    def _fall_back(self) -> None:
        """Begin with the plan published before, where the newest is torn or lost; the learner mends that."""
        with contextlib.suppress(PlanError):
            self._take(ScoringPlan.load(previous_of(self._path)))

    def close(self) -> None:
        """Stop looking."""
        self._file.close()

    def _take(self, plan: ScoringPlan) -> None:
        if self.plan is None or (plan.info.seq, plan.info.version) >= (
            self.plan.info.seq,
            self.plan.info.version,
        ):
            self.plan = plan.prepare()
            self.loaded_at = time.time()


class Scorer:
    """Scores rows from the plan at hand.

    Parameters
    ----------
    watch
        Where the plan comes from.
    clock
        Unix seconds.
    """

    def __init__(self, watch: HasPlan, clock: Callable[[], float] = time.time) -> None:
        self._watch = watch
        self._clock = clock
        self._prefix = new_prefix()
        self._count = itertools.count(1)

    @property
    def plan(self) -> ScoringPlan:
        """The plan at hand. Raises PlanError when there is none yet."""
        plan = self._watch.plan
        if plan is None:
            raise PlanError("there is no plan to score with yet: bootstrap a model, or start its learner")
        return plan

    def score(self, rows: Sequence[Mapping[str, Any]]) -> list[Served]:
        """Score raw rows as :meth:`serve` does, and give each as it was served."""
        return self.serve(rows).served()

    def serve(self, rows: Sequence[Mapping[str, Any]]) -> Scored:
        """Score raw rows, dirty values and all; every prediction is finite.

        Raises
        ------
        InputError
            An ``id`` is neither a text of 1 to 200 characters nor a whole number, or repeats in the batch.
        PlanError
            There is no plan yet.
        """
        plan, now, names = self.plan, self._clock(), self._names(rows)
        if 0 < len(rows) <= FEW:
            return scored_few(plan, now, names, rows)
        matrix, report = plan.encode(rows)
        columns = len(plan.encoder.columns)
        predictions, experts = plan.score(matrix)
        lower, upper = plan.intervals(matrix, predictions, experts)
        return Scored(
            plan=plan,
            at=now,
            names=names,
            rows=rows,
            values=matrix[:, :columns],
            imputed=report.imputed,
            drifted=report.drifted,
            contexts=matrix[:, columns:].tolist(),
            predictions=predictions.tolist(),
            lower=lower.tolist(),
            upper=upper.tolist(),
            experts=experts,
        )

    def serve_each(self, rows: Sequence[Mapping[str, Any]]) -> Scored:
        """As :meth:`serve`, at most ``FEW`` rows that came apart from one another: an id may repeat."""
        names = [self._name(row.get("id"), index) for index, row in enumerate(rows)]
        return scored_few(self.plan, self._clock(), names, rows)

    def _names(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        if not any("id" in row for row in rows):
            return [new_name(self._prefix, number) for number in itertools.islice(self._count, len(rows))]
        names = [self._name(row.get("id"), index) for index, row in enumerate(rows)]
        if len(set(names)) < len(names):
            first = {name: index for index, name in reversed(list(enumerate(names)))}
            index = next(index for index, name in enumerate(names) if first[name] < index)
            raise InputError(f"id {names[index]!r} stands twice in the batch", field="id", index=index)
        return names

    def _name(self, given: object, index: int) -> str:
        if given is None:
            return new_name(self._prefix, next(self._count))
        return identifier(given, index)


def scored_one(
    plan: ScoringPlan, now: float, names: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> Scored:
    """One row scored, as :func:`scored_few` does, in half the time."""
    values, imputed, drifted = plan.encoder.encode(rows[0])
    context = plan.context(values)
    score = plan.score_one(values + context)
    lower, upper = plan.interval(values, score)
    return Scored(
        plan, now, names, rows, (values,), (imputed,), (drifted,), (context,), (score.prediction,), (lower,),
        (upper,), (score.experts,),
    )  # fmt: skip


def scored_few(
    plan: ScoringPlan, now: float, names: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> Scored:
    """A few rows scored, without the arrays that many are scored in."""
    if len(rows) == 1:
        return scored_one(plan, now, names, rows)
    values, imputed, drifted = zip(*map(plan.encoder.encode, rows), strict=True)
    contexts = list(map(plan.context, values))
    scores = plan.score_few(list(map(operator.add, values, contexts)))
    predictions, experts, _ = zip(*scores, strict=True)
    lower, upper = zip(*map(plan.interval, values, scores), strict=True)
    return Scored(
        plan, now, names, rows, values, imputed, drifted, contexts, predictions, lower, upper, experts
    )
