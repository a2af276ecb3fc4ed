"""Which labels are set aside: ranges and errors learned from the labels that came before, with slack.

A label is judged as it is accepted, in the transaction that keeps it, by a state kept in the journal's
database: the same for every worker, and exactly that of the labels judged so far after any crash. What is
set aside is not in the journal, so replay never asks these rules. A fifth of the recent labels is no fault
of a few: where so many break the rules, the world has changed, and they are taken in after all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from online.core.config import QuarantineConfig
from online.core.schema import Feature, Schema, Target
from online.features.encoder import number

__all__ = ["Fault", "LabelValidator", "ValidationState"]

WARMUP = 100  # errors before one can be surprising
RECENT = 100  # labels among which a crowd is counted
OUTER = 0.95  # share of values inside a learned range, and of errors under the learned error
RANGE_STEP = 0.01  # of a range's width
ERROR_STEP = 0.05  # of the learned error's logarithm
GROWTH, DECLINE = math.exp(ERROR_STEP * OUTER), math.exp(ERROR_STEP * (OUTER - 1.0))
SMALLEST_ERROR = 0.01  # of the target's bootstrap range: no smaller error surprises
SOURCES = 1000  # sources remembered, the last seen
ALL = (1 << RECENT) - 1


class Fault(msgspec.Struct, frozen=True):
    """Why a label is set aside; ``learned`` when a rule says so that a crowd overrules."""

    reason: str
    learned: bool = True


class ValidationState(msgspec.Struct):
    """What was learned of the labels so far.

    ``error`` is the 95 % quantile of served predictions' absolute errors in target units; ``ranges`` holds
    the learned low and high by column, in its unit; ``recent`` one bit a label, set where it broke a rule;
    ``sources`` what each may still send, and since when, in unix seconds.
    """

    judged: int = 0
    errors: int = 0
    error: float = 0.0
    ranges: dict[str, tuple[float, float]] = {}
    recent: int = 0
    sources: dict[str, tuple[float, float]] = {}


class LabelValidator:
    """Judges labels and learns from them; the journal keeps its ``state``.

    Parameters
    ----------
    schema
        The stream: its bootstrap ranges are where the learned ones start, and never shrink below.
    settings
        Slack and bounds.
    """

    def __init__(self, schema: Schema, settings: QuarantineConfig) -> None:
        self._settings = settings
        self._target = schema.target.name
        columns: list[Feature | Target] = [f for f in schema.used if f.kind == "numeric"]
        self._bounds = {
            column.name: (column.low, column.high)
            for column in [*columns, schema.target]
            if column.low is not None and column.high is not None
        }
        self._columns = [(name, *usual) for name, usual in self._bounds.items() if name != self._target]
        self._usual = self._bounds.get(self._target, (-math.inf, math.inf))
        low, high = self._bounds.get(self._target, (0.0, 0.0))
        self._smallest = SMALLEST_ERROR * (high - low) or 1e-12
        self.state = ValidationState()

    @property
    def crowd(self) -> bool:
        """Whether so many of the recent labels broke a rule that it is no fault of theirs."""
        return self.state.recent.bit_count() >= self._settings.crowd * RECENT

    def judge(
        self, features: Mapping[str, Any], target: float, expected: float | None, corrections: int = 0
    ) -> Fault | None:
        """What is wrong with a label, and learn from it unless it is to be set aside.

        Parameters
        ----------
        features
            The row as a client sends it.
        target
            The label, finite.
        expected
            The prediction as served, or what the model would say of the row now; None where unknown.
        corrections
            How often the label was corrected before.
        """
        if corrections >= self._settings.corrections:
            return Fault(f"its label was corrected {corrections} times already", learned=False)
        unusual = self._unusual(features, target)
        reason = self._out_of_range(unusual) if unusual else None
        if reason is None and expected is not None:
            reason = self._surprise(target, expected)
        state = self.state
        state.judged += 1
        state.recent = (state.recent << 1 | (reason is not None)) & ALL
        if reason is not None and not self.crowd:
            return Fault(reason)
        for name, value in unusual:
            self._widen(name, value)
        if expected is not None:
            self._learn(abs(target - expected))
        return None

    def flood(self, source: str | None, at: float) -> Fault | None:
        """Count a label of a source, at unix seconds; a fault when it sends more than it may."""
        rate = self._settings.labels_per_minute
        if not rate or source is None:
            return None
        left, since = self.state.sources.pop(source, (float(rate), at))
        left = min(float(rate), left + max(0.0, at - since) * rate / 60.0)
        allowed = left >= 1.0
        self.state.sources[source] = (left - allowed, at)
        while len(self.state.sources) > SOURCES:
            del self.state.sources[next(iter(self.state.sources))]
        if allowed:
            return None
        return Fault(f"source {source!r} sends more than {rate} labels a minute", learned=False)

    def _unusual(self, features: Mapping[str, Any], target: float) -> list[tuple[str, float]]:
        """The columns and values that may lie outside a range or move it.

        Left out is what lies inside bootstrap's range while nothing else was learned: as nearly all does.
        """
        found, learned = [], self.state.ranges
        for name, low, high in self._columns:
            value = features.get(name)
            if (type(value) is float or type(value) is int) and low <= value <= high and name not in learned:
                continue
            if (read := number(value)) is not None:
                found.append((name, read))
        low, high = self._usual
        if not low <= target <= high or self._target in learned:
            found.append((self._target, target))
        return found

    def _range(self, name: str) -> tuple[float, float]:
        return self.state.ranges.get(name) or self._bounds[name]

    def _out_of_range(self, unusual: Sequence[tuple[str, float]]) -> str | None:
        for name, value in unusual:
            low, high = self._range(name)
            slack = self._settings.slack * ((high - low) or max(abs(low), 1.0))
            if not low - slack <= value <= high + slack:
                return (
                    f"{name} {value:g} lies outside the plausible range {low - slack:g} to {high + slack:g}"
                )
        return None

    def _surprise(self, target: float, expected: float) -> str | None:
        state = self.state
        if state.errors < WARMUP:
            return None
        error, bound = abs(target - expected), self._settings.surprise * max(state.error, self._smallest)
        if error <= bound:
            return None
        return (
            f"{self._target} {target:g} was expected to be about {expected:g}: an error of {error:g}, and"
            f" {bound:g} is the most that is plausible now"
        )

    def _learn(self, error: float) -> None:
        """Move the learned error towards its quantile."""
        state = self.state
        error = max(error, self._smallest)
        state.errors += 1
        if state.errors <= WARMUP:  # a high first guess: the larger errors of the first ones
            state.error = error if state.errors == 1 else max(state.error, error)
        else:
            state.error *= GROWTH if error > state.error else DECLINE

    def _widen(self, name: str, value: float) -> None:
        """Move the learned range towards holding the middle of what comes; never inside bootstrap's."""
        (first_low, first_high), (low, high) = self._bounds[name], self._range(name)
        step = RANGE_STEP * ((high - low) or max(abs(low), 1.0))
        high += step * (OUTER if value > high else OUTER - 1.0)
        low -= step * (OUTER if value < low else OUTER - 1.0)
        if high > first_high or low < first_low:
            self.state.ranges[name] = (min(low, first_low), max(high, first_high))
        else:
            self.state.ranges.pop(name, None)
