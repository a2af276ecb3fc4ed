"""``millrace rollback``: the model versions of a home with their metrics, and the way back to one."""

from __future__ import annotations

import datetime
import time
from typing import Any

import click
import httpx
from rich.console import Console
from rich.table import Table

from bootstrap.home_option import home_option
from online.core.config import Config, load
from online.core.errors import InputError, PlanError
from online.core.home import Home
from online.learning.learner import Learner
from online.scoring.plan import ScoringPlan
from online.storage.journal import Journal
from online.storage.snapshot import Manifest, SnapshotStore
from server.processes.discovery import find_server

__all__ = ["rollback"]

ROLLBACK_SECONDS = 90.0  # a rollback is answered once the old model is served


@click.command()
@click.argument("version", type=int, required=False)
@home_option()
@click.option("--url", help="The server to ask; by default the one running in this home.")
@click.option("--key", help="The admin key; by default server.admin_key of millrace.toml.")
def rollback(version: int | None, home: Home, url: str | None, key: str | None) -> None:
    """List the model versions, or go back to VERSION, which becomes the newest version.

    A running server is asked over HTTP; its next prediction comes from the old model. Where none runs, the
    journal, snapshots and plan are changed directly.
    """
    home = Home(home.root.resolve())
    config = load(home.config)
    store = SnapshotStore(home.models, config.learner.snapshot_key)
    if version is None:
        Console().print(versions_table(store.manifests(), active(home)))
        return
    store.check(version)
    url = url or find_server(home)
    new = over_http(url, version, key or config.server.admin_key) if url else directly(home, config, version)
    where = f"served by {url}" if url else "no server runs here; the next one starts from it"
    click.echo(f"model_v{new} is model_v{version} again: {where}")


def over_http(url: str, version: int, key: str) -> int:
    """Ask a running server; the new version's number. Raises InputError when it refuses."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.post(
            f"{url}/snapshots/rollback", json={"version": version}, headers=headers, timeout=ROLLBACK_SECONDS
        )
    except httpx.TransportError as exc:
        raise InputError(f"no server answers at {url}: {exc}", field="url") from exc
    if answer.status_code != httpx.codes.CREATED:
        raise InputError(f"{url} answered {answer.status_code}: {answer.text[:300]}")
    return int(answer.json()["version"])


def directly(home: Home, config: Config, version: int) -> int:
    """Put the order into the journal and carry it out here; the new version's number."""
    with Learner(home, config) as learner:  # holds the home's lock: no server can start meanwhile
        journal = Journal(home.journal, config.stream)
        try:
            journal.append_command("rollback", time.time(), version=version)
        finally:
            journal.close()
        learner.catch_up()
        return learner.version


def active(home: Home) -> int | None:
    """The version now served."""
    try:
        return ScoringPlan.load(home.plan).info.version
    except PlanError:
        return None


def versions_table(manifests: list[Manifest], serving: int | None) -> Table:
    """The versions as a table, newest first."""
    table = Table(
        title="model versions", caption="errors are of the last 1,000 served predictions with labels"
    )
    for heading in ("", "version", "parent", "seq", "taken (UTC)", "reason", "MAE", "RMSE", "R²", "MB"):
        table.add_column(heading, justify="left" if heading in ("", "taken (UTC)", "reason") else "right")
    for manifest in manifests:
        taken = datetime.datetime.fromtimestamp(manifest.created_at, datetime.UTC)
        table.add_row(
            "served" if manifest.version == serving else "",
            str(manifest.version),
            str(manifest.parent or "-"),
            str(manifest.seq),
            f"{taken:%Y-%m-%d %H:%M:%S}",
            manifest.reason,
            *(figure(manifest.metrics, name) for name in ("mae", "rmse", "r2")),
            f"{manifest.size_bytes / 1e6:.1f}",
            style="bold" if manifest.version == serving else "",
        )
    return table


def figure(metrics: dict[str, Any], name: str) -> str:
    """A metric in a few digits."""
    value = metrics.get(name)
    return "-" if value is None else f"{value:,.4g}"
