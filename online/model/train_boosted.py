"""Training the batch expert: LightGBM's gradient boosting (Ke et al. 2017), on rows as they were served."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from online.core.errors import MissingLibraryError
from online.model.experts.boosted import TreeArrays, packed

__all__ = ["available", "train"]

Array = npt.NDArray[Any]

LEAST_ROWS = 50  # fewer teach nothing that the other experts do not know
ROUNDS = 100
SETTINGS: dict[str, Any] = {
    "objective": "l2", "num_leaves": 31, "learning_rate": 0.1, "min_data_in_leaf": 20,
    "use_missing": False,  # rows are imputed
    "num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1,
}  # fmt: skip


def available() -> str:
    """Why there can be no batch expert; empty when there can."""
    try:
        library()
    except MissingLibraryError as exc:
        return str(exc)
    return ""


def library() -> Any:
    """LightGBM. Raises MissingLibraryError where it or the OpenMP library it needs is missing."""
    try:
        with without("sklearn"):
            import lightgbm  # a second to import, and only the process that trains needs it
    except (ImportError, OSError) as exc:
        raise MissingLibraryError(
            f"the batch expert is off, LightGBM cannot be loaded ({exc}): install the system's OpenMP"
            " library, on Debian 'apt-get install libgomp1'"
        ) from exc
    return lightgbm


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """Have a package that LightGBM imports where it is installed, and not needed here, found missing."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def train(rows: Array, targets: Array, columns: Sequence[str], seed: int) -> bytes | None:
    """Train boosted trees.

    The same rows and seed give the same bytes, on one machine.

    Parameters
    ----------
    rows
        Imputed, unscaled values, context included: float64 (n, columns), all finite.
    targets
        Their targets, (n,), all finite.
    columns
        The columns' names.
    seed
        Of the random number generator.

    Returns
    -------
    bytes or None
        The model, for :meth:`online.model.experts.boosted.BoostedTrees.replace`; None for fewer than 50 rows,
        or when all targets are the same.

    Raises
    ------
    MissingLibraryError
        LightGBM or the OpenMP library it needs is missing.
    """
    if len(rows) < LEAST_ROWS or float(np.ptp(targets)) == 0.0:
        return None
    lightgbm = library()
    middle, unit = float(np.mean(targets)), float(np.std(targets)) or 1.0
    data = lightgbm.Dataset(rows, (targets - middle) / unit)  # labels are kept as 32-bit floats there
    booster = lightgbm.train(SETTINGS | {"seed": seed}, data, ROUNDS)
    return packed(tree_arrays(booster.model_to_string(), tuple(columns), middle, unit))


def tree_arrays(text: str, columns: tuple[str, ...], middle: float, unit: float) -> TreeArrays:
    """LightGBM's text of a model as arrays; in each tree branches come before leaves, parents first."""
    parts: dict[str, list[Array]] = {name: [] for name in ("feature", "threshold", "left", "right", "value")}
    roots, taken = [], 0
    for block in text.split("\nTree=")[1:]:
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        tree = one_tree(fields, taken)
        tree["value"] *= unit
        for name, table in tree.items():
            parts[name].append(table)
        roots.append(taken)
        taken += len(tree["feature"])
    first = parts["value"][0]
    first[parts["feature"][0] < 0] += middle
    joined = {name: np.concatenate(tables) for name, tables in parts.items()}
    return TreeArrays(columns, np.array(roots, np.int32), **joined)


def one_tree(fields: dict[str, str], taken: int) -> dict[str, Array]:
    """One tree's nodes, the first of them having the number ``taken``; leaves come after the branches."""
    leaves = np.array(fields["leaf_value"].split(), float)
    branches = len(leaves) - 1

    def read(name: str, kind: type) -> Array:
        return np.array(fields.get(name, "").split() if branches else [], kind)

    def child(name: str) -> Array:
        numbers = read(name, np.int64)  # -1 is the first leaf, -2 the second
        return taken + np.where(numbers < 0, branches - 1 - numbers, numbers)

    none = np.full(len(leaves), -1)
    return {
        "feature": np.concatenate((read("split_feature", np.int64), none)).astype(np.int32),
        "threshold": np.concatenate((read("threshold", float), np.zeros(len(leaves)))),
        "left": np.concatenate((child("left_child"), none)).astype(np.int32),
        "right": np.concatenate((child("right_child"), none)).astype(np.int32),
        "value": np.concatenate((np.zeros(branches), leaves)),
    }
