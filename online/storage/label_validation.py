"""Which labels are quarantined: ranges and errors are learned from the labels that came before.

A label is judged as it is accepted, in the transaction that keeps it, by a state that is stored in the
journal's database. So every worker has the same state, and after a crash it is that of the labels accepted so
far. Quarantined labels are not in the journal, so a replay never asks these rules. When a fifth of the recent
labels break a learned rule, it is the world that has changed, and they are accepted after all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from online.core.config import QuarantineConfig
from online.core.schema import Feature, Schema, Target
from online.features.value_encoder import number

__all__ = ["Fault", "LabelValidator", "ValidationState"]

WARMUP_ERRORS = 100  # before any error is too large
RECENT_LABELS = 100  # among which those that break a rule are counted
RECENT_MASK = (1 << RECENT_LABELS) - 1
LEARNED_QUANTILE = 0.95  # share of values inside a learned range, and of errors under the learned error
RANGE_STEP = 0.01  # of a range's width
ERROR_STEP = 0.05  # of the learned error's logarithm
# The step of stochastic gradient descent on the pinball loss: up by LEARNED_QUANTILE where the quantile is
# exceeded, down by the rest where it is not. It is taken on the logarithm, as a target may have any unit.
ERROR_GROWTH = math.exp(ERROR_STEP * LEARNED_QUANTILE)
ERROR_DECLINE = math.exp(ERROR_STEP * (LEARNED_QUANTILE - 1.0))
SMALLEST_ERROR = 0.01  # of the target's bootstrap range: no smaller error is too large
MAX_SOURCES = 1000  # the last ones seen are remembered


class Fault(msgspec.Struct, frozen=True):
    """Why a label is quarantined; ``learned`` when by a learned rule, which many such labels overrule."""

    reason: str
    learned: bool = True


class ValidationState(msgspec.Struct):
    """What was learned from the labels so far.

    ``judged`` counts them, ``errors`` those with a prediction. ``error`` is the 95 % quantile of served
    predictions' absolute errors in target units. ``ranges`` has the learned low and high of a column, in its
    unit. ``recent`` has one bit for each of the last labels, the newest lowest, set where it broke a learned
    rule. ``sources`` has for each source how many labels it may still send, as of which unix second.
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
        The stream. Learned ranges start as those of its bootstrap and always hold them.
    settings
        The bounds.
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
        self._columns = [(name, *bounds) for name, bounds in self._bounds.items() if name != self._target]
        self._target_bounds = self._bounds.get(self._target, (-math.inf, math.inf))
        low, high = self._bounds.get(self._target, (0.0, 0.0))
        self._smallest = SMALLEST_ERROR * (high - low) or 1e-12
        self.state = ValidationState()

    @property
    def world_has_changed(self) -> bool:
        """Whether so many of the recent labels broke a learned rule that the rule is wrong, not they."""
        return self.state.recent.bit_count() >= self._settings.majority_share * RECENT_LABELS

    def judge(
        self, features: Mapping[str, Any], target: float, expected: float | None, corrections: int = 0
    ) -> Fault | None:
        """Judge a label, and learn from it unless it is to be quarantined.

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

        Returns
        -------
        Fault or None
            Why it is to be quarantined; None when it is accepted.
        """
        if corrections >= self._settings.corrections:
            return Fault(f"its label was corrected {corrections} times already", learned=False)
        unusual = self._unusual(features, target)
        reason = self._out_of_range(unusual) if unusual else None
        if reason is None and expected is not None:
            reason = self._too_large_error(target, expected)
        state = self.state
        state.judged += 1
        state.recent = (state.recent << 1 | (reason is not None)) & RECENT_MASK
        if reason is not None and not self.world_has_changed:
            return Fault(reason)
        for name, value in unusual:
            self._move_range(name, value)
        if expected is not None:
            self._learn_error(abs(target - expected))
        return None

    def check_rate(self, source: str | None, received_at: float) -> Fault | None:
        """Count a label of a source in a bucket of tokens, which refills by the minute.

        Parameters
        ----------
        source
            Who sent the label; None is not counted.
        received_at
            Unix seconds.

        Returns
        -------
        Fault or None
            The source sends more than it may.
        """
        rate = self._settings.labels_per_minute
        if not rate or source is None:
            return None
        # popped and put back, so that the dict is in the order in which sources were last seen
        tokens, since = self.state.sources.pop(source, (float(rate), received_at))
        tokens = min(float(rate), tokens + max(0.0, received_at - since) * rate / 60.0)
        allowed = tokens >= 1.0
        self.state.sources[source] = (tokens - allowed, received_at)
        while len(self.state.sources) > MAX_SOURCES:
            del self.state.sources[next(iter(self.state.sources))]
        if allowed:
            return None
        return Fault(f"source {source!r} sends more than {rate} labels a minute", learned=False)

    def _unusual(self, features: Mapping[str, Any], target: float) -> list[tuple[str, float]]:
        """The columns and values that may lie outside a range or move it.

        A value inside the bootstrap's range of a column whose range has not moved is left out, as nearly all
        are: such a value changes nothing, and this is on the way of every label.
        """
        learned, get = self.state.ranges, features.get
        names = [
            name
            for name, low, high in self._columns
            if not ((type(value := get(name)) is float or type(value) is int) and low <= value <= high)
            or name in learned
        ]
        unusual = [(name, parsed) for name in names if (parsed := number(get(name))) is not None]
        low, high = self._target_bounds
        if not low <= target <= high or self._target in learned:
            unusual.append((self._target, target))
        return unusual

    def _range(self, name: str) -> tuple[float, float]:
        return self.state.ranges.get(name) or self._bounds[name]

    def _out_of_range(self, unusual: Sequence[tuple[str, float]]) -> str | None:
        for name, value in unusual:
            low, high = self._range(name)
            margin = self._settings.range_margin * ((high - low) or max(abs(low), 1.0))
            if not low - margin <= value <= high + margin:
                return (
                    f"{name} {value:g} lies outside the plausible range {low - margin:g} to {high + margin:g}"
                )
        return None

    def _too_large_error(self, target: float, expected: float) -> str | None:
        state = self.state
        if state.errors < WARMUP_ERRORS:
            return None
        error, bound = abs(target - expected), self._settings.error_factor * max(state.error, self._smallest)
        if error <= bound:
            return None
        return (
            f"{self._target} {target:g} was expected to be about {expected:g}: an error of {error:g}, and"
            f" {bound:g} is the most that is plausible now"
        )

    def _learn_error(self, error: float) -> None:
        """Move the learned error towards its quantile."""
        state = self.state
        error = max(error, self._smallest)
        state.errors += 1
        if state.errors <= WARMUP_ERRORS:  # the largest of the first errors: a guess that is rather too high
            state.error = error if state.errors == 1 else max(state.error, error)
        else:
            state.error *= ERROR_GROWTH if error > state.error else ERROR_DECLINE

    def _move_range(self, name: str, value: float) -> None:
        """Move each end of the learned range towards its quantile; it always holds the bootstrap's range."""
        (first_low, first_high), (low, high) = self._bounds[name], self._range(name)
        step = RANGE_STEP * ((high - low) or max(abs(low), 1.0))
        high += step * (LEARNED_QUANTILE if value > high else LEARNED_QUANTILE - 1.0)
        low -= step * (LEARNED_QUANTILE if value < low else LEARNED_QUANTILE - 1.0)
        if high > first_high or low < first_low:
            self.state.ranges[name] = (min(low, first_low), max(high, first_high))
        else:
            self.state.ranges.pop(name, None)
