"""What is kept of snapshots and of the journal, and what goes.

Kept are the last snapshots, the newest of each day for some days, every pinned one, the first (the
baseline), the one the model lives on, and every one that a replay from a kept snapshot passes a rollback
to. The journal is cut only behind the oldest snapshot kept to replay from.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from online.core.config import RetentionConfig
from online.core.errors import MillraceError
from online.storage.journal import Journal
from online.storage.snapshot import Manifest, SnapshotStore

__all__ = ["chosen", "retire"]

log = logging.getLogger(__name__)

DAY = 86_400.0
CHUNK = 1000  # records cut in one transaction: appending waits no longer than that takes
CHUNKS = 20  # at one time; the rest after the next snapshot


def chosen(manifests: Sequence[Manifest], pinned: Iterable[int], settings: RetentionConfig) -> set[int]:
    """The versions that are kept to replay from: the last, the newest of each of the last days, the pinned.

    Parameters
    ----------
    manifests
        All snapshots, newest first.
    pinned
        Versions that stay until they are unpinned.
    settings
        How many of the last, and how many days (UTC).
    """
    days: dict[int, int] = {}
    for manifest in manifests:
        days.setdefault(int(manifest.created_at // DAY), manifest.version)
    daily = sorted(days, reverse=True)[: settings.snapshots_daily]
    last = [manifest.version for manifest in manifests[: settings.snapshots_last]]
    return {*last, *(days[day] for day in daily), *pinned}


def retire(
    store: SnapshotStore,
    journal: Journal,
    settings: RetentionConfig,
    in_use: Iterable[int | None],
    now: float,
) -> list[int]:
    """Remove the snapshots, and cut the journal records, that need not be kept; the versions removed.

    Parameters
    ----------
    store, journal
        What there is. Only the process that learns may call this.
    settings
        What to keep.
    in_use
        Versions that stay whatever the settings say.
    now
        Unix seconds.
    """
    manifests = store.manifests()
    if not manifests:
        return []
    replayable = chosen(manifests, store.pinned(), settings)
    oldest = min((m.seq for m in manifests if m.version in replayable and m.version > 1), default=0)
    kept = (
        replayable
        | {version for version in in_use if version}
        | {manifests[-1].version}
        | journal.versions_needed(oldest)
    )
    removed = [manifest.version for manifest in manifests if manifest.version not in kept]
    try:
        for version in removed:
            store.remove(version)
        cut(journal, settings, oldest, now)
    except MillraceError as exc:
        log.error("what need not be kept cannot be removed, it stays: %s", exc)
    return removed


def cut(journal: Journal, settings: RetentionConfig, oldest: int, now: float) -> None:
    """Cut the journal behind its newest records, as far as no snapshot to replay from needs them."""
    if not settings.journal_days and not settings.journal_records:
        return
    upto = min(oldest, journal.last_seq() - settings.journal_records)
    before = now - DAY * settings.journal_days if settings.journal_days else now
    for _ in range(CHUNKS):
        if journal.cut(upto, before, CHUNK) < CHUNK:
            return
