"""Every route, setting, metric and command is documented; every package names its exports truly."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import click
import msgspec
import pytest

import bootstrap
import online
import server
from millrace import millrace
from online.core.config import Config
from online.core.home import Home
from tests.support.running import Server

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def test_every_route_is_documented(shared_server: Server) -> None:
    paths = shared_server.get("/docs/openapi.json")["paths"]
    calls = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    documented = set(re.findall(r"`((?:GET|POST) /[^`]*)`", REFERENCE)) - {"GET /docs"}
    assert calls == documented


def test_every_setting_is_documented_with_its_default() -> None:
    documented = dict(re.findall(r"\| `(\w+\.\w+)` \| ([^|]*?) ?\|", REFERENCE))
    sections = {field.name for field in msgspec.structs.fields(Config)} - {
        "stream",
        "target",
        "features",
        "context",
    }
    structs = {field.name: field.type for field in msgspec.structs.fields(Config) if field.name in sections}
    defaults = {f"{n}.{f.name}": f.default for n, s in structs.items() for f in msgspec.structs.fields(s)}
    assert documented.keys() == defaults.keys()
    for name, default in defaults.items():
        assert msgspec.convert(documented[name], type(default), strict=False) == default, name


def test_every_metric_is_documented(shared_server: Server) -> None:
    shared_server.predict({})
    exposed = set(re.findall(r"^# TYPE (\w+) ", shared_server.client.get("/metrics").text, re.MULTILINE))
    documented = set(re.findall(r"\| `(millrace_\w+)", REFERENCE))
    only_once_known = {
        "millrace_labels_total", "millrace_interval_coverage_ratio", "millrace_label_delay_seconds",
        "millrace_last_alarm_timestamp_seconds", "millrace_request_duration_seconds",
        "millrace_predict_stage_duration_seconds",
    }  # fmt: skip
    assert exposed <= documented
    assert documented - exposed <= only_once_known


def test_every_command_is_documented_and_takes_a_home() -> None:
    group = millrace.get_command(click.Context(millrace), "bootstrap")
    assert isinstance(group, click.Group)
    found = {"millrace bootstrap": group} | {f"millrace bootstrap {n}": c for n, c in group.commands.items()}
    others = {
        f"millrace {n}": millrace.get_command(click.Context(millrace), n)
        for n in millrace.list_commands(click.Context(millrace))
    }
    for name, command in (found | others).items():
        assert command is not None
        assert f"`{name}" in README, name
        assert any("--home" in parameter.opts for parameter in command.params), name


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    text = document.read_text()
    named = re.findall(r"`((?:online|server|bootstrap|scripts|tests|docs|docker)/[^`\s*<>]*)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text)
    assert [path for path in linked if not (document.parent / path).exists()] == []


def test_the_decisions_are_all_in_their_index() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{3}-[^)]*)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("[0-9]*.md"))


def test_every_file_of_a_homes_data_is_described(tmp_path: Path) -> None:
    described = (ROOT / "data" / "README.md").read_text()
    home = Home(tmp_path)
    paths = [getattr(home, name) for name, value in vars(Home).items() if isinstance(value, property)]
    assert [
        path.name for path in paths if path.parent == home.data and f"`{path.name}`" not in described
    ] == []


def modules() -> list[str]:
    """Every module of the packages."""
    found = [
        info.name for package in (online, server, bootstrap)
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.") if not info.ispkg
    ]  # fmt: skip
    return [*found, "millrace"]


@pytest.mark.parametrize("name", modules())
def test_what_a_module_names_in_all_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert all(hasattr(module, exported) for exported in module.__all__)
