"""``millrace bootstrap``: from a CSV, or an endpoint, to settings, splits and the first model."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import pandas as pd
from rich.console import Console

from bootstrap.choose_context import choose_context
from bootstrap.generate import write_stream
from bootstrap.home_option import home_option
from bootstrap.reading.bootstrap_rows import pairs
from bootstrap.reading.infer import infer_schema, order_rows, schema_table
from bootstrap.reading.split import FRACTION, read_frame, split_rows, write_split
from online.core.config import Config, dump, load
from online.core.errors import ConfigError, SnapshotError
from online.core.gc_tuning import tune_gc
from online.core.home import Home, write_atomically
from online.core.schema import Schema

__all__ = ["bootstrap"]

Command = TypeVar("Command", bound=Callable[..., Any])


def data_option(command: Command) -> Command:
    """``--data``, looked for from here, then from the home."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="CSV file (.gz too), looked for from here, then from the home (there data/raw.csv by default).",
    )(command)


def fraction_option(command: Command) -> Command:
    """``--fraction`` of the rows kept for validation."""
    return click.option(
        "--fraction",
        type=float,
        default=FRACTION,
        show_default=True,
        help="Share of the rows, the last ones, kept for validation.",
    )(command)


def schema_options(command: Command) -> Command:
    """``--stream`` and ``--drop``, which shape the schema."""
    stream = click.option(
        "--stream", help="The stream's name; by default the file's, or the target's for raw.csv."
    )
    drop = click.option(
        "--drop", multiple=True, metavar="COLUMN", help="A column not to use; give it once for each."
    )
    return stream(drop(command))


@click.group(invoke_without_command=True)
@home_option()
@data_option
@click.option("--target", help="The column to predict.")
@schema_options
@fraction_option
@click.pass_context
def bootstrap(  # noqa: PLR0913 - one argument an option
    context: click.Context,
    home: Home,
    data: Path | None,
    target: str | None,
    stream: str | None,
    drop: tuple[str, ...],
    fraction: float,
) -> None:
    """Infer the schema of a CSV, write millrace.toml, split the rows and train model_v1.

    The subcommands do one of these steps each, or get the CSV.
    """
    tune_gc()
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    if target is None:
        raise click.UsageError("give the column to predict with --target, or name a subcommand")
    console = Console()
    refuse_started(home)
    path = csv_path(data, home)
    frame = read_frame(path)
    schema = infer_schema(frame, stream=stream or stream_name(path, target), target=target, drop=drop)
    schema = with_context(schema, frame)
    console.print(schema_table(schema))
    split_into(home, frame, schema, fraction)
    write_settings(home, schema)
    train_model(home, console)


@bootstrap.command("infer")
@home_option()
@data_option
@click.option("--target", required=True, help="The column to predict.")
@schema_options
@click.option("--dry-run", is_flag=True, help="Show the schema and write nothing.")
def infer_command(  # noqa: PLR0913 - one argument an option
    home: Home, data: Path | None, target: str, stream: str | None, drop: tuple[str, ...], dry_run: bool
) -> None:
    """Infer the schema of a CSV, show it, and write millrace.toml for you to edit."""
    if not dry_run:
        refuse_settings(home)
    path = csv_path(data, home)
    name = stream or stream_name(path, target)
    frame = read_frame(path)
    schema = with_context(infer_schema(frame, stream=name, target=target, drop=drop), frame)
    Console().print(schema_table(schema))
    if not dry_run:
        write_settings(home, schema)


@bootstrap.command("split")
@home_option()
@data_option
@fraction_option
def split_command(home: Home, data: Path | None, fraction: float) -> None:
    """Cut a CSV in time order into data/train.csv and data/validation.csv, as millrace.toml says."""
    schema = load(home.config).schema
    split_into(home, read_frame(csv_path(data, home)), schema, fraction)


@bootstrap.command("train")
@home_option()
def train_command(home: Home) -> None:
    """Train model_v1 on data/train.csv with the settings of millrace.toml."""
    train_model(home, Console())


@bootstrap.command("generate")
@home_option()
@click.option("--seed", type=int, default=1, show_default=True, help="Equal seeds give equal streams.")
@click.option(
    "--days", type=click.IntRange(min=2), default=730, show_default=True, help="Length of the stream."
)
def generate_command(home: Home, seed: int, days: int) -> None:
    """Generate an energy stream: the first half as data/raw.csv, the half to come as data/stream.csv."""
    write_stream(home, seed, days)
    click.echo(f"{home.data / 'raw.csv'} and {home.data / 'stream.csv'} written: {days} days in two halves")


@bootstrap.command("fetch")
@home_option()
@click.option("--url", required=True, help="Endpoint that answers with CSV or with JSON rows.")
@click.option(
    "--to",
    type=click.Path(dir_okay=False, path_type=Path),
    default="data/raw.csv",
    show_default=True,
    help="CSV file to write, from the home; an older one is replaced.",
)
@click.option("--sha256", help="The body's expected SHA-256, in hex; another body is refused.")
@click.option(
    "--attempts", type=click.IntRange(min=1), default=5, show_default=True, help="How often to try."
)
def fetch_command(home: Home, url: str, to: Path, sha256: str | None, attempts: int) -> None:
    """Get a CSV, or JSON rows, from a data endpoint."""
    from bootstrap.sources.fetch import FetchLimits, fetch  # its HTTP client is for no other command

    path = home.root / to
    limits = FetchLimits(attempts=attempts, jitter=random.Random())  # noqa: S311 - no secret
    fetched = fetch(url, path, sha256=sha256, limits=limits, console=Console(stderr=True))
    click.echo(f"{path} written: {fetched.rows:,} rows")
    click.echo(f"sha256 {fetched.sha256}")


# steps


def split_into(home: Home, frame: pd.DataFrame, schema: Schema, fraction: float) -> None:
    """Order the rows, cut them in two, write both parts and say how many there are."""
    ordered = order_rows(frame, schema)
    train, validation = split_rows(ordered, fraction)
    write_split(home, train, validation)
    left_out = len(frame) - len(ordered)
    note = f"; {left_out:,} without a usable label left out" if left_out else ""
    click.echo(f"{len(train):,} rows to train on, {len(validation):,} to validate on{note}")


def write_settings(home: Home, schema: Schema) -> None:
    """Write millrace.toml with the schema and default settings."""
    refuse_settings(home)
    home.create()
    config = Config(schema.stream, schema.target, schema.features, schema.context)
    write_atomically(home.config, dump(config).encode())
    click.echo(f"{home.config} written: edit it to change what was inferred")


def with_context(schema: Schema, frame: pd.DataFrame) -> Schema:
    """The schema with the context features that predict these rows best."""
    rows, targets = zip(*pairs(order_rows(frame, schema), schema), strict=True)
    return choose_context(schema, rows, targets)


def train_model(home: Home, console: Console) -> None:
    """Train with the settings on disk, the environment's overrides applied."""
    from bootstrap.train import train  # the learning core takes a second to load; other commands spare it

    train(home, load(home.config), console)


def csv_path(data: Path | None, home: Home) -> Path:
    """Where the CSV is: as given from here, else from the home; by default the home's ``data/raw.csv``."""
    if data is None:
        return home.data / "raw.csv"
    return data if data.exists() else home.root / data


def stream_name(data: Path, target: str) -> str:
    """The file's name without endings; the target's for ``raw.csv``, which says nothing."""
    stem = data.name.split(".")[0]
    return re.sub(r"\W+", "_", target.lower()).strip("_") or "stream" if stem in ("", "raw") else stem


# refusals


def refuse_misplaced(context: click.Context) -> None:
    """Refuse options given before a subcommand, where they would be lost."""
    given = click.core.ParameterSource.COMMANDLINE
    if any(context.get_parameter_source(name) is given for name in context.params):
        raise click.UsageError(
            f"give options after the subcommand: bootstrap {context.invoked_subcommand} --home ..."
        )


def refuse_started(home: Home) -> None:
    """Refuse to bootstrap over a model or edited settings."""
    model = next(iter(sorted(home.models.glob("model_v*"))), None)
    if model is not None:
        raise SnapshotError(
            f"{model} exists: this home has a model; run 'millrace serve', or use another --home, "
            f"or delete {home.models}, {home.data}/*.db and {home.config} to start over"
        )
    refuse_settings(home)


def refuse_settings(home: Home) -> None:
    """Refuse to overwrite millrace.toml."""
    if home.config.exists():
        raise ConfigError(f"{home.config} exists: run 'millrace bootstrap train' to use it, or delete it")
