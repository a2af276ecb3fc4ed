"""List a home's model versions with their metrics, or go back to one of them.

    python scripts/rollback.py                  the versions
    python scripts/rollback.py 3                back to model_v3, which becomes the newest version

A running server is asked over HTTP (its address is in data/server.json, or give --url); the next
prediction comes from the old model. Where none runs, the journal, snapshots and plan are changed directly.
"""

from __future__ import annotations

import datetime
import sys
import time
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console
from rich.table import Table

from online.core.config import Config, load
from online.core.errors import InputError, MillraceError, PlanError
from online.core.home import Home
from online.learning.learner import Learner
from online.scoring.plan import ScoringPlan
from online.storage.journal import Journal
from online.storage.snapshot import Manifest, SnapshotStore
from server.processes.discovery import running


@click.command()
@click.argument("version", type=int, required=False)
@click.option(
    "--home", "root", type=click.Path(file_okay=False, path_type=Path), default=".", show_default=True,
    help="Folder with data/, models/ and millrace.toml.",
)  # fmt: skip
@click.option("--url", help="The server to ask; by default the one running in this home.")
@click.option("--key", help="The admin key; by default server.admin_key of millrace.toml.")
def main(version: int | None, root: Path, url: str | None, key: str | None) -> None:
    """List the model versions, or go back to VERSION."""
    home = Home(root.resolve())
    config = load(home.config)
    store = SnapshotStore(home.models, config.learner.snapshot_key)
    if version is None:
        Console().print(versions_table(store.manifests(), active(home)))
        return
    store.check(version)
    url = url or running(home)
    new = over_http(url, version, key or config.server.admin_key) if url else directly(home, config, version)
    where = f"served by {url}" if url else "no server runs here; the next one starts from it"
    click.echo(f"model_v{new} is model_v{version} again: {where}")


def over_http(url: str, version: int, key: str) -> int:
    """Ask a running server; the new version's number. Raises InputError when it refuses."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.post(
            f"{url}/snapshots/rollback", json={"version": version}, headers=headers, timeout=90.0
        )
    except httpx.TransportError as exc:
        raise InputError(f"no server answers at {url}: {exc}", field="url") from exc
    if answer.status_code != httpx.codes.CREATED:
        raise InputError(f"{url} answered {answer.status_code}: {answer.text[:300]}")
    return int(answer.json()["version"])


def directly(home: Home, config: Config, version: int) -> int:
    """Put the order into the journal and carry it out here; the new version's number."""
    with Learner(home, config) as learner:
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
    for one in manifests:
        taken = datetime.datetime.fromtimestamp(one.created_at, datetime.UTC)
        table.add_row(
            "served" if one.version == serving else "", str(one.version), str(one.parent or "-"),
            str(one.seq), f"{taken:%Y-%m-%d %H:%M:%S}", one.reason,
            *(figure(one.metrics, name) for name in ("mae", "rmse", "r2")),
            f"{one.size_bytes / 1e6:.1f}", style="bold" if one.version == serving else "",
        )  # fmt: skip
    return table


def figure(metrics: dict[str, Any], name: str) -> str:
    """A metric in a few digits."""
    value = metrics.get(name)
    return "-" if value is None else f"{value:,.4g}"


if __name__ == "__main__":
    try:
        main()
    except MillraceError as exc:
        click.echo(f"rollback: {exc}", err=True)
        sys.exit(1)
