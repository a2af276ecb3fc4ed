"""Snapshots: which one a learner starts from, when the next one is taken, and which ones then go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from online.core.config import Config
from online.core.errors import SnapshotError
from online.learning.fold import Fold
from online.learning.retention import retire
from online.learning.stage_timer import StageTimer
from online.storage.journal import Journal
from online.storage.snapshot import LoadedSnapshot, Manifest, Provenance, SnapshotStore

__all__ = ["Snapshotter", "newest_good"]

log = logging.getLogger(__name__)

# A snapshot holds up learning for some tenths of a second: with very few labels between them, a learner
# would do nothing else.
SNAPSHOT_PAUSE_SECONDS = 1.0
SNAPSHOT_RETRY_SECONDS = 30.0  # a full disk is not emptied within a second


class Snapshotter:
    """Takes the snapshots of a fold.

    Parameters
    ----------
    store
        Where they go.
    config
        When they are due, what is kept, and the schema they are for.
    clock
        Unix seconds.
    timer
        Told how long it takes.
    started_from
        The snapshot that learning began with.

    Attributes
    ----------
    version : int
        The newest snapshot of this lineage.
    error : str or None
        Why no snapshot can be taken, until one can.
    """

    def __init__(
        self,
        store: SnapshotStore,
        config: Config,
        clock: Callable[[], float],
        timer: StageTimer,
        started_from: LoadedSnapshot,
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._timer = timer
        self._taken_at = clock()
        self._labels_then: int = started_from.state.learned
        self.version = started_from.manifest.version
        self.error: str | None = None

    def new_labels(self, fold: Fold) -> int:
        """Labels learned since the last snapshot."""
        return fold.state.learned - self._labels_then

    def due(self, fold: Fold) -> str | None:
        """Why a snapshot is due, None while none is."""
        settings, new = self._config.learner, self.new_labels(fold)
        waited = self._clock() - self._taken_at
        if new >= settings.snapshot_every_labels and waited >= SNAPSHOT_PAUSE_SECONDS:
            return "labels"
        if new and waited >= 60.0 * settings.snapshot_every_minutes:
            return "time"
        return None

    def take(self, fold: Fold, reason: str, parent: int | None = None) -> Manifest | None:
        """Take a snapshot; a failure is logged and tried again later, and learning goes on.

        Parameters
        ----------
        fold
            What is written.
        reason
            Why, for people.
        parent
            The version this one comes from; by default the last one.

        Returns
        -------
        Manifest or None
            The new version's; None when it could not be written.
        """
        self._taken_at, state = self._clock(), fold.state
        try:
            with self._timer.measure("snapshot"):
                provenance = Provenance(
                    schema=self._config.schema,
                    seq=state.seq,
                    parent=self.version if parent is None else parent,
                    reason=reason,
                    created_at=self._clock(),
                    metrics=state.prequential.report(),
                )
                manifest = self._store.save(fold.pipeline, state, state.probe, provenance)
        except SnapshotError as exc:
            log.error("%s", exc)
            self.error = str(exc)
            self._taken_at += SNAPSHOT_RETRY_SECONDS
            return None
        self.error = None
        self.version = manifest.version
        self._labels_then = state.learned
        log.info("model_v%d at seq %d (%s)", manifest.version, state.seq, reason)
        return manifest

    def remove_old(self, journal: Journal, in_use: Iterable[int | None]) -> None:
        """Remove the snapshots and journal records that need not be kept.

        Parameters
        ----------
        journal
            The stream's.
        in_use
            Versions that stay, beside the last one.
        """
        retire(self._store, journal, self._config.retention, (self.version, *in_use), self._clock())


def newest_good(store: SnapshotStore) -> LoadedSnapshot:
    """The newest snapshot that passes its checks; those that fail are named in the log.

    One that a replay has made counts only once the journal ordered it, which made it another version, or
    when there is no other.

    Raises
    ------
    SnapshotError
        There is none.
    """
    failures = []
    not_ordered = {manifest.version for manifest in store.manifests() if manifest.reason == "replay"}
    for version in sorted(store.versions(), key=lambda version: (version not in not_ordered, version))[::-1]:
        try:
            return store.load(version)
        except SnapshotError as exc:
            log.error("%s", exc)
            failures.append(str(exc))
    raise SnapshotError(
        "no snapshot can be loaded: " + ("; ".join(failures) or "run 'millrace bootstrap' first")
    )
