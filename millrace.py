"""The ``millrace`` command, and how a snapshot is loaded by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from online.core.errors import MillraceError

if TYPE_CHECKING:
    import os

    from river.compose import Pipeline

__all__ = ["load_model", "main", "millrace"]


def load_model(path: str | os.PathLike[str], key: str = "") -> Pipeline:
    """Load the River pipeline of a snapshot of this or of an earlier release.

    It is unpickled only when the manifest beside it fits: its hash, its River version, and its signature
    where a key is given.

    Parameters
    ----------
    path
        A ``model_vN.pkl`` with its ``model_vN.json`` beside it.
    key
        The key that manifests are signed with, ``learner.snapshot_key``; without it a signature is not looked
        at. Load no snapshot of a stranger: a hash says that a pickle is undamaged, a signature whose it is.

    Returns
    -------
    river.compose.Pipeline
        It predicts with ``predict_one(row)`` and learns with ``learn_one(row, y)``.

    Raises
    ------
    SnapshotError
        There is no such snapshot, or a check failed.

    Examples
    --------
    >>> from millrace import load_model
    >>> model = load_model("models/model_v3.pkl")  # doctest: +SKIP
    >>> model.predict_one({"wind_speed": 7.2, "hour": "03:00"})  # doctest: +SKIP
    1523.4
    """
    from online.storage.snapshot import SnapshotStore, version_of_path

    file = Path(path)
    loaded = SnapshotStore(file.parent, key).load(version_of_path(file))
    return loaded.pipeline


class Lazy(click.Group):
    """A group whose commands are imported when they are called: scorers need no pandas."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands' names."""
        return ["bootstrap", "replay", "score", "serve"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name == "bootstrap":
            from bootstrap.bootstrap_command import bootstrap

            return bootstrap
        if cmd_name == "score":
            from server.commands.score_command import score

            return score
        if cmd_name == "replay":
            from server.commands.replay_command import replay

            return replay
        if cmd_name in ("serve", "child"):
            from server.commands import serve_command as cli

            return cli.serve if cmd_name == "serve" else cli.child
        return None


@click.group(cls=Lazy)
@click.version_option(package_name="millrace")
def millrace() -> None:
    """Adaptive regression: bootstrap a model from a CSV, serve it, and keep it learning."""


def main() -> None:
    """Run the command; an error that Millrace raises on purpose is one line on stderr and exit code 1."""
    try:
        millrace()
    except MillraceError as exc:
        click.echo(f"millrace: {exc}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
