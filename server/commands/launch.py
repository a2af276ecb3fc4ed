"""``millrace serve`` as a child process on free ports: for scripts, tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec

from online.core.errors import InputError
from online.core.home import Home

__all__ = ["ServerProcess", "launched"]

LONGEST_START_SECONDS = 300.0  # a first start compiles kernels for a minute or two on a slow machine
STOP_SECONDS = 90.0  # the supervisor gives its learner 60 to take a snapshot
POLL_SECONDS = 0.02


class ServerProcess:
    """A server that is ready once this is made, and how long it took to be.

    Parameters
    ----------
    home
        A bootstrapped home; what the processes write goes to ``serve.log`` in it.
    options
        More options of ``millrace serve``; the last one of a name counts.
    environ
        Variables beside those of this process.
    learning
        Whether it must also learn to count as ready.

    Raises
    ------
    InputError
        It did not become ready; its log is quoted.
    """

    def __init__(
        self, home: Path, *options: str, environ: Mapping[str, str] | None = None, learning: bool = True
    ) -> None:
        self.home = home
        self.url = self.monitor_url = ""
        self.ready_seconds = self.learning_seconds = 0.0
        self._learning = learning
        self._environ = {**os.environ, **(environ or {})}
        self._command = [sys.executable, "-m", "millrace", "serve", "--home", str(home)]
        self._command += ["--port", "0", "--monitor-port", "0", *options]
        self.start()

    def start(self) -> None:
        """Start it, also again after its end, and wait until it is ready."""
        began = time.perf_counter()
        with (self.home / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                self._command, stdout=log, stderr=subprocess.STDOUT, env=self._environ
            )
        try:
            addresses = self._wait_for(self._addresses, "listens")
            self.url, self.monitor_url = addresses["url"], addresses["monitor_url"]
            with httpx.Client(base_url=self.url, timeout=STOP_SECONDS) as client:
                self._wait_for(lambda: self.health(client), "predicts")
                self.ready_seconds = time.perf_counter() - began
                if self._learning:
                    self._wait_for(lambda: self.health(client).get("learner", {}).get("alive"), "learns")
                    self.learning_seconds = time.perf_counter() - began
        except BaseException:
            self.stop()  # nobody else knows of it
            raise

    def health(self, client: httpx.Client) -> dict[str, Any]:
        """What the server says of itself.

        Parameters
        ----------
        client
            A client of the server.

        Returns
        -------
        dict
            The reply of ``GET /health/ready``; ``{}`` of a server that does not predict yet.
        """
        with contextlib.suppress(httpx.TransportError):
            reply = client.get("/health/ready")
            if reply.status_code == httpx.codes.OK:
                return dict(reply.json())
        return {}

    def log(self) -> str:
        """What the processes have written."""
        return (self.home / "serve.log").read_text()

    def stop(self) -> int:
        """Have it drain and snapshot (SIGTERM); its exit code."""
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def _addresses(self) -> dict[str, str] | None:
        """What ``data/server.json`` holds, once it is this server's: one that crashed leaves its own."""
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            addresses: dict[str, Any] = msgspec.json.decode(Home(self.home).server.read_bytes())
            if addresses["pid"] == self.process.pid:
                return addresses
        return None

    def _wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + LONGEST_START_SECONDS
        while not (value := condition()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise InputError(f"no server that {what} came up; its log ends: {self.log()[-2000:]}")
            time.sleep(POLL_SECONDS)
        return value


@contextlib.contextmanager
def launched(home: Path, *options: str) -> Iterator[ServerProcess]:
    """A server for a while.

    Parameters
    ----------
    home
        A bootstrapped home.
    options
        More options of ``millrace serve``.

    Yields
    ------
    ServerProcess
        The server, ready; it is stopped afterwards.
    """
    server = ServerProcess(home, *options)
    try:
        yield server
    finally:
        server.stop()
