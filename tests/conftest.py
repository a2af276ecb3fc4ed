"""Homes to test in."""

from __future__ import annotations

import fcntl
import os
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
from bootstrap.reading.split import split_rows, write_split
from bootstrap.train import train
from online.core import config as configuration
from online.core.config import Config
from online.core.home import Home
from server.commands.launch import ServerProcess
from tests.support.running import Server, serving

TARGET = "Production"
# fixtures that start something, and the marker of a test that asks for one
MARKERS = {"server": "server", "shared_server": "server", "browser": "browser"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests whose fixtures start a server or a browser."""
    for item in items:
        for name in MARKERS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKERS[name])


@pytest.fixture(autouse=True)
def no_server_without_a_marker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the fast tests fast: one that starts a server says so by its marker."""

    def refuse(_: ServerProcess) -> None:
        raise AssertionError("this test starts a server: mark it with pytest.mark.server")

    if request.node.get_closest_marker("server") is None:
        monkeypatch.setattr(ServerProcess, "start", refuse)


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bootstrapped home, trained once for all processes of a test run; copy it, never change it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # a worker's own folder is in that of the run
    with (shared / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "trained").exists():
            bootstrap_home(Home(shared / "training").create())
            (shared / "training").rename(shared / "trained")  # half a home is none
    return shared / "trained"


def bootstrap_home(home: Home) -> None:
    """Train a small model on a generated stream."""
    frame = generate_stream(seed=3, days=60).iloc[:1500]
    schema = infer_schema(frame.iloc[:900], stream="energy", target=TARGET)
    schema = choose_context(schema, *zip(*pairs(frame.iloc[:900], schema), strict=True))
    config = Config(schema.stream, schema.target, schema.features, schema.context)
    config = msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, n_models=3))
    home.config.write_text(configuration.dump(config))
    write_split(home, *split_rows(frame.iloc[:900], 0.2))
    frame.iloc[900:].to_csv(home.data / "stream.csv", index=False)
    train(home, config, Console(quiet=True))


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
