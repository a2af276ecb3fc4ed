"""The torture in short: `make torture` is the long one."""

from __future__ import annotations

import socket
from pathlib import Path

from online.core.home import Home
from scripts.chaos.torture import torture


def test_killed_and_spoiled_nothing_is_lost_learned_twice_or_refused(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    report = torture(Home(home), kills=12, seed=1, port=port)
    assert report["wrong"] == []
    assert report["accepted"] > 0
    killed = [report.get(f"{role} killed", 0) for role in ("learner", "scorer", "label-worker", "supervisor")]
    assert sum(killed) == 12 and min(killed) > 0
