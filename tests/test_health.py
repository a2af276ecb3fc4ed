"""``millrace health``: its exit code says whether a part of a server is at work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fake_api import closed_port
from tests.support.running import Server, serving, until


def health(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "millrace", "health", "--home", str(home), *options]
    # a proxy must not be asked for what listens on this machine
    environ = os.environ | {"http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ, check=False)


def learns(home: Path) -> bool:
    return health(home, "--role", "learner").returncode == 0


@pytest.mark.parametrize("role", ["scorer", "monitor", "learner"])
def test_a_part_at_work_is_healthy(shared_server: Server, role: str) -> None:
    until(lambda: health(shared_server.home, "--role", role).returncode == 0, f"a healthy {role}")


def test_a_part_is_asked_at_its_address(shared_server: Server, tmp_path: Path) -> None:
    assert health(tmp_path, "--url", shared_server.url).returncode == 0
    refused = health(tmp_path, "--url", f"http://127.0.0.1:{closed_port()}")
    assert refused.returncode == 1 and "no scorer answers" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("role", ["scorer", "monitor", "learner"])
def test_in_a_home_without_a_server_nothing_is_healthy(home: Path, tmp_path: Path, role: str) -> None:
    for folder in (home, tmp_path / "none"):
        done = health(folder, "--role", role)
        assert done.returncode == 1 and done.stderr.startswith("millrace: ")
        assert "Traceback" not in done.stderr


@pytest.mark.server
def test_a_learner_that_was_stopped_is_not_healthy(home: Path) -> None:
    with serving(home):
        assert learns(home)
    assert not learns(home)
