"""Champion and challenger: the last good snapshot is scored on every label beside what was served.

When the live model has become worse than that snapshot there is an alarm, and with ``guard.rollback`` the
learner goes back to it. Whether it has is decided by :class:`~online.learning.e_detector.EDetector`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from online.core.config import GuardConfig
from online.core.errors import SnapshotError
from online.features.row_encoder import Floats
from online.learning.e_detector import LABELS_PER_BET, EDetector
from online.learning.reference_model import ReferenceModel
from online.scoring.plan import ScoringPlan
from online.storage.metrics_store import Alarm, format_quantity
from online.storage.records import Record

__all__ = ["ChallengerMonitor"]

log = logging.getLogger(__name__)


class ChallengerMonitor:
    """Compares the live model with a good snapshot, label by label, and chooses the next good snapshot.

    Parameters
    ----------
    detector
        The evidence, changed in place.
    settings
        How rare a false alarm is, and when a snapshot counts as good.
    load_plan
        Gives a version's plan. Raises SnapshotError when it cannot be loaded.
    """

    def __init__(
        self, detector: EDetector, settings: GuardConfig, load_plan: Callable[[int], ScoringPlan]
    ) -> None:
        self._detector = detector
        self._settings = settings
        self._load_plan = load_plan
        self._reference: ReferenceModel | None = None

    def offer_candidate(self, version: int) -> None:
        """Take note of a new snapshot: it is compared with once it has proven itself.

        At once when there is none to compare with. While another candidate is on trial it is left out.
        """
        if self._detector.version is None:
            self.compare_with(version)
        elif self._detector.candidate is None:
            self._detector.candidate, self._detector.labels = version, 0

    def compare_with(self, version: int) -> None:
        """Compare with a version from now on, without any evidence."""
        self._detector.restart(version)
        self._reference = None

    def prepare_batch(self, records: Sequence[Record], values: Floats) -> None:
        """Score the rows of labels that :meth:`compare` gets next, all in one call.

        Parameters
        ----------
        records
            The labels.
        values
            Their encoded rows, (n, columns).
        """
        if (reference := self._loaded_reference()) is not None:
            reference.prepare_batch(records, values)

    def compare(self, record: Record) -> Alarm | None:
        """Compare both models on a label; an alarm when the live one has become worse.

        A label without a served prediction or target tells nothing.
        """
        detector, reference = self._detector, self._loaded_reference()
        if reference is None or record.target is None or record.prediction is None:
            return None
        reference_error = abs(record.target - reference.predict(record))
        detector.update(abs(record.target - record.prediction), reference_error)
        threshold = self._settings.labels_per_false_alarm / LABELS_PER_BET
        if detector.evidence >= threshold:
            return self._alarm(record, reference.plan.info.version)
        # A candidate that was taken while the live model got worse would be as bad as what it replaces:
        # it has to be on trial for long, and the evidence far from an alarm.
        proven = detector.labels >= self._settings.proven_labels and detector.evidence < math.sqrt(threshold)
        if detector.candidate is not None and proven:
            self.compare_with(detector.candidate)
        return None

    def _loaded_reference(self) -> ReferenceModel | None:
        if self._reference is None and self._detector.version is not None:
            try:
                self._reference = ReferenceModel(self._load_plan(self._detector.version), as_served=True)
            except SnapshotError as exc:
                log.warning("the guard compares with the next snapshot, as this one cannot be used: %s", exc)
                self._detector.restart(None)
        return self._reference

    def _alarm(self, record: Record, version: int) -> Alarm:
        live, reference = self._detector.live, self._detector.reference
        self.compare_with(version)
        message = (
            f"the live model has become worse than model_v{version}: an error of {format_quantity(live)},"
            f" not {format_quantity(reference)}"
        )
        return Alarm(
            record.seq, record.received_at, "guard", "model", reference, live, message, kind="operation"
        )
