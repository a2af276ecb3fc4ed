"""Training the batch expert: LightGBM's gradient boosting (Ke et al. 2017), on rows as they were served."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from online.core.errors import MissingLibraryError
from online.model.experts.boosted import TreeArrays, pack_trees

__all__ = ["available", "train"]

Array = npt.NDArray[Any]

LEAST_ROWS = 50  # fewer teach nothing that the other experts do not know
BOOSTING_ROUNDS = 100
LIGHTGBM_PARAMS: dict[str, Any] = {
    "objective": "l2",
    "num_leaves": 31,
    "learning_rate": 0.1,
    "min_data_in_leaf": 20,
    "use_missing": False,  # rows are imputed
    # one thread and one layout of the histograms: the same rows give the same bytes
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


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
        with hidden("sklearn"):
            import lightgbm  # a second to import, and only the process that trains needs it
    except (ImportError, OSError) as exc:
        raise MissingLibraryError(
            f"the batch expert is off, LightGBM cannot be loaded ({exc}): install the system's OpenMP"
            " library, on Debian 'apt-get install libgomp1'"
        ) from exc
    return lightgbm


@contextlib.contextmanager
def hidden(name: str) -> Iterator[None]:
    """Let imports of a package fail, which LightGBM imports where it is there, for nothing needed here."""
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
    mean, deviation = float(np.mean(targets)), float(np.std(targets)) or 1.0
    # LightGBM keeps labels as 32-bit floats: standardised they lose nothing to a large mean
    data = lightgbm.Dataset(rows, (targets - mean) / deviation)
    booster = lightgbm.train(LIGHTGBM_PARAMS | {"seed": seed}, data, BOOSTING_ROUNDS)
    return pack_trees(tree_arrays(booster.model_to_string(), tuple(columns), mean, deviation))


def tree_arrays(text: str, columns: tuple[str, ...], mean: float, deviation: float) -> TreeArrays:
    """LightGBM's text of a model as arrays, in target units; in each tree branches come before leaves."""
    parts: dict[str, list[Array]] = {name: [] for name in ("feature", "threshold", "left", "right", "value")}
    roots, offset = [], 0
    for block in text.split("\nTree=")[1:]:
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        tree = tree_nodes(fields, offset)
        tree["value"] *= deviation
        for name, array in tree.items():
            parts[name].append(array)
        roots.append(offset)
        offset += len(tree["feature"])
    first_values = parts["value"][0]
    first_values[parts["feature"][0] < 0] += mean  # into the first tree's leaves, of which each row takes one
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return TreeArrays(columns, np.array(roots, np.int32), **joined)


def tree_nodes(fields: dict[str, str], offset: int) -> dict[str, Array]:
    """One tree's nodes, numbered from ``offset``; leaves come after the branches."""
    leaves = np.array(fields["leaf_value"].split(), float)
    branches = len(leaves) - 1

    def read(name: str, kind: type) -> Array:
        return np.array(fields.get(name, "").split() if branches else [], kind)

    def children(name: str) -> Array:
        numbers = read(name, np.int64)  # LightGBM numbers leaves down from -1: -1 is the first, -2 the second
        return offset + np.where(numbers < 0, branches - 1 - numbers, numbers)

    no_child = np.full(len(leaves), -1)
    return {
        "feature": np.concatenate((read("split_feature", np.int64), no_child)).astype(np.int32),
        "threshold": np.concatenate((read("threshold", float), np.zeros(len(leaves)))),
        "left": np.concatenate((children("left_child"), no_child)).astype(np.int32),
        "right": np.concatenate((children("right_child"), no_child)).astype(np.int32),
        "value": np.concatenate((np.zeros(branches), leaves)),
    }
