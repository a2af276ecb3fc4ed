"""Measure the server's speed, beside peers in the same run.

    python -m scripts.bench.bench_speed                    everything
    python -m scripts.bench.bench_speed single batch       some parts

Parts: single, learning, batch, plan, stages, fresh, learn, label, start, monitor. Every server is started
here on a free port; rounds of all sides take turns, and medians over the rounds are given. wrk makes the load
where it is installed, a client on asyncio otherwise. Figures go to docs/benchmarks/speed.json and
docs/benchmarks.md.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import httpx
import msgspec
import numpy as np
from rich.console import Console

from bootstrap.home_option import home_option
from online.core import config as configuration
from online.core.home import Home
from online.scoring.plan import ScoringPlan
from scripts.bench.speed_home import TARGET, made_rows, make_home
from scripts.bench.speed_load import Load, load
from scripts.bench.speed_section import section
from scripts.bench.speed_servers import Peer, page_is_there, peer
from tests.support.benchmark_document import FIGURES, replace_section
from tests.support.processes import cpu_seconds, resident_mb
from tests.support.running import Server, serving, until

SPEED_FIGURES = FIGURES / "speed.json"
CONNECTIONS = 32
ARF_ROWS = 2000
BATCHES = 4  # connections that batches come by, so that the worker never waits for a client
TEACHERS, TAUGHT = 2, 100  # connections that labels come by, so that none waits for the learner; of a request
PAIRS = 3  # times as many rounds where a percentile is what differs: one round's says little
WAITING = 300  # labels that the learner always has to learn
LABEL_RATE = 5000  # labels a second that no learner here keeps up with
WAITING_LABELS = 1000  # labels that wait for the learner at once
SENDERS = 8  # connections that labels come by: each waits for the disk
JSON_HEADERS = {"Content-Type": "application/json"}
console = Console()


class Bench:
    """What all parts share.

    Parameters
    ----------
    home
        A bootstrapped home; every part works on a copy.
    rounds, seconds
        How many rounds, and for how long each side is asked in one.
    fastapi_python
        A Python that has FastAPI, River and uvicorn; without, that peer is left out.
    """

    def __init__(self, home: Home, rounds: int, seconds: float, fastapi_python: str | None) -> None:
        self.home = home
        self.rounds = rounds
        self.seconds = seconds
        self.fastapi_python = fastapi_python
        self.rows, self.labels = made_rows(5000)
        self.bodies = [msgspec.json.encode(row) for row in self.rows[:100]]

    @contextlib.contextmanager
    def serving(self, *options: str, **environ: str) -> Iterator[Server]:
        """Millrace on a copy of the home, its monitor up."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            copy = Path(shutil.copytree(self.home.root, Path(folder) / "home"))
            with serving(copy, *options, environ=environ) as server:
                # the monitor starts last and has much to load: nothing is measured beside that
                until(lambda: page_is_there(server.monitor_url), "the monitor")
                yield server

    @contextlib.contextmanager
    def peers(self) -> Iterator[dict[str, Peer]]:
        """The other sides."""
        with contextlib.ExitStack() as stack:
            sides = {
                "ASGI echo": stack.enter_context(peer("asgi", sys.executable)),
                "Litestar @asgi echo": stack.enter_context(peer("litestar", sys.executable)),
            }
            if self.fastapi_python:
                rows = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "rows.json"
                content = {"rows": self.rows[:ARF_ROWS], "labels": self.labels[:ARF_ROWS]}
                rows.write_text(json.dumps(content))
                sides["FastAPI + River ARF-10"] = stack.enter_context(
                    peer("fastapi", self.fastapi_python, rows)
                )
            yield sides


def single(bench: Bench) -> dict[str, Any]:
    """One row a request: requests a second and latency, all sides in turn, the ledger on."""
    with bench.peers() as sides, bench.serving() as ours:
        urls = {name: (side.url, side.process.pid) for name, side in sides.items()}
        urls["Millrace"] = (f"{ours.url}/predict", ours.pids("scorer")[0])
        taken: dict[str, list[tuple[Load, float]]] = {name: [] for name in urls}
        for _ in range(bench.rounds):
            for name, (url, pid) in urls.items():
                before = cpu_seconds(pid)
                got = load(url, bench.bodies, seconds=bench.seconds, connections=CONNECTIONS)
                spent = (cpu_seconds(pid) - before) / (got.rate * bench.seconds) * 1e6
                taken[name].append((got, spent))
                console.print(f"single: {name} {got.rate:,.0f}/s, {spent:.0f} µs of processor a request")
        lost = counter(ours.url, "millrace_ledger_lost_rows_total")
    return {"sides": {name: summary(loads) for name, loads in taken.items()}, "ledger_lost_rows": lost}


def summary(loads: list[tuple[Load, float]]) -> dict[str, float]:
    """Medians over the rounds."""
    medians = {
        name: statistics.median(getattr(got, name) for got, _ in loads)
        for name in ("rate", "median_ms", "p99_ms", "failed")
    }
    return medians | {"cpu_us": statistics.median(spent for _, spent in loads)}


def learning(bench: Bench) -> dict[str, Any]:
    """The 99th percentile at half of the maximal load, without labels and while the learner is kept busy."""
    with bench.serving() as ours:
        url = f"{ours.url}/predict"
        full = [
            load(url, bench.bodies, seconds=bench.seconds, connections=CONNECTIONS)
            for _ in range(bench.rounds)
        ]
        most = statistics.median(got.rate for got in full)
        rounds: dict[str, list[Load]] = {"idle": [], "learning": []}
        for _ in range(PAIRS * bench.rounds):
            rounds["idle"].append(at_half(url, bench, most))
            with teaching(ours.url, bench):
                rounds["learning"].append(at_half(url, bench, most))
            until(lambda: waiting(ours.url) == 0, "the learner to be done", 600)
    p99 = {name: statistics.median(got.p99_ms for got in loads) for name, loads in rounds.items()}
    rates = {name: statistics.median(got.rate for got in loads) for name, loads in rounds.items()}
    return {
        "maximal_rate": most,
        "p99_ms": p99,
        "rate": rates,
        "ratio": p99["learning"] / p99["idle"],
        "pairs": PAIRS * bench.rounds,
    }


def at_half(url: str, bench: Bench, most: float) -> Load:
    """Ask at half of a rate."""
    return load(url, bench.bodies, seconds=bench.seconds, connections=2 * CONNECTIONS, rate=most / 2)


@contextlib.contextmanager
def teaching(url: str, bench: Bench) -> Iterator[None]:
    """Keep the learner busy meanwhile with labels of predictions that were made before."""
    stop, behind = threading.Event(), threading.Event()
    late = iter(labels_to_come(url, bench, int(LABEL_RATE * (bench.seconds + 1))))

    def teach() -> None:
        learn, predict, sent = asker(url, "/learn"), asker(url, "/predict"), 0
        while not stop.is_set():
            if sent - predict(bench.bodies[0])["learned_seq"] >= WAITING:
                time.sleep(0.01)
                continue
            sent = learn(next(late))["seq"]
            behind.set()

    with ThreadPoolExecutor(TEACHERS) as teachers:
        running = [teachers.submit(teach) for _ in range(TEACHERS)]
        try:
            behind.wait(60)
            yield
        finally:
            stop.set()
    for teacher in running:
        teacher.result()


def labels_to_come(url: str, bench: Bench, count: int) -> list[bytes]:
    """So many labels of predictions made now, as bodies of ``TAUGHT`` each."""
    predict = asker(url, "/predict")
    return [labelled(predict, bench, first, TAUGHT) for first in range(0, count, TAUGHT)]


def labelled(predict: Callable[[bytes], dict[str, Any]], bench: Bench, first: int, count: int) -> bytes:
    """Have rows predicted; the body with their labels, by the predictions' ids."""
    start = first % len(bench.rows)
    rows, labels = bench.rows[start : start + count], bench.labels[start : start + count]
    ids = predict(msgspec.json.encode(rows))["ids"]
    return msgspec.json.encode([{"id": name, TARGET: y} for name, y in zip(ids, labels, strict=True)])


def batch(bench: Bench) -> dict[str, Any]:
    """A thousand rows a request, as JSON and as MessagePack."""
    rows = bench.rows[:1000]
    bodies = {"json": msgspec.json.encode(rows), "msgpack": msgspec.msgpack.encode(rows)}
    rates: dict[str, list[float]] = {media: [] for media in bodies}
    with bench.serving() as ours:
        for _ in range(bench.rounds):
            for media, body in bodies.items():
                got = load(
                    f"{ours.url}/predict",
                    [body],
                    seconds=bench.seconds,
                    connections=BATCHES,
                    media=f"application/{media}",
                )
                rates[media].append(len(rows) * got.rate)
                console.print(f"batch: {rates[media][-1]:,.0f} rows/s as {media}, {got.failed} failed")
    return {"rows_per_second": {media: statistics.median(rounds) for media, rounds in rates.items()}}


def repeated(call: Callable[[], Any], seconds: float) -> float:
    """How often a second something can be done."""
    call()
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - begun)


def plan(bench: Bench) -> dict[str, Any]:
    """``plan.score`` alone on a matrix of encoded rows."""
    scored = ScoringPlan.load(bench.home.plan)
    encoded = [scored.encoder.encode(row).values for row in bench.rows[:1000]]
    matrix = np.array([values + scored.context(values) for values in encoded])
    rates = [len(matrix) * repeated(lambda: scored.score(matrix), 1) for _ in range(bench.rounds)]
    console.print(f"plan: {statistics.median(rates):,.0f} rows/s")
    return {"rows_per_second": statistics.median(rates), "experts": len(scored.info.experts)}


def stages(bench: Bench) -> dict[str, Any]:
    """Processor microseconds a row of what a request goes through."""
    from scripts.bench.speed_stages import measure

    return measure(bench.home, bench.bodies)


def fresh(bench: Bench) -> dict[str, Any]:
    """From 202 to being in served predictions, at 200 labels a second."""
    with bench.serving() as ours:
        sent: list[tuple[int, float]] = []
        seen: list[tuple[int, float]] = []
        stop = threading.Event()

        def look() -> None:
            ask = asker(ours.url, "/predict")
            while not stop.is_set():
                seen.append((ask(bench.bodies[0])["learned_seq"], time.perf_counter()))
                time.sleep(0.004)

        def send(first: int) -> None:
            ask = asker(ours.url, "/learn")
            for row_index in range(first, int(200 * max(5.0, bench.seconds)), SENDERS):
                time.sleep(max(0.0, begun + row_index / 200 - time.perf_counter()))
                row = {**bench.rows[row_index % 5000], TARGET: bench.labels[row_index % 5000]}
                sent.append((ask(msgspec.json.encode(row))["seq"], time.perf_counter()))

        eye, begun = threading.Thread(target=look), time.perf_counter()
        eye.start()
        with ThreadPoolExecutor(SENDERS) as senders:
            list(senders.map(send, range(SENDERS)))
        until(lambda: seen[-1][0] >= max(seq for seq, _ in sent), "the last label")
        stop.set()
        eye.join()
    waits = [next(seen_at for learned, seen_at in seen if learned >= seq) - sent_at for seq, sent_at in sent]
    waits = [max(0.0, wait) * 1000 for wait in waits]
    rate = len(sent) / (sent[-1][1] - sent[0][1])
    p50, p99 = float(np.percentile(waits, 50)), float(np.percentile(waits, 99))
    console.print(f"fresh: median {p50:.0f} ms, p99 {p99:.0f} ms at {rate:.0f} labels/s")
    return {"median_ms": p50, "p99_ms": p99, "labels_per_second": rate}


def asker(url: str, path: str) -> Callable[[bytes], dict[str, Any]]:
    """What posts JSON to a path over a connection of its own and gives the answer, with little work."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)

    def ask(body: bytes) -> dict[str, Any]:
        connection.request("POST", path, body, JSON_HEADERS)
        answer: dict[str, Any] = msgspec.json.decode(connection.getresponse().read())
        return answer

    return ask


def learn(bench: Bench) -> dict[str, Any]:
    """Labels accepted durably a second, at 32 connections: alone, and a hundred a request."""
    full = [{**row, TARGET: label} for row, label in zip(bench.rows, bench.labels, strict=True)]
    figures = {}
    for name, size in (("single", 1), ("batches of 100", 100)):
        bodies = [
            msgspec.json.encode(full[start : start + size] if size > 1 else full[start])
            for start in range(100)
        ]
        rates = []
        for _ in range(bench.rounds):
            with bench.serving() as ours:
                got = load(f"{ours.url}/learn", bodies, seconds=bench.seconds, connections=CONNECTIONS)
                rates.append(got.rate * size)
                console.print(f"learn: {got.rate * size:,.0f} labels/s, {name}, {got.failed} failed")
        figures[name] = statistics.median(rates)
    return {"labels_per_second": figures}


def label(bench: Bench) -> dict[str, Any]:
    """What a label of a served prediction takes of the learner, in microseconds by stage, while more wait.

    Without the refresh, which has a process of its own.
    """
    rounds: list[dict[str, float]] = []
    with (
        bench.serving(MILLRACE_REFRESH_EVERY_LABELS="0") as ours,
        httpx.Client(base_url=ours.url, timeout=60) as client,
    ):
        predict = asker(ours.url, "/predict")
        for number in range(bench.rounds + 1):
            before = learner_seconds(client)
            body = labelled(predict, bench, number * WAITING_LABELS, WAITING_LABELS)
            client.post("/learn", content=body, headers=JSON_HEADERS).raise_for_status()
            until(lambda: waiting(ours.url) == 0, "the labels to be learned", 600)
            after = learner_seconds(client)
            rounds.append({stage: (after[stage] - before[stage]) / WAITING_LABELS * 1e6 for stage in after})
            console.print(
                f"label: {rounds[-1]['learn']:.0f} µs to learn, {sum(rounds[-1].values()):.0f} in all"
            )
    settled = rounds[1:]  # the first meets kernels and trees for the first time
    stages = {stage: statistics.median(spent[stage] for spent in settled) for stage in settled[0]}
    return {"microseconds": stages, "in_all": statistics.median(sum(spent.values()) for spent in settled)}


def learner_seconds(client: httpx.Client) -> dict[str, float]:
    """Seconds that the learner has spent by stage, in words it gave after now."""
    now = time.time()
    until(lambda: client.get("/model").json()["learner"]["updated_at"] > now, "the learner's next words")
    spent: dict[str, float] = client.get("/model").json()["busy_seconds"]
    return spent


def start(bench: Bench) -> dict[str, Any]:
    """From the command to ready, caches warm; memory of the parts right after."""
    seconds: dict[str, list[float]] = {"ready": [], "learning": []}
    memory = {}
    for _ in range(bench.rounds):
        with bench.serving() as ours:
            seconds["learning"].append(ours.learning_seconds)
            seconds["ready"].append(ours.ready_seconds)
            memory = {
                role: resident_mb(ours.pids(role)[0])
                for role in ("scorer", "label-worker", "learner", "monitor")
            }
        console.print(f"start: ready {seconds['ready'][-1]:.2f} s, learning {seconds['learning'][-1]:.2f} s")
    return {"seconds": {what: statistics.median(all_) for what, all_ in seconds.items()}} | {
        "resident_mb": memory
    }


def monitor(bench: Bench) -> dict[str, Any]:
    """What a browser on the monitor's page takes of the scorer's processor, in hundredths of a core.

    Requests a second differ by more than that from round to round, processor time does not.
    """
    browser = shutil.which("chromium")
    if browser is None:
        return {"left_out": "there is no chromium here"}
    shares: dict[str, list[float]] = {"closed": [], "open": []}
    with bench.serving() as ours, httpx.Client(base_url=ours.url, timeout=60) as client:
        for start in range(0, 3000, 100):
            ids = client.post("/predict", json=bench.rows[start : start + 100]).json()["ids"]
            pairs = zip(ids, bench.labels[start : start + 100], strict=True)
            client.post("/learn", json=[{"id": name, TARGET: label} for name, label in pairs])
        until(lambda: waiting(ours.url) == 0, "the labels to be learned", 600)
        (scorer,) = ours.pids("scorer")
        for _ in range(bench.rounds):
            shares["closed"].append(share_of_core(scorer, 2 * bench.seconds))
            with looking(browser, ours.monitor_url):
                time.sleep(8)  # the page is loaded
                shares["open"].append(share_of_core(scorer, 2 * bench.seconds))
            console.print(f"monitor: {shares['closed'][-1]:.2f} % closed, {shares['open'][-1]:.2f} % open")
    medians = {name: statistics.median(rounds) for name, rounds in shares.items()}
    return medians | {"cost": medians["open"] - medians["closed"]}


@contextlib.contextmanager
def looking(browser: str, url: str) -> Iterator[None]:
    """A browser on a page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        process = subprocess.Popen(  # noqa: S603 - the browser found
            [browser, *options, f"--user-data-dir={folder}", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def share_of_core(pid: int, seconds: float) -> float:
    """How much of a core a process takes for a while, in percent."""
    before, begun = cpu_seconds(pid), time.perf_counter()
    time.sleep(seconds)
    return 100 * (cpu_seconds(pid) - before) / (time.perf_counter() - begun)


def counter(url: str, name: str) -> float:
    """One of Millrace's counters."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def waiting(url: str) -> int:
    """Labels that are not learned yet."""
    return int(httpx.get(f"{url}/model", timeout=60).json()["labels_waiting"])


MEASUREMENTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "single": single,
    "learning": learning,
    "batch": batch,
    "plan": plan,
    "stages": stages,
    "fresh": fresh,
    "learn": learn,
    "label": label,
    "start": start,
    "monitor": monitor,
}


def keep(part: str, figures: dict[str, Any], bench: Bench) -> None:
    """Write a part's figures down, and the section anew."""
    everything: dict[str, Any] = json.loads(SPEED_FIGURES.read_text()) if SPEED_FIGURES.exists() else {}
    how = {"rounds": bench.rounds, "seconds": bench.seconds, "cores": os.cpu_count()}
    versions = {"python": platform.python_version()}
    everything[part] = figures | {"how": how | versions}
    SPEED_FIGURES.write_text(json.dumps(everything, indent=1) + "\n")
    replace_section("speed", section(everything))


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
@click.option("--rounds", default=5, show_default=True, help="Rounds of which medians are given.")
@click.option("--seconds", default=4.0, show_default=True, help="How long a side is asked in a round.")
@home_option(default="artifacts/speed")
@click.option("--bootstrap-rows", default=20_000, show_default=True, help="Rows its model is trained on.")
@click.option(
    "--fastapi-python", envvar="FASTAPI_PYTHON", help="A Python with fastapi, river and uvicorn[standard]."
)
@click.option("--dry", is_flag=True, help="Show the figures, write nothing.")
def main(  # noqa: PLR0913 - one argument an option
    parts: tuple[str, ...],
    rounds: int,
    seconds: float,
    home: Home,
    bootstrap_rows: int,
    fastapi_python: str | None,
    dry: bool,
) -> None:
    """Measure PARTS, by default all."""
    home = make_home(home.root.resolve(), bootstrap_rows)
    configuration.load(home.config)
    bench = Bench(home, rounds, seconds, fastapi_python)
    for part in parts or MEASUREMENTS:
        figures = MEASUREMENTS[part](bench)
        if dry:
            console.print_json(data={part: figures})
        else:
            keep(part, figures, bench)


if __name__ == "__main__":
    main()
