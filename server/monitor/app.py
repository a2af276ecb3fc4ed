"""The monitor: a Dash page that shows what one Millrace server serves and learns."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
from dash import Dash, Input, Output, Patch, State, no_update

from server.monitor import figures, layout, words
from server.monitor.client import Alarms, Reader, Reading, Snapshots, open_client

__all__ = ["build_app"]

# A page whose last answers are missing says that it has lost the monitor.
MISSED_TICKS = 6

# The theme is the browser's; the page is lost when the server's answers stay away.
IN_BROWSER = """function (tick, answered, theme, lost) {
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const words = (tick || 0) - (answered || 0) > %d
    ? "The monitor does not answer: this page stands still until it is back." : "";
  const same = window.dash_clientside.no_update;
  return [dark === theme ? same : dark, words === (lost || "") ? same : words];
}"""

OUTPUTS = {
    "stream": "children",
    "notices": "children",
    "status": "children",
    "rolling": "figure",
    "recent": "figure",
    "lag": "figure",
    "versions": "children",
    "alarms": "children",
}


class Part(NamedTuple):
    """One piece of the page: what it is made of, and how."""

    source: Any
    build: Callable[[], Any]


def build_app(
    api_url: str,
    *,
    refresh_seconds: float = 1.5,
    http: httpx.Client | None = None,
    clock: Callable[[], float] = time.time,
) -> Dash:
    """The monitor's page, reading the API at ``api_url`` every ``refresh_seconds`` while it is open.

    ``http`` replaces the client (its base address is then the API's); ``clock`` tells unix seconds.
    """
    reader = Reader(http or open_client(api_url), max_age=refresh_seconds / 2)
    app = Dash(
        "server.monitor",
        title="Millrace monitor",
        update_title="",
        assets_folder=str(Path(__file__).with_name("assets")),
        serve_locally=True,
        index_string=layout.INDEX,
        health_endpoint="health/live",
        enable_mcp=False,
        add_log_handler=False,
    )
    app.layout = layout.page(refresh_seconds)
    connect(app, reader, clock)
    return app


def connect(app: Any, reader: Reader, clock: Callable[[], float]) -> None:
    """Tie the page's clock to its parts."""
    app.clientside_callback(
        IN_BROWSER % MISSED_TICKS,
        [Output("theme", "data"), Output("lost", "children")],
        Input("tick", "n_intervals"),
        [State("answered", "data"), State("theme", "data"), State("lost", "children")],
    )

    def refresh(tick: int | None, theme: str | None, shown: dict[str, str] | None) -> dict[str, Any]:
        changed, digests = update(parts(reader.read(), theme or "light", clock()), shown or {})
        return {**changed, "shown": digests if changed else no_update, "answered": tick or 0}

    outputs = {name: Output(name, member) for name, member in OUTPUTS.items()}
    outputs |= {name: Output(name, "data") for name in ("shown", "answered")}
    inputs = [Input("tick", "n_intervals"), Input("theme", "data"), State("shown", "data")]
    app.callback(output=outputs, inputs=inputs)(fill(refresh))


def fill(refresh: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Let a callback name only the outputs it changes."""

    def filled(*arguments: Any) -> dict[str, Any]:
        return dict.fromkeys(OUTPUTS, no_update) | refresh(*arguments)

    return filled


def update(parts: dict[str, Part], shown: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What changed since the page last drew it, and digests of all it then shows."""
    digests = {**shown, **{name: digest(part.source) for name, part in parts.items()}}
    changed = {name: part.build() for name, part in parts.items() if digests[name] != shown.get(name)}
    for name, figure in changed.items():
        if OUTPUTS[name] == "figure":
            changed[name] = in_place(f"{name} layout", figure, shown, digests)
    return changed, digests


def in_place(name: str, figure: Any, shown: dict[str, str], digests: dict[str, str]) -> Any:
    """A chart's new lines alone while the rest of it stands; its layout's digest is noted.

    The page then keeps what people did to the chart. (Plotly's uirevision is not enough: from Dash 4.4 on a
    graph writes a zoom into its figure, so a whole new figure undoes it.)
    """
    digests[name] = digest(figure.layout.to_plotly_json())
    if digests[name] != shown.get(name):
        return figure
    patch = Patch()
    patch["data"] = figure.to_plotly_json()["data"]
    return patch


def digest(source: Any) -> str:
    """A short fingerprint of what a part is made of."""
    return hashlib.blake2b(msgspec.json.encode(source), digest_size=8).hexdigest()


def parts(reading: Reading, theme: str, now: float) -> dict[str, Part]:
    """The parts there is something to say on; the others stay as they are."""
    found: dict[str, Part] = {}
    notices = words.notices(reading, now)
    found["notices"] = Part(notices, lambda: layout.notice_list(notices))
    if reading.model is not None:
        facts, named = words.facts(reading, now), f"{reading.model.stream} → {reading.model.target}"
        found["status"] = Part(facts, lambda: layout.status_line(facts))
        found["stream"] = Part(named, lambda: named.strip(" →"))
    if (versions := reading.snapshots) is not None:
        found["versions"] = Part(versions, lambda: layout.versions_table(versions))
    if (alarms := reading.alarms) is not None:
        found["alarms"] = Part(alarms, lambda: layout.alarms_table(alarms))
    return found | chart_parts(reading, theme)


def chart_parts(reading: Reading, theme: str) -> dict[str, Part]:
    """The charts there is data for."""
    palette = figures.PALETTES.get(theme, figures.LIGHT)
    alarms, snapshots = (reading.alarms or Alarms()).alarms, (reading.snapshots or Snapshots()).snapshots
    target = reading.model.target if reading.model else ""
    found: dict[str, Part] = {}
    if (history := reading.history) is not None:
        found["rolling"] = Part(
            (theme, history, alarms, snapshots),
            lambda: figures.rolling_error(history, alarms, snapshots, palette),
        )
        found["lag"] = Part(
            (theme, history.seq, history.delay_seconds), lambda: figures.label_lag(history, palette)
        )
    if (recent := reading.recent) is not None:
        found["recent"] = Part((theme, target, recent), lambda: figures.recent_truth(recent, target, palette))
    return found
