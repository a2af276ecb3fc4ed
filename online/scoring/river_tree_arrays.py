"""River's own trees, and baggings of them, as the trees of a scoring plan.

A branch of River's adaptive tree may have an *alternate* beside it, a tree that grows to replace it. Where
a row passes such a branch it goes down both, and the tree answers with the mean of all leaves reached. Plans
know no alternates: here a tree with them becomes a plain one that answers the same, each of its leaves
standing for the leaves that its rows reach together. A mean of linear leaves is a linear leaf. The plain tree
may be as large as the branch times its alternate; in River 0.26.1 an alternate is a single leaf, as its first
split already replaces the branch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from river import tree
from river.tree.nodes.branch import NumericBinaryBranch

from online.core.errors import PlanError
from online.core.jit import Array
from online.model.experts.river.adwin_bagging import ADWINBaggingRegressor
from online.scoring.tree_arrays import NO_INDEX, Leaves, LineInputs, Nodes, Trees

__all__ = ["Branch", "merge_alternates", "river_trees"]


class Branch(NamedTuple):
    """A branch of a tree with alternates: a value of a column at most the threshold goes left."""

    column: int
    threshold: float
    left: Any
    right: Any
    alternate: Any = None  # the root of a tree beside it


def river_trees(expert: object, columns: dict[str, int]) -> Trees:
    """A tree or bagging as trees.

    Parameters
    ----------
    expert
        A Hoeffding tree of River's, or a bagging of them.
    columns
        Where in a row each column is that it reads.

    Returns
    -------
    Trees
        Their mean, without alternates.

    Raises
    ------
    PlanError
        It is something else, or holds a node that cannot be compiled.
    """
    if isinstance(expert, ADWINBaggingRegressor):
        roots = [member._root for member in expert.data]  # noqa: SLF001 - River has no public way to a tree
    elif isinstance(expert, tree.HoeffdingTreeRegressor):
        roots = [expert._root]  # noqa: SLF001 - River has no public way to a tree
    else:
        raise PlanError(f"an expert of type {type(expert).__name__} cannot be compiled")
    order = {column: index for index, column in enumerate(columns)}
    shares = np.full(len(roots), 1.0 / len(roots))
    return merge_alternates(
        roots,
        shares,
        np.array(list(columns.values()), int),
        look=lambda node: river_branch(node, columns),
        answer=lambda node: leaf_line(node, order),
    )


def river_branch(node: Any, columns: dict[str, int]) -> Branch | None:
    """A River node as a branch; None for a leaf."""
    if node is None or not hasattr(node, "children"):
        return None
    if not isinstance(node, NumericBinaryBranch):
        raise PlanError(f"a tree node of type {type(node).__name__} cannot be compiled")
    left, right = node.children
    return Branch(columns[node.feature], node.threshold, left, right, getattr(node, "_alternate_tree", None))


def leaf_line(leaf: Any, order: dict[str, int]) -> Array:
    """A River leaf as the linear function it predicts by: intercept, then weights; zeros for no leaf.

    An adaptive leaf answers with its mean while that has the smaller faded squared error, else with its
    model; other leaves have only the one or the other.
    """
    line = np.zeros(1 + len(order))
    if leaf is None:
        return line
    model = getattr(leaf, "_leaf_model", None)
    faded = getattr(leaf, "_fmse_mean", None)
    if model is None or (faded is not None and faded < leaf._fmse_model):  # noqa: SLF001 - as River's leaf does
        line[0] = leaf.stats.mean.get()
        return line
    line[0] = model.intercept
    for column, weight in model.weights.items():
        line[1 + order[column]] = weight
    return line


def merge_alternates(
    roots: list[Any],
    tree_weights: Array,
    columns: Array,
    *,
    look: Callable[[Any], Branch | None],
    answer: Callable[[Any], Array],
) -> Trees:
    """Trees with alternates as trees without, that answer the same.

    Parameters
    ----------
    roots
        The trees' first nodes, (T,).
    tree_weights
        Their weights, (T,).
    columns
        What the lines of their leaves read, (R,).
    look
        A node as a branch, None where it is a leaf.
    answer
        What a leaf answers: intercept and weights, (1 + R,).

    Returns
    -------
    Trees
        Their weighted sum.
    """
    nodes: list[list[float]] = []  # rows of Nodes: column, threshold, left, right, leaf
    lines: list[Array] = []

    def add(waiting: tuple[Any, ...], reached: tuple[Any, ...]) -> int:
        """Add the tree that sends a row on from the waiting nodes, having reached some leaves."""
        number = len(nodes)
        nodes.append([])
        node, *others = waiting
        branch = look(node)
        if branch is None:
            reached = (*reached, node)
            if others:
                nodes.pop()
                return add(tuple(others), reached)
            nodes[number] = [NO_INDEX, 0.0, NO_INDEX, NO_INDEX, len(lines)]
            lines.append(np.mean([answer(leaf) for leaf in reached], axis=0))
            return number
        beside = () if branch.alternate is None else (branch.alternate,)
        left, right = (add((child, *beside, *others), reached) for child in (branch.left, branch.right))
        nodes[number] = [branch.column, branch.threshold, left, right, NO_INDEX]
        return number

    starts = [add((root,), ()) for root in roots]
    column, threshold, left, right, leaf = np.array(nodes).T
    table = np.array(lines)
    return Trees(
        roots=np.array(starts),
        tree_weights=tree_weights,
        nodes=Nodes(
            column=column.astype(int), threshold=threshold, left=left.astype(int),
            right=right.astype(int), leaf=leaf.astype(int),
        ),
        leaves=Leaves(intercept=table[:, 0], line=np.arange(len(table)), weights=table[:, 1:]),
        inputs=LineInputs(columns=columns),
    )  # fmt: skip
