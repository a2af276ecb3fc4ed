"""Posts alarms to an address, in a thread of the watcher; what is refused is posted again.

An alarm may be posted twice, under the same ``key``. One that is not taken within a day is given up.
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

ALARM_POLL_SECONDS = 0.5
FIRST_RETRY_PAUSE, LONGEST_RETRY_PAUSE = 1.0, 300.0
GIVE_UP_SECONDS = 86_400.0  # an alarm of yesterday would only confuse whoever gets it now


class Webhook:
    """Posts the alarms of a metrics store.

    Parameters
    ----------
    url
        Where each alarm is posted as a JSON object.
    stream
        Named in it.
    open_history
        Opens the metrics store; called in the thread, as SQLite connections belong to one.
    """

    def __init__(self, url: str, stream: str, open_history: Callable[[], MetricsStore]) -> None:
        self._url = url
        self._stream = stream
        self._open = open_history
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; what was not sent yet is sent after the next start."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        history = self._open()
        try:
            with httpx.Client(timeout=10.0) as client:
                until_taken = tenacity.Retrying(
                    retry=tenacity.retry_if_result(operator.not_),
                    wait=tenacity.wait_exponential(multiplier=FIRST_RETRY_PAUSE, max=LONGEST_RETRY_PAUSE),
                    stop=tenacity.stop_when_event_set(self._stop),
                    sleep=tenacity.sleep_using_event(self._stop),
                    retry_error_callback=lambda _: False,  # stopped: they are sent after the next start
                )
                while not self._stop.wait(ALARM_POLL_SECONDS):
                    until_taken(self._send_all, client, history)
        finally:
            history.close()

    def _send_all(self, client: httpx.Client, history: MetricsStore) -> bool:
        """Post what was not sent yet; whether all of it was taken."""
        try:
            for alarm in history.unsent_alarms(time.time() - GIVE_UP_SECONDS):
                self._post(client, alarm)
                history.mark_sent(alarm)
        except (httpx.HTTPError, httpx.InvalidURL, sqlite3.Error) as exc:
            log.warning("alarms could not be posted, they will be again: %s", exc)
            return False
        return True

    def _post(self, client: httpx.Client, alarm: Alarm) -> None:
        content = {"stream": self._stream, "key": alarm.key} | msgspec.to_builtins(alarm)
        body = msgspec.json.encode(content)
        client.post(self._url, content=body, headers={"content-type": "application/json"}).raise_for_status()
