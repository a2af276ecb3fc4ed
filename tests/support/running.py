"""A real server in a temporary home, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from scripts.bench.server_processes import descendants, of_role

START_SECONDS = 180.0


def until(condition: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
    """Wait until a condition holds; its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)


class Server:
    """``millrace serve`` on free ports, and a client of it; ``learning=False`` where it cannot learn."""

    def __init__(
        self, home: Path, *options: str, environ: dict[str, str] | None = None, learning: bool = True
    ) -> None:
        self.home = home
        self._learning = learning
        self._advert = home / "data" / "server.json"
        self._log = (home / "log.txt").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "millrace", "serve", "--home", str(home), "--port", "0",
             "--monitor-port", "0", *options],
            stdout=self._log, stderr=subprocess.STDOUT, env=os.environ | (environ or {}),
        )  # fmt: skip
        try:
            self._begin()
        except BaseException:
            self.process.terminate()  # nobody else knows of it
            raise

    def _begin(self) -> None:
        until(lambda: self._advert.exists() or self.process.poll() is not None, "data/server.json")
        assert self.process.poll() is None, self.log()
        advert = json.loads(self._advert.read_text())
        self.url, self.monitor_url = advert["url"], advert["monitor_url"]
        self.client = httpx.Client(base_url=self.url, timeout=90.0)
        try:
            until(self.ready, "the server to be ready")
        except AssertionError:
            self.stop()  # whoever asked for it has nothing to stop
            raise

    def ready(self) -> bool:
        """Whether predictions and learning both work."""
        try:
            answer = self.client.get("/health/ready")
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and answer.json()["learner"]["alive"] >= self._learning

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
        """Kill a process of a role, as a crash would."""
        pids: list[int] = until(lambda: self.pids(role), f"a {role}")
        pid = pids[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    def replaced(self, role: str, old: int) -> bool:
        """Whether another process has taken the place of a role's only one."""
        return self.pids(role) not in ([], [old])

    def log(self) -> str:
        """What the processes have written."""
        return (self.home / "log.txt").read_text()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.client.close()
        self.process.terminate()
        code = self.process.wait(90)
        self._log.close()
        return code

    def crash(self) -> None:
        """Kill the supervisor; wait until its children are gone."""
        pids = descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the children to end")


@contextlib.contextmanager
def serving(
    home: Path, *options: str, environ: dict[str, str] | None = None, learning: bool = True
) -> Iterator[Server]:
    """A server for a while."""
    server = Server(home, *options, environ=environ, learning=learning)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
