"""Starts the processes of a home, restarts those that die, and stops them in order.

Why it is our own: docs/decisions/022-libraries-and-what-is-ours.md.
"""

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
from online.core.home import Home
from server.processes.discovery import ServerInfo, server_info

__all__ = ["Part", "Role", "supervise"]

log = logging.getLogger(__name__)

Role = Literal["scorer", "learner", "monitor", "watcher"]
ROLES: tuple[Role, ...] = ("learner", "scorer", "monitor", "watcher")
CHECK_SECONDS = 0.05
# Their imports take a processor for seconds, and the first prediction would wait for that: scorers go first.
LATER_SECONDS: dict[Role, float] = {"learner": 0.6, "monitor": 3.0, "watcher": 3.0}
FIRST_DELAY, LONGEST_DELAY, STEADY_SECONDS = 0.1, 5.0, 10.0
# A scorer may have labels under way whose label worker waits 30 s for the journal; a learner takes a last
# snapshot.
GRACE_SECONDS: dict[Role, float] = {"scorer": 45.0, "monitor": 5.0, "watcher": 5.0, "learner": 60.0}
# The learner last: its last snapshot has every label that the scorers took.
STOP_ORDER: tuple[tuple[Role, ...], ...] = (("scorer", "monitor", "watcher"), ("learner",))


class Part(msgspec.Struct, frozen=True):
    """Which part of a server runs here.

    Parameters
    ----------
    role
        This role alone; None for all of them.
    api_url
        Where the monitor finds the API, when it is not served here.
    """

    role: Role | None = None
    api_url: str | None = None

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that run; a watcher runs beside its learner, as they share a container's files."""
        if self.role is None:
            return ROLES
        return ("learner", "watcher") if self.role == "learner" else (self.role,)


@dataclasses.dataclass
class Child:
    """One supervised process.

    Attributes
    ----------
    role, command, fds
        What it is, how it is started, and the descriptors it inherits.
    process
        The process, None while there is none.
    started_at, due_at
        When it was started, and when it is to be started again (monotonic seconds).
    delay
        Seconds before the next restart; doubled with each, until it has run steadily for a while.
    """

    role: Role
    command: list[str]
    fds: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    delay: float = FIRST_DELAY
    due_at: float = 0.0

    def start(self, environ: dict[str, str]) -> None:
        """Start the process, in a session of its own.

        A Ctrl-C then reaches the supervisor alone, which stops its children in order, and each role can have
        a session's niceness (see :mod:`server.processes.priority`).
        """
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            self.command, pass_fds=self.fds, env=environ, start_new_session=True, stdin=subprocess.DEVNULL
        )
        self.started_at = time.monotonic()

    def restart_when_due(self, environ: dict[str, str]) -> None:
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
    part: Part,
    *,
    announce: Callable[[ServerInfo], None],
    stopped: Callable[[], bool],
) -> None:
    """Run the processes of a home until told to stop.

    Parameters
    ----------
    home, config
        What to serve, and where.
    part
        Which roles run here.
    announce
        Called once, with the addresses, when the sockets are bound and the processes started.
    stopped
        Looked at every few milliseconds: when it says so, drain, snapshot and return.

    Raises
    ------
    ConfigError
        A port is taken.
    """
    roles, settings = part.roles, config.server
    if roles != ("monitor",):
        home.create()
    with contextlib.ExitStack() as stack:
        # Bound here, once, and inherited: several scorers accept from one socket, and one that is started
        # again finds the connections that came meanwhile waiting.
        api = stack.enter_context(listening(settings.host, settings.port, wanted="scorer" in roles))
        page = stack.enter_context(listening(settings.host, settings.monitor_port, wanted="monitor" in roles))
        url = part.api_url or url_of(api, settings.host, settings.port)
        info = ServerInfo(os.getpid(), url, url_of(page, settings.host, settings.monitor_port))
        environ = os.environ | {"PROMETHEUS_MULTIPROC_DIR": stack.enter_context(metrics_folder())}
        parent_fd, _kept_open = stack.enter_context(pipe())
        children = [
            child(role, home, listener, parent_fd, url)
            for role in roles
            for listener in listeners(role, api, page, settings.workers)
        ]
        stack.callback(stop, children)
        if "scorer" in roles:
            stack.enter_context(server_info(home, info))
        start(children, environ, scorers_first="scorer" in roles)
        announce(info)
        while not stopped():
            time.sleep(CHECK_SECONDS)
            for process in children:
                process.restart_when_due(environ)


def start(children: list[Child], environ: dict[str, str], *, scorers_first: bool) -> None:
    """Start the processes; those that scorers go before, some seconds later."""
    for process in children:
        if scorers_first and process.role in LATER_SECONDS:
            process.due_at = time.monotonic() + LATER_SECONDS[process.role]
        else:
            process.start(environ)


def stop(children: list[Child]) -> None:
    """Stop the processes, role by role."""
    for roles in STOP_ORDER:
        stopping = [process for process in children if process.role in roles]
        for process in stopping:
            process.terminate()
        for process in stopping:
            process.wait()


def child(role: Role, home: Home, listener: socket.socket | None, parent_fd: int, api_url: str) -> Child:
    """A process of a role, not started yet."""
    # -P: a module in the working folder is not imported in place of ours
    command = [sys.executable, "-P", "-m", "millrace", "child", role]
    command += ["--home", str(home.root), "--parent-fd", str(parent_fd)]
    fds = [parent_fd]
    if listener is not None:
        command += ["--fd", str(listener.fileno())]
        fds.append(listener.fileno())
    if role == "monitor":
        command += ["--api-url", api_url]
    return Child(role, command, tuple(fds))


def listeners(
    role: Role, api: socket.socket | None, page: socket.socket | None, workers: int
) -> list[socket.socket | None]:
    """The socket of each process of a role."""
    if role == "scorer":
        return [api] * workers
    return [page if role == "monitor" else None]


@contextlib.contextmanager
def listening(host: str, port: int, *, wanted: bool) -> Iterator[socket.socket | None]:
    """A listening socket, or None when it is not wanted. Raises ConfigError when the port is taken."""
    if not wanted:
        yield None
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        # connections of a server that has just ended keep its port for a minute (TIME_WAIT)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(2048)  # what the kernel has of a burst while a scorer starts again
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
def metrics_folder() -> Iterator[str]:
    """A folder where the scorers keep their metrics, for any of them to add up; it goes with the server."""
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
