"""``millrace health``: whether a part of a server is at work, by its exit code, as containers are asked."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import urllib.request

import click

from bootstrap.home_option import home_option
from online.core.errors import InputError
from online.core.home import Home
from online.storage.database import connect_to_read
from server.processes.health import learner_state

__all__ = ["health"]

HEALTH_SECONDS = 3.0  # Docker gives the whole check five
ASKED_ROLES = ("scorer", "learner", "monitor")


@click.command()
@home_option()
@click.option(
    "--role", type=click.Choice(ASKED_ROLES), default="scorer", show_default=True, help="What to ask."
)
@click.option("--url", help="Where it listens; by default the one running in the home.")
def health(home: Home, role: str, url: str | None) -> None:
    """Say whether a scorer or monitor answers, or the learner learns: exit code 0 when it does.

    A learner has no port: it is at work when its last words in the home are fresh.
    """
    click.echo(learner_health(home) if role == "learner" else answers(url or address(home, role), role))


def address(home: Home, role: str) -> str:
    """Where a part of the home's server says that it listens. Raises InputError when it says nothing."""
    try:
        addresses = json.loads(home.server.read_bytes())
        return str(addresses["monitor_url" if role == "monitor" else "url"])
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise InputError(f"no server runs in {home.root}: give its address with --url") from exc


def answers(url: str, role: str) -> str:
    """Ask a part over HTTP. Raises InputError when it does not answer with 200."""
    # the part is asked itself, whatever proxy the environment names
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url.rstrip('/')}/health/live", timeout=HEALTH_SECONDS):
            return f"the {role} answers at {url}"
    except (OSError, ValueError) as exc:
        raise InputError(f"no {role} answers at {url}: {exc}", field="url") from exc


def learner_health(home: Home) -> str:
    """Read the learner's last words. Raises InputError when they are old, or that it cannot learn."""
    try:
        with contextlib.closing(connect_to_read(home.history, "history")) as history:
            rows = history.execute("SELECT value FROM status WHERE key = 'learner'").fetchall()
    except sqlite3.Error as exc:
        raise InputError(f"{home.history} cannot be read: {exc}") from exc
    state = learner_state({"learner": json.loads(rows[0][0])} if rows else {})
    if not state["alive"]:
        raise InputError(f"no learner is at work in {home.root}: {state['error'] or 'it has been silent'}")
    return f"the learner of {home.root} is at work"
