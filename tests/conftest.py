"""Homes to test in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from bootstrap.choose_context import choose_context
from bootstrap.generate import generate_stream
from bootstrap.reading.bootstrap_rows import pairs
from bootstrap.reading.infer import infer_schema
from bootstrap.reading.split import split_rows
from bootstrap.train import train
from online.core import config as configuration
from online.core.config import Config
from online.core.home import Home
from tests.support.running import Server, serving

TARGET = "Production"


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bootstrapped home; copy it, never change it."""
    home = Home(tmp_path_factory.mktemp("trained")).create()
    frame = generate_stream(seed=3, days=60).iloc[:1500]
    schema = infer_schema(frame.iloc[:900], stream="energy", target=TARGET)
    schema = choose_context(schema, *zip(*pairs(frame.iloc[:900], schema), strict=True))
    config = Config(schema.stream, schema.target, schema.features, schema.context)
    config = msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, n_models=3))
    home.config.write_text(configuration.dump(config))
    train_rows, validation_rows = split_rows(frame.iloc[:900], 0.2)
    train_rows.to_csv(home.data / "train.csv", index=False)
    validation_rows.to_csv(home.data / "validation.csv", index=False)
    frame.iloc[900:].to_csv(home.data / "stream.csv", index=False)
    train(home, config, Console(quiet=True))
    return home.root


@pytest.fixture
def home(trained_home: Path, tmp_path: Path) -> Path:
    """A bootstrapped home of one's own."""
    return Path(shutil.copytree(trained_home, tmp_path / "home"))


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    """A running server with one worker."""
    with serving(home) as running:
        yield running


@pytest.fixture(scope="module")
def shared_server(trained_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server for a module's tests that leave it as it was."""
    home = Path(shutil.copytree(trained_home, tmp_path_factory.mktemp("shared") / "home"))
    with serving(home) as running:
        yield running
