"""River's own trees, and baggings of them, as the trees of a scoring plan."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from river import tree
from river.tree.nodes.branch import NumericBinaryBranch

from online.core.errors import PlanError
from online.model.experts.river.adwin_bagging import ADWINBaggingRegressor
from online.scoring.tree_arrays import NOWHERE, Trees

__all__ = ["compiled"]


def compiled(expert: object, places: dict[str, int]) -> Trees:
    """A tree or bagging as trees; ``places`` says where in a row each column that it reads is.

    Raises
    ------
    PlanError
        It is something else, or holds a node that cannot be compiled.
    """
    if isinstance(expert, ADWINBaggingRegressor):
        return mean_of(list(expert.data), places)
    if isinstance(expert, tree.HoeffdingTreeRegressor):
        return mean_of([expert], places)
    raise PlanError(f"an expert of type {type(expert).__name__} cannot be compiled")


@dataclasses.dataclass
class Growing:
    """Nodes and leaves of River trees while they are gathered: a list a column of :class:`Trees`."""

    places: dict[str, int]
    nodes: list[list[Any]] = dataclasses.field(default_factory=list)
    leaves: list[tuple[float, Any]] = dataclasses.field(default_factory=list)

    def add(self, node: Any) -> int:
        """Add a River node and all below and beside it; returns its number."""
        number = len(self.nodes)
        if node is None or not hasattr(node, "children"):
            self.nodes.append([NOWHERE, 0.0, NOWHERE, NOWHERE, len(self.leaves), NOWHERE])
            self.leaves.append(leaf_line(node))
            return number
        if not isinstance(node, NumericBinaryBranch):
            raise PlanError(f"a tree node of type {type(node).__name__} cannot be compiled")
        self.nodes.append([self.places[node.feature], node.threshold])
        below = [self.add(child) for child in node.children]
        alternate = getattr(node, "_alternate_tree", None)
        beside = NOWHERE if alternate is None else self.add(alternate)
        self.nodes[number] += [*below, NOWHERE, beside]
        return number


def mean_of(models: list[Any], places: dict[str, int]) -> Trees:
    """The mean of River trees."""
    growing = Growing(places)
    roots = [growing.add(model._root) for model in models]
    feature, threshold, left, right, leaf, beside = map(np.array, zip(*growing.nodes, strict=True))
    weights = np.zeros((len(growing.leaves), len(places)))
    known = {column: place for place, column in enumerate(places)}
    for row, (_, line) in enumerate(growing.leaves):
        for column, weight in line.items():
            weights[row, known[column]] = weight
    n, bound = len(weights), np.full(len(places), math.inf)
    return Trees(
        np.array(roots), np.full(len(roots), 1.0 / len(roots)), feature, threshold, left, right, leaf,
        np.array([bias for bias, _ in growing.leaves]), np.full(n, -math.inf), np.full(n, math.inf),
        np.arange(n), weights, np.array(list(places.values()), int), -bound, bound, np.zeros(len(places)),
        np.zeros(len(feature), bool), beside,
    )  # fmt: skip


def leaf_line(leaf: Any) -> tuple[float, dict[str, float]]:
    """A River leaf as the linear function it predicts by: intercept and weights; zero for no leaf.

    An adaptive leaf answers with its mean while that has the smaller faded squared error, else with its
    model; other leaves have only the one or the other.
    """
    if leaf is None:
        return 0.0, {}
    model = getattr(leaf, "_leaf_model", None)
    faded = getattr(leaf, "_fmse_mean", None)
    if model is None or (faded is not None and faded < leaf._fmse_model):
        return leaf.stats.mean.get(), {}
    return model.intercept, dict(model.weights)
