"""Load for a server: wrk where it is installed, a bundled client on asyncio otherwise."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["Load", "load"]

SCRIPT = """
local bodies = {{{bodies}}}
local at = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "{media}"
function request()
  at = at % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[at])
end
{delay}
function done(summary, latency, requests)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
  io.write(string.format("FIGURES %d %d %d %d %d\\n", summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99)))
end
"""
LUA_DELAY = "function delay() return math.random(0, {most}) end"
HTTP_REPLY = re.compile(rb"HTTP/1\.1 (\d+).*?content-length: (\d+)\r\n.*?\r\n\r\n", re.DOTALL | re.IGNORECASE)


class Load(NamedTuple):
    """What a server answered: requests a second, milliseconds, how many failed, and who measured."""

    rate: float
    median_ms: float
    p99_ms: float
    failed: int
    client: str


class Task(NamedTuple):
    """What a client does: POST bodies in turn, for some seconds, with a pause before each next one."""

    url: str
    bodies: list[bytes]
    seconds: float
    connections: int
    pause: float
    media: str


def load(  # noqa: PLR0913 - keywords name them
    url: str,
    bodies: list[bytes],
    *,
    seconds: float,
    connections: int,
    rate: float | None = None,
    media: str = "application/json",
) -> Load:
    """Ask a server for some seconds over so many connections.

    Parameters
    ----------
    url
        Where to POST.
    bodies
        What is sent, in turn.
    seconds, connections
        For how long, and how many at once.
    rate
        Requests a second to keep to, at random times; as many as are answered by default.
    media
        The bodies' content type.

    Returns
    -------
    Load
        The rate and the latencies.
    """
    pause = connections / rate if rate else 0.0
    task = Task(url, bodies, seconds, connections, pause, media)
    return by_wrk(task) if shutil.which("wrk") else asyncio.run(by_asyncio(task))


def by_wrk(task: Task) -> Load:
    """Have wrk do it, on one thread."""
    quoted = ", ".join('"' + "".join(map("\\{:03d}".format, body)) + '"' for body in task.bodies)
    delay = LUA_DELAY.format(most=round(2000 * task.pause)) if task.pause else ""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(SCRIPT.format(bodies=quoted, media=task.media, delay=delay))
        command = ["wrk", "-t1", f"-c{task.connections}", f"-d{task.seconds:g}s", "-s", str(script), task.url]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    figures = output.split("FIGURES ")[1].split()
    requests, microseconds, failed, median, p99 = map(int, figures[:5])
    return Load(requests / microseconds * 1e6, median / 1e3, p99 / 1e3, failed, "wrk")


async def by_asyncio(task: Task) -> Load:
    """Do it here: slower than wrk, and in the way of the server on a small machine."""
    address = urlsplit(task.url)
    path = address.path + (f"?{address.query}" if address.query else "")
    head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {task.media}\r\nContent-Length: "
    sent = [head.encode() + b"%d\r\n\r\n" % len(body) + body for body in task.bodies]
    took: list[float] = []
    failed = 0

    async def client(first: int, until: float) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        body_index = first
        while (began := time.perf_counter()) < until:
            writer.write(sent[body_index % len(sent)])
            failed += not await answered(reader)
            took.append(time.perf_counter() - began)
            body_index += 1
            if task.pause:
                await asyncio.sleep(random.uniform(0, 2 * task.pause))  # noqa: S311
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client(first, begun + task.seconds) for first in range(task.connections)))
    spent = time.perf_counter() - begun
    p99 = statistics.quantiles(took, n=100)[98]
    return Load(len(took) / spent, statistics.median(took) * 1e3, p99 * 1e3, failed, "asyncio")


async def answered(reader: asyncio.StreamReader) -> bool:
    """Read one reply; whether it was a good one."""
    head = await reader.readuntil(b"\r\n\r\n")
    match = HTTP_REPLY.match(head)
    if match is None:
        raise ValueError(f"no reply with a length: {head[:200]!r}")
    await reader.readexactly(int(match[2]))
    return match[1].startswith(b"2")
