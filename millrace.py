"""The ``millrace`` command."""

from __future__ import annotations

import sys

import click

from online.core.errors import MillraceError

__all__ = ["main", "millrace"]


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
