"""Posts alarms to an address, in a thread of the watcher: retried until taken, off every path.

An alarm may come twice (its ``key`` says so), never not at all within a day.
"""

from __future__ import annotations

import logging
import operator
import sqlite3
import threading
import time
from collections.abc import Callable

import httpx
import msgspec
import tenacity

from online.storage.metrics_store import Alarm, MetricsStore

__all__ = ["Webhook"]

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
DAY = 86400.0


class Webhook:
    """Tells of the alarms of a history.

    Parameters
    ----------
    url
        Where each alarm is posted as a JSON object.
    stream
        Named in it.
    open_history
        Opens the history; called in the thread.
    """

    def __init__(self, url: str, stream: str, open_history: Callable[[], MetricsStore]) -> None:
        self._url = url
        self._stream = stream
        self._open = open_history
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; what was not told yet is told after the next start."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        history = self._open()
        try:
            with httpx.Client(timeout=10.0) as client:
                until_taken = tenacity.Retrying(
                    retry=tenacity.retry_if_result(operator.not_),
                    wait=tenacity.wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
                    stop=tenacity.stop_when_event_set(self._stop),
                    sleep=tenacity.sleep_using_event(self._stop),
                    retry_error_callback=lambda _: False,  # stopped: the alarms are told after the next start
                )
                while not self._stop.wait(LOOK_SECONDS):
                    until_taken(self._tell_all, client, history)
        finally:
            history.close()

    def _tell_all(self, client: httpx.Client, history: MetricsStore) -> bool:
        """Whether all that was to be told was taken."""
        try:
            for alarm in history.unsent_alarms(time.time() - DAY):
                self._post(client, alarm)
                history.mark_sent(alarm)
        except (httpx.HTTPError, httpx.InvalidURL, sqlite3.Error) as exc:
            log.warning("the webhook was not told, it will be again: %s", exc)
            return False
        return True

    def _post(self, client: httpx.Client, alarm: Alarm) -> None:
        content = {"stream": self._stream, "key": alarm.key} | msgspec.to_builtins(alarm)
        body = msgspec.json.encode(content)
        client.post(self._url, content=body, headers={"content-type": "application/json"}).raise_for_status()
