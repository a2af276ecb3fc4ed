"""The torture in short: `make torture` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_killed_and_spoiled_nothing_is_lost_learned_twice_or_refused(home: Path) -> None:
    command = [sys.executable, "-m", "scripts.chaos.torture", "--home", str(home), "--kills", "12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["wrong"] == [] and done.returncode == 0
    assert report["accepted"] > 0
    killed = [report.get(f"{role} killed", 0) for role in ("learner", "scorer", "label-worker", "supervisor")]
    assert sum(killed) == 12 and min(killed) > 0
