"""A batch model in the pool: gradient boosted trees that were trained elsewhere."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from river import base

from online.core.jit import njit_cached

__all__ = ["BoostedTrees", "TreeArrays", "pack_trees", "unpack_trees"]

Array = npt.NDArray[Any]


class TreeArrays(NamedTuple):
    """Trees with constant leaves, the nodes of all in the same arrays; their outputs are added up."""

    columns: tuple[str, ...]  # what the trees read, in the order of `feature`
    root: Array  # (trees,) int32: a node each
    feature: Array  # (nodes,) int32: a column, -1 at a leaf
    threshold: Array  # (nodes,) float64: left where value <= threshold
    left: Array  # (nodes,) int32
    right: Array  # (nodes,) int32
    value: Array  # (nodes,) float64: a leaf's output, in target units


ARRAY_TYPES = (
    ("root", np.int32),
    ("feature", np.int32),
    ("threshold", np.float64),
    ("left", np.int32),
    ("right", np.int32),
    ("value", np.float64),
)


def pack_trees(trees: TreeArrays) -> bytes:
    """The trees as bytes, without pickle: zlib of a MessagePack map of columns and little-endian arrays."""
    content: dict[str, Any] = {
        name: getattr(trees, name).astype(kind).tobytes() for name, kind in ARRAY_TYPES
    }
    return zlib.compress(msgspec.msgpack.encode({"columns": trees.columns} | content))


def unpack_trees(model: bytes) -> TreeArrays:
    """The trees of :func:`pack_trees`. Raises ValueError when the bytes are no such model."""
    try:
        content = msgspec.msgpack.decode(zlib.decompress(model), type=dict[str, Any])
        columns = msgspec.convert(content["columns"], tuple[str, ...])
        arrays = {name: np.frombuffer(content[name], kind) for name, kind in ARRAY_TYPES}
    except (zlib.error, msgspec.MsgspecError, KeyError, TypeError, ValueError) as exc:
        raise ValueError(f"these bytes are no model of boosted trees: {exc}") from exc
    trees = TreeArrays(columns, **arrays)
    check_trees(trees)
    return trees


def check_trees(trees: TreeArrays) -> None:
    """Refuse trees whose descent would leave the arrays or never end. Raises ValueError.

    A child always comes after its parent, so a descent ends.
    """
    nodes = len(trees.feature)
    inner = trees.feature >= 0
    own = np.arange(nodes)[inner]
    is_sound = (
        all(len(table) == nodes for table in trees[3:])
        and ((trees.root >= 0) & (trees.root < nodes)).all()
        and (trees.feature < len(trees.columns)).all()
        and all(((side[inner] > own) & (side[inner] < nodes)).all() for side in (trees.left, trees.right))
        and np.isfinite(trees.value).all()
    )
    if not is_sound:
        raise ValueError("these bytes are no model of boosted trees: their arrays do not fit together")


class BoostedTrees(base.Regressor):
    """Predict by gradient boosted trees trained in a batch, :mod:`online.model.train_boosted` says how.

    It learns nothing from rows; a newer model takes the place of the old one through :meth:`replace`. Without
    one, and for a row that lacks a column, the prediction is NaN, which a pool replaces.

    Examples
    --------
    >>> import numpy as np
    >>> from online.model.experts.boosted import BoostedTrees, TreeArrays, pack_trees
    >>> ints, reals = np.array([0, -1, -1]), np.array([1.5, 0.0, 0.0])
    >>> value = np.array([0.0, 7.0, 9.0])
    >>> trees = TreeArrays(("wind",), np.array([0]), ints, reals, ints + 1, ints + 2, value)
    >>> model = BoostedTrees()
    >>> model.replace(pack_trees(trees))
    >>> model.predict_one({"wind": 1.0}), model.predict_one({"wind": 2.0})
    (7.0, 9.0)
    """

    def __init__(self) -> None:
        self.trees: TreeArrays | None = None

    def replace(self, model: bytes) -> None:
        """Predict by this model from now on.

        Parameters
        ----------
        model
            The bytes that training gave.

        Raises
        ------
        ValueError
            If the bytes are no model; the old one stays.
        """
        self.trees = unpack_trees(model)

    def learn_one(self, x: Mapping[str, float], y: float) -> None:
        """Do nothing.

        Parameters
        ----------
        x
            Feature values by name.
        y
            The target.
        """

    def predict_one(self, x: Mapping[str, float]) -> float:
        """Return the sum over the trees, in target units.

        Parameters
        ----------
        x
            Feature values by name.
        """
        trees = self.trees
        if trees is None:
            return math.nan
        try:
            row = np.array([x[column] for column in trees.columns], dtype=float)
        except KeyError:
            return math.nan
        return float(sum_leaves(row, *trees[1:]))

    def learn_predict_many(
        self, names: tuple[str, ...], rows: Array, targets: Sequence[float]
    ) -> list[float] | None:
        """Predict the rows without a target.

        Parameters
        ----------
        names
            The features.
        rows
            Their values, (n, features), C-contiguous.
        targets
            The targets, (n,), NaN for rows to predict.

        Returns
        -------
        list or None
            The predictions for those, in target units; None when the rows lack a column.
        """
        predict_only = np.isnan(targets)
        if self.trees is None:
            return [math.nan] * int(predict_only.sum())
        if not set(names).issuperset(self.trees.columns):
            return None
        columns = [names.index(column) for column in self.trees.columns]
        chosen = np.take(rows[predict_only], columns, axis=1)
        outputs: list[float] = sum_leaves_many(chosen, *self.trees[1:]).tolist()
        return outputs


# Kernels: rows go down trees with constant leaves, whose sum is the prediction (gradient boosting, Friedman
# 2001). A hundred trees are some hundreds of dependent steps a row, each far too small for a NumPy call. The
# arrays are those of TreeArrays; a row is float64 (columns,), in the order of TreeArrays.columns.


@njit_cached
def sum_leaves_many(  # noqa: PLR0913 - a kernel takes each array
    rows: Array, root: Array, feature: Array, threshold: Array, left: Array, right: Array, value: Array
) -> Array:
    """As :func:`sum_leaves`, of rows (n, columns); (n,)."""
    outputs = np.empty(len(rows))
    for i in range(len(rows)):
        outputs[i] = sum_leaves(rows[i], root, feature, threshold, left, right, value)
    return outputs


@njit_cached
def sum_leaves(  # noqa: PLR0913 - a kernel takes each array
    row: Array, root: Array, feature: Array, threshold: Array, left: Array, right: Array, value: Array
) -> float:
    """The sum of the leaves that a row comes to; NaN where one of its values is missing."""
    total = 0.0
    for cell in row:
        if np.isnan(cell):
            return np.nan
    for node in root:
        while feature[node] >= 0:
            node = left[node] if row[feature[node]] <= threshold[node] else right[node]
        total += value[node]
    return total
