"""The ``millrace`` command, and how a snapshot is loaded by hand."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
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


# what each command is: its module, and its name there
COMMANDS = {
    "bootstrap": ("bootstrap.bootstrap_command", "bootstrap"),
    "health": ("server.commands.health_command", "health"),
    "replay": ("server.commands.replay_command", "replay"),
    "request-labels": ("server.commands.request_labels_command", "request_labels"),
    "rollback": ("server.commands.rollback_command", "rollback"),
    "score": ("server.commands.score_command", "score"),
    "serve": ("server.commands.serve_command", "serve"),
}
HIDDEN_COMMANDS = {"child": ("server.commands.serve_command", "child")}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called: scorers need no pandas."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of the commands that help shows."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import one command; None when there is none of that name."""
        module, name = (COMMANDS | HIDDEN_COMMANDS).get(cmd_name, (None, None))
        if module is None or name is None:
            return None
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup)
@click.version_option(package_name="millrace")
def millrace() -> None:
    """Adaptive regression: bootstrap a model from a CSV, serve it, and keep it learning."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an error that Millrace raises on purpose is one line on stderr and exit code 1."""
    try:
        millrace(arguments, prog_name="millrace")
    except MillraceError as exc:
        click.echo(f"millrace: {exc}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
