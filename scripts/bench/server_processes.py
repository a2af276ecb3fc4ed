"""The processes of a running server, as Linux tells of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["command", "descendants", "of_role"]


def of_role(pid: int, role: str) -> list[int]:
    """The processes of a role in a server, by its supervisor's process."""
    return [child for child in descendants(pid) if f"child\0{role}\0" in command(child)]


def descendants(pid: int) -> list[int]:
    """A process' children, and theirs; none when it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def command(pid: int) -> str:
    """A process' command line, its arguments separated by NUL; empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""
