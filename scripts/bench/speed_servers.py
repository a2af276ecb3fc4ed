"""The servers that are measured: started on free ports, stopped afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from scripts.bench.server_processes import of_role

__all__ = ["Served", "cpu_seconds", "millrace", "peer", "resident_mb", "until"]

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0


class Served:
    """A server at work: where it listens, its main process, and what it took to start.

    Parameters
    ----------
    url
        Where it listens.
    process
        The process that was started.
    monitor_url
        Where its monitor's page is, if it has one.
    ready_seconds, learning_seconds
        From its start to its first prediction, and to its learner being at work, as far as it says so.
    """

    def __init__(
        self, url: str, process: subprocess.Popen[bytes], monitor_url: str = "", ready_seconds: float = 0.0,
        learning_seconds: float = 0.0,
    ) -> None:  # fmt: skip
        self.url = url
        self.process = process
        self.monitor_url = monitor_url
        self.ready_seconds = ready_seconds
        self.learning_seconds = learning_seconds

    def pids(self, role: str) -> list[int]:
        """The child processes of a Millrace role."""
        return of_role(self.process.pid, role)


@contextlib.contextmanager
def peer(app: str, python: str, rows: Path | None = None) -> Iterator[Served]:
    """One of scripts/bench/speed_peers.py."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(2048)
        listener.set_inheritable(True)
        command = [
            python,
            str(ROOT / "scripts" / "bench" / "speed_peers.py"),
            app,
            "--fd",
            str(listener.fileno()),
        ]
        command += ["--rows", str(rows)] if rows else []
        process = subprocess.Popen(command, pass_fds=[listener.fileno()])  # noqa: S603 - our own script
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/predict"
    try:
        until(lambda: process.poll() is not None or answers(url, b"{}"), f"{app} to answer")
        if process.poll() is not None:
            raise RuntimeError(f"{app} did not start")
        yield Served(url, process)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def millrace(home: Path, *options: str, environ: dict[str, str] | None = None) -> Iterator[Served]:
    """``millrace serve`` on a home, ready to predict and to learn, its monitor up."""
    advert = home / "data" / "server.json"
    advert.unlink(missing_ok=True)
    command = [sys.executable, "-m", "millrace", "serve", "--home", str(home), "--port", "0"]
    command += ["--monitor-port", "0", *options]
    begun = time.perf_counter()
    with (home / "log.txt").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own
            command, stdout=log, stderr=log, env=os.environ | (environ or {}), cwd=ROOT
        )
    try:
        until(lambda: advert.exists() or process.poll() is not None, "data/server.json")
        found = json.loads(advert.read_text())
        with httpx.Client(base_url=found["url"]) as client:
            until(lambda: health(client), "Millrace to be ready")
            ready = time.perf_counter() - begun
            until(lambda: health(client).get("learner", {}).get("alive"), "Millrace to learn")
            learning = time.perf_counter() - begun
        until(lambda: shown(found["monitor_url"]), "the monitor")  # it starts last, and has much to load
        yield Served(found["url"], process, found["monitor_url"], ready, learning)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def answers(url: str, body: bytes) -> bool:
    """Whether anything is answered."""
    with contextlib.suppress(httpx.TransportError):
        return bool(httpx.post(url, content=body, timeout=START_SECONDS).status_code)
    return False


def shown(url: str) -> bool:
    """Whether a page is there."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url).is_success
    return False


def health(client: httpx.Client) -> dict[str, Any]:
    """What a Millrace server that predicts says of itself; nothing of one that does not yet."""
    with contextlib.suppress(httpx.TransportError):
        reply = client.get("/health/ready")
        return dict(reply.json()) if reply.status_code == 200 else {}
    return {}


def until(condition: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
    """Wait until a condition holds; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.01)
    return value


def cpu_seconds(pid: int) -> float:
    """Processor time a process has taken, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Memory a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
