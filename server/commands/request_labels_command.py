"""``millrace request-labels``: ask a label endpoint for the labels that would help most.

millrace request-labels --endpoint http://127.0.0.1:9009/labels
millrace request-labels --endpoint ... --budget 100 --watch 60     again every minute
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click
import httpx
from rich.console import Console
from rich.table import Table

from bootstrap.home_option import home_option
from bootstrap.sources.label_endpoint import LabelEndpoint
from online.core.config import load
from online.core.errors import InputError
from online.core.home import Home
from server.commands.label_requests import LabelRequests, RequestRound, checked_reply
from server.commands.server_url import server_url

__all__ = ["request_labels"]

LEARN_SECONDS = 90.0  # of the server: a teaching request waits until its labels are learned


def shown(done: RequestRound, before: Any, after: Any) -> Table:
    """What a round changed, for people."""
    table = Table(
        title=f"{done.asked:,} labels asked for, {done.labelled:,} came, {done.empty:,} are not there"
    )
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="right" if heading else "left")
    if done.errors:
        was, now = sum(done.errors) / len(done.errors), sum(done.again) / len(done.again)
        table.add_row("mean absolute error on the rows labelled", f"{was:,.5g}", f"{now:,.5g}")
    errors = [report["prequential"].get("mae") for report in (before, after)]
    table.add_row("the same of the last 1,000 labelled as served", *(figure(error) for error in errors))
    table.add_row("labels learned", *(f"{report['labels']['learned']:,}" for report in (before, after)))
    for reason, count in done.reasons.most_common(6):
        table.add_row(f"asked for: {reason}", "", f"{count:,}")
    return table


def figure(value: float | None) -> str:
    """A number that may not be there."""
    return "-" if value is None else f"{value:,.5g}"


def pairs(given: tuple[str, ...], what: str) -> Iterator[tuple[str, str]]:
    """``NAME=VALUE`` options taken apart."""
    for option in given:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise InputError(f"--{what} {option}: give it as NAME=VALUE", field=what)
        yield name, value


@click.command("request-labels")
@home_option()
@click.option("--url", help="The server; by default the one running in the home.")
@click.option("--endpoint", required=True, help="Where rows are posted for their labels.")
@click.option(
    "--budget", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Rows a round."
)
@click.option(
    "--random", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Share drawn at random."
)
@click.option(
    "--batch", type=click.IntRange(1), default=1000, show_default=True, help="Rows posted at once, at first."
)
@click.option("--field", help="The label's name in the answer; the target's by default.")
@click.option("--reply", default="", help="Where the answer's array stands, as data.rows.")
@click.option(
    "--name", "names", multiple=True, metavar="FEATURE=NAME", help="What a feature is called there."
)
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Sent to the endpoint.")
@click.option("--watch", type=click.FloatRange(min=0.1), help="Go on, a round every so many seconds.")
def request_labels(  # noqa: PLR0913 - one argument an option
    home: Home,
    url: str | None,
    endpoint: str,
    budget: int,
    random: float,
    batch: int,
    field: str | None,
    reply: str,
    names: tuple[str, ...],
    headers: tuple[str, ...],
    watch: float | None,
) -> None:
    """Ask an endpoint for the labels that would help most, and have the server learn them.

    Each round takes the server's wanted rows, posts their features to the endpoint, appends what comes to
    data/labeled_drift.csv, and teaches it by id. A round that is broken off goes on where it stopped. A row
    without a label there is asked for again in later rounds, a few times.
    """
    console, home = Console(), Home(home.root.resolve())
    schema = load(home.config).schema
    labels = LabelEndpoint(
        endpoint,
        field or schema.target.name,
        path=reply,
        names=dict(pairs(names, "name")),
        batch=batch,
        headers=dict(pairs(headers, "header")),
    )
    with httpx.Client(base_url=server_url(home, url), timeout=LEARN_SECONDS) as server:
        requests = LabelRequests(home, schema, server, labels)
        while True:
            try:
                console.print(one_round(requests, server, budget, random))
            except (InputError, httpx.HTTPError) as exc:
                if watch is None:
                    raise InputError(str(exc)) from exc
                console.print(f"[red]{exc}[/]")  # and left for the next round
            if watch is None:
                return
            time.sleep(watch)


def one_round(requests: LabelRequests, server: httpx.Client, budget: int, random: float) -> Table:
    """Ask for labels once; what that changed, as a table."""
    before = checked_reply(server.get("/model"))
    done = requests.round(budget, random)
    return shown(done, before, checked_reply(server.get("/model")))
