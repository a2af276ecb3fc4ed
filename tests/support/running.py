"""A real server in a temporary home, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from server.commands.launch import ServerProcess
from tests.support.processes import descendants, of_role

__all__ = ["Server", "serving", "until"]

PATIENCE_SECONDS = 180.0


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until a condition holds.

    Parameters
    ----------
    condition
        Called every few milliseconds.
    what
        What is waited for, for the error's message.
    seconds
        How long to wait.

    Returns
    -------
    object
        The condition's first true value.

    Raises
    ------
    AssertionError
        It has not held in time.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.01)
    return value


class Server(ServerProcess):
    """A server, a client of it, and what breaks it."""

    @functools.cached_property
    def client(self) -> httpx.Client:
        """A client of it, closed when it is stopped."""
        return httpx.Client(base_url=self.url, timeout=90.0)

    def ready(self) -> bool:
        """Whether predictions and learning both work."""
        health = self.health(self.client)
        return bool(health) and health["learner"]["alive"] >= self._learning

    def predict(self, rows: Any, **options: Any) -> Any:
        """Predictions; fails on anything but 200."""
        answer = self.client.post("/predict", json=rows, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def learn(self, rows: Any, *, wait: bool = False) -> Any:
        """Accept labels; fails on anything but 202, or 200 when waiting."""
        answer = self.client.post("/learn", json=rows, params={"wait": "1"} if wait else {})
        assert answer.status_code == (200 if wait else 202), answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        """A report; fails on anything but 200."""
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pids(self, role: str) -> list[int]:
        """The processes of a role."""
        return of_role(self.process.pid, role)

    def kill(self, role: str) -> int:
        """Kill a process of a role, as a crash would; its process id."""
        pids: list[int] = until(lambda: self.pids(role), f"a {role}")
        os.kill(pids[0], signal.SIGKILL)
        return pids[0]

    def replaced(self, role: str, old: int) -> bool:
        """Whether another process has taken the place of a role's only one."""
        return self.pids(role) not in ([], [old])

    def stop(self) -> int:
        """Have it drain and snapshot (SIGTERM); its exit code."""
        self.client.close()
        return super().stop()

    def crash(self) -> None:
        """Kill the supervisor; wait until its children are gone."""
        pids = descendants(self.process.pid)  # asked before: afterwards they are nobody's
        self.process.kill()
        self.process.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the children to end")


@contextlib.contextmanager
def serving(
    home: Path, *options: str, environ: Mapping[str, str] | None = None, learning: bool = True
) -> Iterator[Server]:
    """A server for a while; it may have crashed or been stopped at the end.

    Parameters
    ----------
    home, options, environ, learning
        As ``ServerProcess`` takes them.

    Yields
    ------
    Server
        The server, ready.
    """
    server = Server(home, *options, environ=environ, learning=learning)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
