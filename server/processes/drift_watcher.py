"""The watcher's process: drift is looked for, and alarms are sent, beside scoring and learning."""

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
from server.processes.stopping import sleep_until_stopped

__all__ = ["watch_until"]

log = logging.getLogger(__name__)

WATCH_RETRY_SECONDS = 2.0
WATCH_REST = 2.0  # times what a full step took


def watch_until(home: Home, config: Config, stopped: Callable[[], bool]) -> None:
    """Watch until told to stop; what cannot be read or written now is tried again.

    Parameters
    ----------
    home, config
        What is watched, and how.
    stopped
        Whether to stop.
    """
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
        sleep_until_stopped(WATCH_RETRY_SECONDS, stopped)
    if webhook is not None:
        webhook.close()


def watch(home: Home, config: Config, stopped: Callable[[], bool]) -> None:
    """Watch until told to stop, or until a file fails."""
    with DriftMonitor(home, config) as monitor:
        while not stopped():
            began = time.monotonic()
            rows = monitor.step()
            if not rows:
                sleep_until_stopped(config.drift.poll_seconds, stopped)
            elif rows >= STEP_ROWS:  # it does not keep up: scoring is to have the processors meanwhile
                sleep_until_stopped(WATCH_REST * (time.monotonic() - began), stopped)
