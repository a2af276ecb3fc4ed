"""The watcher's process: drift is looked for, and told, beside scoring and learning."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable

from online.core.config import Config
from online.core.errors import FormatError
from online.core.home import Home
from online.drift.drift_monitor import STEP_ROWS, DriftMonitor
from online.storage.metrics_store import MetricsStore

__all__ = ["watch_until"]

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
LOOK_SECONDS = 0.05
REST = 2.0  # of the time that a full chunk took


def watch_until(home: Home, config: Config, stopped: Callable[[], bool]) -> None:
    """Watch until told to stop; what cannot be read or written now is tried again."""
    webhook = None
    if config.drift.webhook:
        from server.processes.webhook import Webhook  # its HTTP client takes a while to import

        webhook = Webhook(
            config.drift.webhook,
            config.stream,
            lambda: MetricsStore(home.create().history, config.learner.history_rows),
        )
    while not stopped():
        try:
            if home.ledger.exists():
                watch(home, config, stopped)
        except (FormatError, sqlite3.Error, OSError) as exc:
            log.warning("drift cannot be watched for now: %s", exc)
        pause(RETRY_SECONDS, stopped)
    if webhook is not None:
        webhook.close()


def watch(home: Home, config: Config, stopped: Callable[[], bool]) -> None:
    """Watch until told to stop, or until a file fails."""
    with DriftMonitor(home, config) as watching:
        while not stopped():
            began = time.monotonic()
            taken = watching.step()
            if not taken:
                pause(config.drift.poll_seconds, stopped)
            elif taken >= STEP_ROWS:  # more than it keeps up with: scoring is to have the processors
                pause(REST * (time.monotonic() - began), stopped)


def pause(seconds: float, stopped: Callable[[], bool]) -> None:
    """Wait, but not longer than told to."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stopped():
        time.sleep(min(seconds, LOOK_SECONDS))
