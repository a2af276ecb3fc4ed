"""How often Python looks for reference cycles, in processes that make many objects and few cycles."""

from __future__ import annotations

import gc

__all__ = ["tune_gc"]

# Python's defaults are 700, 10 and 10: at thousands of rows a second the youngest generation would be
# collected many times a second, and each full collection would be a pause that some reply waits for.
THRESHOLDS = 50_000, 20, 20  # objects; collections of the generation before


def tune_gc() -> None:
    """Collect the garbage there is, keep what is left out of later collections, and collect rarely.

    Called once a process, after its imports: modules, kernels and models stay until the process ends, and
    going through them again would only take time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
