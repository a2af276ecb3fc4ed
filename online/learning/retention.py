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

__all__ = ["retire", "versions_to_keep"]

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400.0
# Appending a label waits while a transaction cuts, and learning while all of them do: what is left to cut is
# cut after the next snapshot.
CUT_RECORDS = 1000  # in one transaction
CUT_TRANSACTIONS = 20  # after one snapshot


def versions_to_keep(
    manifests: Sequence[Manifest], pinned: Iterable[int], settings: RetentionConfig
) -> set[int]:
    """Choose the versions to replay from: the last, the newest of each of the last days, the pinned.

    Parameters
    ----------
    manifests
        All snapshots, newest first.
    pinned
        Versions that stay until they are unpinned.
    settings
        How many of the last, and how many days (UTC).

    Returns
    -------
    set of int
        The versions that stay.
    """
    days: dict[int, int] = {}
    for manifest in manifests:
        days.setdefault(int(manifest.created_at // DAY_SECONDS), manifest.version)
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
    """Remove the snapshots, and cut the journal records, that need not be kept.

    A file that cannot be removed stays, which is logged, until the next snapshot.

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

    Returns
    -------
    list of int
        The versions that had to go.
    """
    manifests = store.manifests()
    if not manifests:
        return []
    replayable = versions_to_keep(manifests, store.pinned(), settings)
    # model_v1 stays as the baseline, but as one to replay from it would keep the whole journal
    oldest = min((m.seq for m in manifests if m.version in replayable and m.version > 1), default=0)
    staying = (
        replayable
        | {version for version in in_use if version}
        | {manifests[-1].version}
        | journal.versions_needed(oldest)
    )
    removed = [manifest.version for manifest in manifests if manifest.version not in staying]
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
    before = now - DAY_SECONDS * settings.journal_days if settings.journal_days else now
    for _ in range(CUT_TRANSACTIONS):
        if journal.cut(upto, before, CUT_RECORDS) < CUT_RECORDS:
            return
