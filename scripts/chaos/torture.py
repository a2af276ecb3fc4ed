"""Torture a server: kill processes and spoil files while a client predicts and labels, then check.

    make torture                                   200 kills
    python -m scripts.chaos.torture --home HOME --kills 20

HOME is bootstrapped and has data/stream.csv; it is copied, never changed. The client notes every label
answered 202 and sends again what got no answer. At the end: every noted label is in the journal, once; the
learner learned every record once; replay from the first model gives the live one; no prediction failed
while a scorer was alive (one that its worker took to the grave is asked once more).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console
from rich.progress import track

from bootstrap.home_option import home_option
from online.core.config import load
from online.core.home import Home
from online.learning.learner import Learner
from online.scoring.plan import ScoringPlan
from online.storage.journal import Journal
from online.storage.records import LABELS, Record
from online.storage.snapshot import SnapshotStore
from scripts.chaos.poison import read_stream
from tests.support.running import Server, until

KILLED_ROLES = ("learner", "learner", "learner", "scorer", "scorer", "label-worker", "supervisor")


class Victim(Server):
    """A server that is killed in parts or as a whole, on a port that it keeps."""

    def __init__(self, home: Home, port: int) -> None:
        self.down = threading.Event()  # while no scorer need be alive
        super().__init__(home.root, "--workers", "2", "--port", str(port))

    def strike(self, role: str, rng: random.Random) -> None:
        """Kill a process of a role; a scorer only beside another, the supervisor while nothing is asked.

        Parameters
        ----------
        role
            The role, or ``supervisor`` for everything; it is started again.
        rng
            Chooses among the processes of the role.
        """
        if role == "supervisor":
            self.down.set()
            self.crash()
            self.start()
            self.down.clear()
            return
        pids = self.pids(role)
        if pids and (role in ("learner", "label-worker") or len(pids) > 1):
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(pids), signal.SIGKILL)


class LabellingClient(threading.Thread):
    """Predicts and labels, notes every answer, and sends again what got none."""

    def __init__(self, server: Victim, rows: list[dict[str, Any]], labels: list[float], target: str) -> None:
        super().__init__(daemon=True)
        self._server, self._rows, self._labels, self._target = server, rows, labels, target
        self._http = httpx.Client(base_url=server.url, timeout=60.0)
        self.accepted: dict[str, float] = {}
        self.predicted = self.failed = self.retried = 0
        self.stopping = False

    def run(self) -> None:
        """One row after the other."""
        count = 0
        while not self.stopping:
            row, label = self._rows[count % len(self._rows)], self._labels[count % len(self._rows)]
            count += 1
            answer = self._predict(row)
            if answer is not None:
                self._teach({"id": answer["id"], self._target: label})

    def _predict(self, row: dict[str, Any]) -> Any:
        for _ in range(2):
            down = self._server.down.is_set()
            with contextlib.suppress(httpx.TransportError):
                answer = self._http.post("/predict", json=row)
                if answer.status_code == httpx.codes.OK:
                    self.predicted += 1
                    return answer.json()
            if down or self._server.down.is_set():
                time.sleep(0.05)
                return None
            self._http = httpx.Client(base_url=self._server.url, timeout=60.0)
        self.failed += 1
        return None

    def _teach(self, label: dict[str, Any]) -> None:
        """Send a label until it is answered: a reply may be lost after the commit."""
        while not self.stopping:
            with contextlib.suppress(httpx.TransportError):
                answer = self._http.post("/learn", json=label)
                if answer.status_code == httpx.codes.ACCEPTED:
                    report = answer.json()
                    if report["accepted"] or report["duplicates"]:
                        self.accepted[label["id"]] = label[self._target]
                    return
            self.retried += 1
            time.sleep(0.05)
            self._http = httpx.Client(base_url=self._server.url, timeout=60.0)


def spoil(home: Home, server: Victim, rng: random.Random) -> str:
    """Do something bad to the files, or ask for work at a bad moment; what it was."""

    def tear_plan() -> None:
        with contextlib.suppress(FileNotFoundError):  # lost before, and no label came since
            home.plan.write_bytes(home.plan.read_bytes()[: rng.randrange(1, 4000)])

    def lose_plan() -> None:
        home.plan.unlink(missing_ok=True)

    def tear_snapshot() -> None:
        newest = max(home.models.glob("model_v*.pkl"), key=lambda path: path.stat().st_mtime)
        if not newest.name.startswith("model_v1."):
            newest.write_bytes(newest.read_bytes()[:-100])

    def order(path: str, **body: Any) -> Callable[[], None]:
        def ask() -> None:
            with contextlib.suppress(httpx.TransportError):
                httpx.post(f"{server.url}{path}", json=body or None, timeout=60.0)

        return ask

    faults = {
        "plan torn": tear_plan,
        "plan lost": lose_plan,
        "snapshot torn": tear_snapshot,
        "snapshot ordered": order("/snapshots"),
        "rolled back": order("/snapshots/rollback", version=1),
    }
    name = rng.choice(list(faults))
    faults[name]()
    return name


def check(home: Home, client: LabellingClient) -> list[str]:
    """What does not hold; nothing when all is well."""
    config, wrong = load(home.config), []
    journal = Journal(home.journal, config.stream)
    records: list[Record] = []
    while chunk := journal.read(records[-1].seq if records else 0):
        records += chunk
    journal.close()
    labels = [record for record in records if record.kind in ("label", "release")]
    targets = {record.id: record.target for record in labels}
    lost = [name for name, target in client.accepted.items() if targets.get(name) != target]
    if lost:
        wrong.append(f"{len(lost)} labels answered 202 are not in the journal, e.g. {lost[0]}")
    if len(targets) != len(labels):
        wrong.append(f"{len(labels) - len(targets)} labels are in the journal twice")
    if client.failed:
        wrong.append(f"{client.failed} predictions failed while a scorer was alive")
    return wrong + check_replay(home, sum(record.kind in LABELS for record in records))


def check_replay(home: Home, taught: int) -> list[str]:
    """Replay the whole journal from the first model: the live plan, bit for bit, each label learned once."""
    config, wrong = load(home.config), []
    with Learner(home, config) as learner:  # what was accepted last
        learner.catch_up()
    live = ScoringPlan.load(home.plan)
    store = SnapshotStore(home.models)
    learned = store.load(store.manifests()[0].version).state.learned - store.load(1).state.learned
    if learned != taught:
        wrong.append(f"{taught} labels are in the journal, but {learned} were learned")
    with tempfile.TemporaryDirectory() as folder:
        again = Home(Path(shutil.copytree(home.root, Path(folder) / "again")))
        for path in again.models.iterdir():
            if not path.name.startswith("model_v1."):
                path.unlink()
        with Learner(again, config) as learner:
            learner.catch_up()
        replayed = ScoringPlan.load(again.plan)
    same = all(live.arrays[name].tobytes() == replayed.arrays[name].tobytes() for name in live.arrays)
    return wrong if same else [*wrong, "replay from the first model does not give the live one"]


def torture(home: Home, kills: int, seed: int, port: int) -> dict[str, Any]:
    """Kill and spoil; the counts, with what was found wrong under ``wrong``."""
    rng, config = random.Random(seed), load(home.config)  # noqa: S311 - a seed, no secret
    rows, labels = read_stream(home, config, 2000)
    server = Victim(home, port)
    client = LabellingClient(server, rows, labels, config.target.name)
    client.start()
    done: dict[str, int] = {}
    try:
        for _ in track(range(kills), "killing", console=Console(stderr=True)):
            time.sleep(rng.uniform(0.1, 2.0))
            role = rng.choice(KILLED_ROLES)
            server.strike(role, rng)
            names = [f"{role} killed"] + ([spoil(home, server, rng)] if rng.random() < 0.3 else [])
            for name in names:
                done[name] = done.get(name, 0) + 1
        until(server.ready, "the server to be back")
        client.stopping = True
        client.join()
    finally:
        server.stop()
    report = {"accepted": len(client.accepted), "predicted": client.predicted, "retried": client.retried}
    return report | done | {"wrong": check(home, client)}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@click.command()
@home_option(default=None, exists=True)
@click.option("--kills", type=int, default=200, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--port", type=int, default=0, help="Where the server listens; a free port by default.")
def main(home: Home, kills: int, seed: int, port: int) -> None:
    """Torture a copy of a home, and exit with 1 when something does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Home(Path(shutil.copytree(home.root, Path(folder) / "home")))
        report = torture(copy, kills, seed, port or free_port())
    click.echo(json.dumps(report, indent=1))
    sys.exit(1 if report["wrong"] else 0)


if __name__ == "__main__":
    main()
