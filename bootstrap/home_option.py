"""``--home``, which every command takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from online.core.home import Home

__all__ = ["home_option"]

Command = TypeVar("Command", bound=Callable[..., Any])
HELP = "Folder of the stream: data/, models/ and millrace.toml."


def as_home(_context: click.Context, _parameter: click.Parameter, folder: Path) -> Home:
    """The home in a folder: what a command is handed."""
    return Home(folder)


def home_option(
    *, default: str | None = ".", exists: bool = False, help_text: str = HELP
) -> Callable[[Command], Command]:
    """A decorator that adds ``--home`` to a command, which gets it as ``home``.

    Parameters
    ----------
    default
        The folder without the option; None makes the option required.
    exists
        Whether the folder must be there.
    help_text
        What ``--help`` says of it.

    Returns
    -------
    callable
        The decorator.
    """
    return click.option(
        "--home",
        type=click.Path(exists=exists, file_okay=False, path_type=Path),
        callback=as_home,
        default=default,
        required=default is None,
        show_default=default is not None,
        help=help_text,
    )
