"""How often Python looks for cycles, in processes that make many objects and few cycles."""

from __future__ import annotations

import gc

__all__ = ["rarely_collect_garbage"]

GARBAGE = 50_000, 20, 20  # objects, and collections of younger ones, before garbage is collected


def rarely_collect_garbage() -> None:
    """Let many objects be made before cycles are looked for, and never look among those there are now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
