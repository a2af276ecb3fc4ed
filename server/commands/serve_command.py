"""``millrace serve``, and the processes it starts."""

from __future__ import annotations

import socket
import sys
from typing import Any, Literal, get_args

import click
import msgspec

from bootstrap.home_option import home_option
from online.core import config as configuration
from online.core.home import Home
from server.observability.logs import log_to
from server.processes.discovery import ServerInfo
from server.processes.roles import (
    run_label_worker,
    run_learner,
    run_monitor,
    run_scorer,
    run_watcher,
)
from server.processes.stopping import end_with_parent, stopped_by_signals
from server.processes.supervisor import Part, Role, supervise

__all__ = ["child", "serve"]


@click.command()
@home_option()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the API; 0 takes a free one.")
@click.option(
    "--monitor-port", type=click.IntRange(0, 65535), help="Port of the monitor; 0 takes a free one."
)
@click.option("--workers", type=click.IntRange(1, 64), help="Scorer processes.")
@click.option("--role", type=click.Choice(get_args(Role)), help="Run this part alone.")
@click.option("--api-url", help="Where the monitor finds the API, when it is served elsewhere.")
def serve(home: Home, role: Role | None, api_url: str | None, **given: Any) -> None:
    """Serve predictions, learn labels and show the monitor. Options override millrace.toml."""
    home = Home(home.root.resolve())  # its processes are told an absolute path, whatever folder they are in
    config = configuration.load(home.config)
    chosen = {name: value for name, value in given.items() if value is not None}
    config = msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, **chosen))
    if role != "monitor":
        from server.processes.startup import check_home  # the monitor's image has no numpy

        check_home(home, config, role)
    log_to(sys.stderr, "supervisor", config.server.log_format, config.server.log_level)
    stopped = stopped_by_signals()
    supervise(home, config, Part(role, api_url), announce=lambda info: announce(info, role), stopped=stopped)
    click.echo("stopped")


def announce(info: ServerInfo, role: Role | None) -> None:
    """Print the links."""
    if role in (None, "scorer"):
        click.echo(f"API      {info.url}   documented at {info.url}/docs")
    if role in (None, "monitor"):
        click.echo(f"monitor  {info.monitor_url}")
    if role == "learner":
        click.echo("learning")


@click.command(hidden=True)
@click.argument("role", type=click.Choice([*get_args(Role), "label-worker"]))
@home_option()
@click.option("--fd", type=int, help="The listening socket; the label worker's that to its scorer.")
@click.option("--parent-fd", type=int, help="The pipe that closes with the supervisor.")
@click.option("--api-url", default="", help="Where the monitor finds the API.")
def child(
    role: Role | Literal["label-worker"], home: Home, fd: int | None, parent_fd: int | None, api_url: str
) -> None:
    """One process of a running server; the supervisor starts it."""
    if parent_fd is not None:
        end_with_parent(
            parent_fd
        )  # a supervisor that is killed cannot stop its children: the pipe's end does
    config = configuration.load(home.config, quiet=True)
    log_to(sys.stderr, role, config.server.log_format, config.server.log_level)
    if role == "learner":
        run_learner(home, config)
        return
    if role == "watcher":
        run_watcher(home, config)
        return
    if role == "label-worker":
        run_label_worker(home, config, int(fd or 0))
        return
    listener = socket.socket(fileno=fd)
    if role == "scorer":
        run_scorer(home, config, listener)
    else:
        run_monitor(api_url, listener)
