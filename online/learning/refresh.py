"""Training the batch experts anew on all labels, in a process beside the learner.

    python -m online.learning.refresh HOME

trains one model and appends it to the journal as a record of kind ``refresh``. The learner gives it to the
experts when it comes to that record, so that a replay gives the very same model.
"""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from online.core.config import Config, load
from online.core.errors import MillraceError
from online.core.home import Home
from online.features.row_encoder import RowEncoder
from online.learning.training_rows import gather
from online.model.train_boosted import train
from online.storage.journal import Journal

__all__ = ["Refresher", "Schedule", "refresh"]

log = logging.getLogger(__name__)

REFRESH_NICENESS = 10  # above the learner's, which starts it: a refresh has time, the learner has not
FIRST_SHARE = 8  # the first refresh comes after an 8th of the labels between two


class Schedule:
    """When to train anew: soon after the bootstrap, then whenever labels have doubled, at last regularly.

    The first labels tell how late labels come and what has changed since the bootstrap.

    Parameters
    ----------
    every
        Labels between two refreshes at most; 0 for never.
    learned
        Labels learned so far.
    since_bootstrap
        Journal records so far.
    """

    def __init__(self, every: int, learned: int, since_bootstrap: int) -> None:
        self._every = every
        self._begin(learned, since_bootstrap)

    def _begin(self, learned: int, since_bootstrap: int) -> None:
        self._started_at = learned
        self._wait = min(self._every, max(self._every // FIRST_SHARE, since_bootstrap))

    def due(self, learned: int, since_bootstrap: int) -> bool:
        """Whether a refresh is due; if so, the wait for the next one begins.

        Parameters
        ----------
        learned, since_bootstrap
            Labels learned and journal records by now.

        Returns
        -------
        bool
            Whether to train now.
        """
        due = self._every > 0 and learned - self._started_at >= self._wait
        if due:
            self._begin(learned, since_bootstrap)
        return due


class Refresher:
    """Starts a refresh when it is due, one at a time.

    Parameters
    ----------
    home, config
        What to train for, and how often.
    learned, since_bootstrap
        Labels learned and journal records so far.
    """

    def __init__(self, home: Home, config: Config, learned: int, since_bootstrap: int) -> None:
        self._home = home
        self._schedule = Schedule(config.refresh.every_labels, learned, since_bootstrap)
        self._process: subprocess.Popen[bytes] | None = None

    def step(self, learned: int, since_bootstrap: int) -> None:
        """Start a refresh when it is due and none is at work.

        A failed one is logged; the next one is due as if it had not failed.

        Parameters
        ----------
        learned, since_bootstrap
            Labels learned and journal records by now.
        """
        if self._process is not None:
            if (code := self._process.poll()) is None:
                return
            self._process = None
            if code:
                log.error("the batch experts could not be trained (exit code %d), the old ones stay", code)
        if self._schedule.due(learned, since_bootstrap):
            # Not a thread: LightGBM and numpy would compete with learning for the interpreter. -P keeps a
            # module in the working folder from being imported in place of ours.
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this module
                [sys.executable, "-P", "-m", "online.learning.refresh", str(self._home.root.resolve())],
                stdin=subprocess.DEVNULL,
            )

    def close(self) -> None:
        """End a refresh that is still at work; the next learner starts another."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


def refresh(home: Home, config: Config) -> bool:
    """Train the batch experts on what there is, and append the model to the journal.

    Parameters
    ----------
    home
        The stream's.
    config
        Its settings.

    Returns
    -------
    bool
        False when there are too few rows to train on, and the old model stays.

    Raises
    ------
    MissingLibraryError
        LightGBM or the OpenMP library it needs is missing.
    JournalError
        The journal cannot be written.
    """
    schema = config.schema
    rows, targets = gather(home, schema, config.refresh.rows)
    model = train(rows, targets, RowEncoder(schema.used, schema.context).columns, config.model.seed)
    if model is None:
        return False
    journal = Journal(home.journal, config.stream)
    try:
        journal.append_command("refresh", time.time(), rows=len(rows), model=base64.b64encode(model).decode())
    finally:
        journal.close()
    return True


def main() -> int:
    """Refresh the home named on the command line."""
    os.nice(REFRESH_NICENESS)
    logging.basicConfig(format="%(levelname)s %(message)s")
    home = Home(Path(sys.argv[1]))
    try:
        refresh(home, load(home.config, quiet=True))
    except MillraceError as exc:
        log.error("%s", exc)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
