"""Starts the processes of a home, restarts those that die, and stops them in order."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from online.core.config import Config
from online.core.errors import ConfigError
from online.core.home import Home, write_atomically

__all__ = ["Addresses", "Role", "supervise"]

log = logging.getLogger(__name__)

Role = Literal["scorer", "learner", "monitor", "watcher"]
ROLES: tuple[Role, ...] = ("learner", "scorer", "monitor", "watcher")
LOOK_SECONDS = 0.05
LATER_SECONDS: dict[Role, float] = {"learner": 0.6, "monitor": 3.0, "watcher": 3.0}  # scorers start first
FIRST_DELAY, LONGEST_DELAY, STEADY_SECONDS = 0.1, 5.0, 10.0
# a scorer's label worker may wait 30 s for the journal
GRACE_SECONDS: dict[Role, float] = {"scorer": 45.0, "monitor": 5.0, "watcher": 5.0, "learner": 60.0}


class Addresses(msgspec.Struct, frozen=True):
    """Where a running server is found: what ``data/server.json`` holds."""

    pid: int
    url: str
    monitor_url: str


@dataclasses.dataclass
class Child:
    """One supervised process."""

    role: Role
    command: list[str]
    fds: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    delay: float = FIRST_DELAY
    due_at: float = 0.0

    def start(self, environ: dict[str, str]) -> None:
        """Start the process, in a session of its own: a Ctrl-C reaches the supervisor alone."""
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            self.command, pass_fds=self.fds, env=environ, start_new_session=True, stdin=subprocess.DEVNULL
        )
        self.started_at = time.monotonic()

    def look(self, environ: dict[str, str]) -> None:
        """Start the process again when it died and its delay is over."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            log.warning("the %s ended with code %s; it is started again", self.role, self.process.returncode)
            if now - self.started_at > STEADY_SECONDS:
                self.delay = FIRST_DELAY
            self.due_at, self.delay = now + self.delay, min(2 * self.delay, LONGEST_DELAY)
            self.process = None
        if self.process is None and now >= self.due_at:
            self.start(environ)

    def terminate(self) -> None:
        """Ask the process to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self) -> None:
        """Wait for its end; one that does not come is killed."""
        if self.process is None:
            return
        try:
            self.process.wait(GRACE_SECONDS[self.role])
        except subprocess.TimeoutExpired:
            log.error("the %s did not end in %g s and is killed", self.role, GRACE_SECONDS[self.role])
            self.process.kill()
            self.process.wait()


def supervise(
    home: Home,
    config: Config,
    *,
    only: Role | None = None,
    api_url: str | None = None,
    announce: Callable[[Addresses], None],
    stopped: Callable[[], bool],
) -> None:
    """Run the processes of a home until told to stop.

    Parameters
    ----------
    home, config
        What to serve, and where.
    only
        Run this role alone.
    api_url
        Where the monitor finds the API, when it is not served here.
    announce
        Called once, with the addresses, when the sockets are bound and the processes started.
    stopped
        Looked at every few milliseconds: when it says so, drain, snapshot and return.

    Raises
    ------
    ConfigError
        A port is taken.
    """
    roles = ROLES if only is None else ("learner", "watcher") if only == "learner" else (only,)
    if roles != ("monitor",):
        home.create()
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(listening(config.server.host, config.server.port, "scorer" in roles))
        page = stack.enter_context(
            listening(config.server.host, config.server.monitor_port, "monitor" in roles)
        )
        settings = config.server
        url = api_url or url_of(api, settings.host, settings.port)
        addresses = Addresses(os.getpid(), url, url_of(page, settings.host, settings.monitor_port))
        environ = os.environ | {"PROMETHEUS_MULTIPROC_DIR": stack.enter_context(scratch())}
        parent, _held = stack.enter_context(pipe())
        children = [
            child(role, home, listener, parent, addresses.url)
            for role in roles
            for listener in listeners(role, api, page, config)
        ]
        stack.callback(finish, children)
        if "scorer" in roles:
            stack.enter_context(advertised(home, addresses))
        for one in children:
            if "scorer" in roles and one.role in LATER_SECONDS:
                one.due_at = time.monotonic() + LATER_SECONDS[one.role]
            else:
                one.start(environ)
        announce(addresses)
        while not stopped():
            time.sleep(LOOK_SECONDS)
            for one in children:
                one.look(environ)


def finish(children: list[Child]) -> None:
    """Stop scorers and monitor first, so that the learner's last snapshot has every label they took."""
    for roles in (("scorer", "monitor", "watcher"), ("learner",)):
        stopping = [one for one in children if one.role in roles]
        for one in stopping:
            one.terminate()
        for one in stopping:
            one.wait()


def child(role: Role, home: Home, listener: socket.socket | None, parent: int, api_url: str) -> Child:
    """A process of a role, not started yet."""
    command = [
        sys.executable,
        "-P",  # the working folder is nobody's module
        "-m",
        "millrace",
        "child",
        role,
        "--home",
        str(home.root),
        "--parent-fd",
        str(parent),
    ]
    fds = [parent]
    if listener is not None:
        command += ["--fd", str(listener.fileno())]
        fds.append(listener.fileno())
    if role == "monitor":
        command += ["--api-url", api_url]
    return Child(role, command, tuple(fds))


def listeners(
    role: Role, api: socket.socket | None, page: socket.socket | None, config: Config
) -> list[socket.socket | None]:
    """The socket of each process of a role."""
    if role == "scorer":
        return [api] * config.server.workers
    return [page if role == "monitor" else None]


@contextlib.contextmanager
def listening(host: str, port: int, wanted: bool) -> Iterator[socket.socket | None]:
    """A listening socket, or None when it is not wanted. Raises ConfigError when the port is taken."""
    if not wanted:
        yield None
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(2048)
        except OSError as exc:
            raise ConfigError(
                f"{host}:{port} cannot be listened on ({exc.strerror}): give another port"
            ) from exc
        yield listener


def url_of(listener: socket.socket | None, host: str, port: int) -> str:
    """Where a browser on this machine finds a socket; the configured place when it is not bound here."""
    port = port if listener is None else listener.getsockname()[1]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A folder for the workers' metrics."""
    with tempfile.TemporaryDirectory(prefix="millrace-metrics-", ignore_cleanup_errors=True) as folder:
        yield folder


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose reading end the children hold: it closes when this process is gone, however it went."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(writing)
        os.close(reading)


@contextlib.contextmanager
def advertised(home: Home, addresses: Addresses) -> Iterator[None]:
    """``data/server.json`` while the server runs."""
    write_atomically(home.server, msgspec.json.encode(addresses))
    try:
        yield
    finally:
        home.server.unlink(missing_ok=True)
