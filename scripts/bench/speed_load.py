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
DELAY = "function delay() return math.random(0, {most}) end"
REPLY = re.compile(rb"HTTP/1\.1 (\d+).*?content-length: (\d+)\r\n.*?\r\n\r\n", re.DOTALL | re.IGNORECASE)


class Load(NamedTuple):
    """What a server answered: requests a second, milliseconds, how many failed, and who measured."""

    rate: float
    median_ms: float
    p99_ms: float
    failed: int
    client: str


def load(
    url: str, bodies: list[bytes], *, seconds: float, connections: int, rate: float | None = None,
    media: str = "application/json",
) -> Load:  # fmt: skip
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
    """
    pause = connections / rate if rate else 0.0
    if shutil.which("wrk"):
        return by_wrk(url, bodies, seconds, connections, pause, media)
    return asyncio.run(by_asyncio(url, bodies, seconds, connections, pause, media))


def by_wrk(url: str, bodies: list[bytes], seconds: float, connections: int, pause: float, media: str) -> Load:
    """Have wrk do it, on one thread."""
    quoted = ", ".join('"' + "".join(map("\\{:03d}".format, body)) + '"' for body in bodies)
    delay = DELAY.format(most=round(2000 * pause)) if pause else ""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(SCRIPT.format(bodies=quoted, media=media, delay=delay))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script), url]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    figures = output.split("FIGURES ")[1].split()
    requests, microseconds, failed, median, p99 = map(int, figures[:5])
    return Load(requests / microseconds * 1e6, median / 1e3, p99 / 1e3, failed, "wrk")


async def by_asyncio(
    url: str, bodies: list[bytes], seconds: float, connections: int, pause: float, media: str
) -> Load:
    """Do it here: slower than wrk, and in the way of the server on a small machine."""
    place = urlsplit(url)
    path = place.path + (f"?{place.query}" if place.query else "")
    head = f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: {media}\r\nContent-Length: "
    sent = [head.encode() + b"%d\r\n\r\n" % len(body) + body for body in bodies]
    took: list[float] = []
    failed = 0

    async def client(first: int, until: float) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        at = first
        while (began := time.perf_counter()) < until:
            writer.write(sent[at % len(sent)])
            failed += not await answered(reader)
            took.append(time.perf_counter() - began)
            at += 1
            if pause:
                await asyncio.sleep(random.uniform(0, 2 * pause))  # noqa: S311
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client(first, begun + seconds) for first in range(connections)))
    spent = time.perf_counter() - begun
    p99 = statistics.quantiles(took, n=100)[98]
    return Load(len(took) / spent, statistics.median(took) * 1e3, p99 * 1e3, failed, "asyncio")


async def answered(reader: asyncio.StreamReader) -> bool:
    """Read one reply; whether it was a good one."""
    head = await reader.readuntil(b"\r\n\r\n")
    found = REPLY.match(head)
    if found is None:
        raise ValueError(f"no reply with a length: {head[:200]!r}")
    await reader.readexactly(int(found[2]))
    return found[1].startswith(b"2")
