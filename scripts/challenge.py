"""All phases of the challenge against a data-and-label endpoint, in one command.

    python -m scripts.challenge --home race --endpoint http://127.0.0.1:9009 \\
        --traffic "python arena.py play --url {url} --no-labels --rows 6000"

Fetches the training rows, splits, trains, serves, lets the traffic through, asks for the labels of a share
of the rows as they go by, has them learned, takes a new model version, and reports. ``{url}`` is the address
of a gate before the server: after every so many predictions it holds the traffic up for a round of label
requests, so that labels come as they do in days that are not played in a minute. A home that has a model
goes on from there.
"""

from __future__ import annotations

import http.server
import json
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console
from rich.table import Table

from bootstrap.home_option import home_option
from bootstrap.sources.label_endpoint import LabelEndpoint
from online.core.config import load
from online.core.errors import InputError, MillraceError
from online.core.home import Home
from server.commands.label_requests import LabelRequests
from server.commands.launch import launched

MILLRACE_COMMAND = (sys.executable, "-m", "millrace")


class Gate:
    """Passes requests on, and stops after every so many predictions for something else.

    Parameters
    ----------
    client
        Of the server.
    every
        Rows between two stops.
    stop
        What is done then, with the number of rows since the last time.
    """

    def __init__(self, client: httpx.Client, every: int, stop: Any) -> None:
        self._client = client
        self._every = every
        self._stop = stop
        self._since = 0
        self._lock = threading.Lock()
        gate = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                kind = self.headers.get("Content-Type", "application/json")
                answer = gate.passed(self.path, body, kind)
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers.get("content-type", "application/json"))
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def passed(self, path: str, body: bytes, kind: str) -> httpx.Response:
        """The server's answer, after a stop when one is due."""
        answer = self._client.post(path, content=body, headers={"content-type": kind})
        if answer.is_success and path.startswith("/predict"):
            with self._lock:
                self._since += len(answer.json().get("ids", (1,)))
                if self._since >= self._every:
                    self._stop(self._since)
                    self._since = 0
        return answer


def prepare(home: Home, endpoint: str, target: str) -> None:
    """Fetch, split and train where there is no model yet."""
    if list(home.models.glob("model_v*.json")):
        return
    if not (home.data / "raw.csv").exists():
        command("bootstrap", "fetch", "--home", str(home.root), "--url", f"{endpoint}/data")
    command("bootstrap", "--home", str(home.root), "--target", target)


def command(*arguments: str) -> None:
    """A millrace command. Raises InputError when it fails."""
    done = subprocess.run([*MILLRACE_COMMAND, *arguments], check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise InputError(f"millrace {' '.join(arguments)} failed")


def play(traffic: str, url: str) -> Any:
    """Run the traffic; what it printed, as JSON where it is. Raises InputError when it fails."""
    words = [word.replace("{url}", url) for word in shlex.split(traffic)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603 - as told
    if done.returncode:
        raise InputError(f"the traffic failed: {done.stderr[-500:]}")
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"output": done.stdout[-2000:]}


def report(client: httpx.Client, labels: int, played: Any) -> dict[str, Any]:
    """Take a new version, and say what it all came to."""
    taken = client.post("/snapshots").json()
    state = client.get("/model").json()
    alarms = client.get("/alarms").json()["alarms"]
    return {
        "played": played,
        "labels_learned": labels,
        "model_version": taken.get("version"),
        "prequential": state["prequential"],
        "alarms": [
            {k: alarm[k] for k in ("message", "since_row", "also", "cost", "muted")} for alarm in alarms
        ],
    }


def shown(outcome: dict[str, Any]) -> Table:
    """The report for people."""
    table = Table(title=f"the challenge: model_v{outcome['model_version']} at its end", show_header=False)
    for name, value in outcome["played"].items():
        table.add_row(name, str(value))
    table.add_row("labels learned", f"{outcome['labels_learned']:,}")
    for alarm in outcome["alarms"]:
        table.add_row(f"alarm at row {alarm['since_row']}", alarm["message"])
    return table


@click.command(help=__doc__)
@home_option(default=None)
@click.option("--endpoint", required=True, help="Answers GET /data and POST /labels.")
@click.option("--target", default="Production", show_default=True, help="The column to predict.")
@click.option("--traffic", required=True, help="Command that sends the rows to {url}.")
@click.option(
    "--share", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Rows to have labelled."
)
@click.option(
    "--random", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Of these, at random."
)
@click.option(
    "--every", type=click.IntRange(1), default=240, show_default=True, help="Rows between label requests."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the report goes as JSON.")
def main(  # noqa: PLR0913 - one argument an option
    home: Home,
    endpoint: str,
    target: str,
    traffic: str,
    share: float,
    random: float,
    every: int,
    out: Path | None,
) -> None:
    """Run all phases."""
    home, console = Home(home.root.resolve()).create(), Console()
    try:
        prepare(home, endpoint.rstrip("/"), target)
        with launched(home.root) as server, httpx.Client(base_url=server.url, timeout=120.0) as client:
            requests = LabelRequests(
                home,
                load(home.config).schema,
                client,
                LabelEndpoint(f"{endpoint.rstrip('/')}/labels", target),
            )
            learned: list[int] = []

            def stop(rows: int) -> None:
                if share > 0:
                    learned.append(requests.round(max(1, round(share * rows)), random).labelled)

            gate = Gate(client, every, stop)
            threading.Thread(target=gate.server.serve_forever, daemon=True).start()
            played = play(traffic, gate.url)
            outcome = report(client, sum(learned), played)
        console.print(shown(outcome))
        if out is not None:
            out.write_text(json.dumps(outcome, indent=1) + "\n")
    except (MillraceError, httpx.HTTPError) as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
