"""Processes of this machine, as Linux tells of them in ``/proc``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["cpu_seconds", "descendants", "of_role", "resident_mb"]


def of_role(pid: int, role: str) -> list[int]:
    """The processes of a role in a running server.

    Parameters
    ----------
    pid
        The server's supervisor.
    role
        As ``millrace child`` is given it: learner, scorer, label-worker, watcher or monitor.

    Returns
    -------
    list of int
        Their process ids; none when the server is gone.
    """
    return [child for child in descendants(pid) if f"child\0{role}\0" in command_line(child)]


def descendants(pid: int) -> list[int]:
    """A process' children, and theirs; none when it is gone."""
    children: list[int] = []
    with contextlib.suppress(OSError):  # it may end while it is looked at
        for task in Path(f"/proc/{pid}/task").iterdir():  # children belong to the thread that started them
            for child in map(int, (task / "children").read_text().split()):
                children += [child, *descendants(child)]
    return children


def command_line(pid: int) -> str:
    """A process' command line, its arguments separated by NUL; empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def cpu_seconds(pid: int) -> float:
    """Processor time a process has taken, all its threads together."""
    # the command's name stands in brackets and may hold spaces: fields are counted from behind it
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Memory a process holds, in millions of bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
