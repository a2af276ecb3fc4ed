"""From the River pipeline to the scoring plan that gives just what its ``predict_one`` gives."""

from __future__ import annotations

import collections
import functools
from typing import Any

import numpy as np
import river
from river import compose, tree
from river.tree.nodes.branch import NumericBinaryBranch

from online.errors import PlanError
from online.experts.adwin_bagging import ADWINBaggingRegressor
from online.experts.nlms import NormalizedLMS
from online.experts.rls import RecursiveLeastSquares
from online.pipeline import ENCODER, IMPUTER, POOL
from online.plan import PlanInfo, ScoringPlan
from online.pool import ExpertPool
from online.schema import Schema

__all__ = ["compile_plan"]


def compile_plan(
    pipeline: compose.Pipeline, schema: Schema, *, version: int, seq: int, half_width: float
) -> ScoringPlan:
    """Compile a pipeline made by :func:`online.pipeline.build_pipeline`.

    Raises
    ------
    PlanError
        The pipeline holds an expert or a node that this version cannot compile.
    """
    columns = pipeline[ENCODER].columns
    pool: ExpertPool = pipeline[POOL]
    tables = Tables(columns)
    for index, expert in enumerate(pool.experts.values()):
        add_expert(expert, tables, index)
    scaler, imputer, heads = pool.scaler, pipeline[IMPUTER], pool.heads()
    arrays = tables.arrays() | {
        "context": np.array(pipeline[ENCODER].context_cells(), dtype=float),
        "impute": np.array([imputer.stats[c].get() for c in columns], dtype=float),
        "mean": np.array([scaler.means.get(c, 0.0) for c in columns], dtype=float),
        # Python's power as River takes it: the last bit decides on which side of a split a row falls
        "scale": np.array([scaler.vars.get(c, 0.0) ** 0.5 for c in columns], dtype=float),
        "head_weight": heads.weights, "head_bias": heads.bias, "head_margin": heads.margin,
        "head_share": heads.share,
        "expert_weight": np.array(list(pool.weights().values()), dtype=float),
    }  # fmt: skip
    low, high = (pool.low, pool.high) if pool.n_seen else (0.0, 0.0)
    info = PlanInfo(
        schema, version, seq, tuple(pool.experts), low, high, pool.target_mean, half_width, river.__version__
    )
    return ScoringPlan(info, arrays)


class Tables:
    """The node, leaf and tree tables while they grow."""

    def __init__(self, columns: list[str]) -> None:
        self.columns = {column: place for place, column in enumerate(columns)}
        self.nodes: dict[str, list[Any]] = collections.defaultdict(list)
        self.bias: list[float] = []
        self.weights: list[dict[str, float]] = []
        self.trees: dict[str, list[Any]] = collections.defaultdict(list)

    def leaf(self, bias: float, weights: dict[str, float] | None = None) -> int:
        """Add a leaf; returns its row."""
        self.bias.append(bias)
        self.weights.append(weights or {})
        return len(self.bias) - 1

    def node(self, feature: int, threshold: float, leaf: int, alternate: int = -1) -> int:
        """Add a node; returns its row. Children are filled in later."""
        row = {"feature": feature, "threshold": threshold, "left": 0, "right": 0}
        for name, value in (row | {"leaf": leaf, "alternate": alternate}).items():
            self.nodes[name].append(value)
        return len(self.nodes["feature"]) - 1

    def tree(self, root: int, expert: int, weight: float) -> None:
        """Add a tree to an expert."""
        for name, value in (("root", root), ("expert", expert), ("weight", weight)):
            self.trees[name].append(value)

    def arrays(self) -> dict[str, np.ndarray]:
        """The tables as arrays."""
        weights = np.zeros((len(self.bias), len(self.columns)))
        for row, leaf in enumerate(self.weights):
            for column, weight in leaf.items():
                weights[row, self.columns[column]] = weight
        leaves = {"leaf_bias": np.array(self.bias, dtype=float), "leaf_weights": weights}
        nodes = {f"node_{name}": np.array(values) for name, values in self.nodes.items()}
        return leaves | nodes | {f"tree_{name}": np.array(values) for name, values in self.trees.items()}


@functools.singledispatch
def add_expert(expert: object, tables: Tables, index: int, weight: float = 1.0) -> None:
    """Add one expert's trees, its output being their weighted sum."""
    raise PlanError(f"an expert of type {type(expert).__name__} cannot be compiled")


@add_expert.register(NormalizedLMS)
@add_expert.register(RecursiveLeastSquares)
def _(expert: Any, tables: Tables, index: int, weight: float = 1.0) -> None:
    leaf = tables.leaf(expert.intercept, expert.weights)
    tables.tree(tables.node(-1, 0.0, leaf), index, weight)


@add_expert.register
def _(expert: ADWINBaggingRegressor, tables: Tables, index: int, weight: float = 1.0) -> None:
    for member in expert.data:
        add_expert(member, tables, index, weight / len(expert.data))


@add_expert.register
def _(expert: tree.HoeffdingTreeRegressor, tables: Tables, index: int, weight: float = 1.0) -> None:
    untaught = expert._root is None
    root = tables.node(-1, 0.0, tables.leaf(0.0)) if untaught else add_node(expert._root, tables)
    tables.tree(root, index, weight)


def add_node(node: Any, tables: Tables) -> int:
    """Add a River node and all below it; returns its row."""
    if not hasattr(node, "children"):
        return tables.node(-1, 0.0, add_leaf(node, tables))
    alternate = getattr(node, "_alternate_tree", None)
    if not isinstance(node, NumericBinaryBranch) or hasattr(alternate, "children"):
        raise PlanError(f"a tree node of type {type(node).__name__} cannot be compiled")
    beside = -1 if alternate is None else add_leaf(alternate, tables)
    row = tables.node(tables.columns[node.feature], node.threshold, -1, beside)
    tables.nodes["left"][row], tables.nodes["right"][row] = (
        add_node(child, tables) for child in node.children
    )
    return row


def add_leaf(leaf: Any, tables: Tables) -> int:
    """Add a River leaf as the linear function it predicts by; returns its row.

    An adaptive leaf answers with its mean while that has the smaller faded squared error, else with its
    model; other leaves have only the one or the other.
    """
    model = getattr(leaf, "_leaf_model", None)
    faded = getattr(leaf, "_fmse_mean", None)
    if model is None or (faded is not None and faded < leaf._fmse_model):
        return tables.leaf(leaf.stats.mean.get())
    return tables.leaf(model.intercept, dict(model.weights))
