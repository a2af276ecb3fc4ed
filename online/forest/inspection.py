"""A forest for people: nodes as a table, trees as text, features' importances, why a row got its value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from online.forest import forest_state as state
from online.forest.forest_state import Array, Arrays

__all__ = ["FeatureNames", "contributions", "draw_tree", "importances", "node_columns"]

BASE = ""  # the key of what no feature accounts for
LEAF_MODELS = ("mean", "slow line", "fast line")
NODE_COLUMNS = (
    "member",
    "node",
    "parent",
    "depth",
    "test",
    "missing_goes_left",
    "gain",
    "weight",
    "mean",
    "predicts_by",
    "observes",
)


class FeatureNames:
    """The names behind the columns of rows and the codes of categories.

    Parameters
    ----------
    columns
        The column of each feature by name.
    codes
        The number of each category by name, by name of the feature.
    """

    def __init__(self, columns: dict[str, int], codes: dict[str, dict[str, int]]) -> None:
        self.features = sorted(columns, key=columns.__getitem__)
        self._categories = {
            name: {code: text for text, code in known.items()} for name, known in codes.items()
        }

    def test(self, arrays: Arrays, node: int) -> str:
        """The test of a branch as text.

        Parameters
        ----------
        arrays
            The forest.
        node
            The branch.

        Returns
        -------
        str
            Rows for which it is true go left.
        """
        name = self.features[arrays.node_i[node, state.NODE_FEATURE]]
        mask = int(arrays.node_i[node, state.NODE_MASK])
        if not mask:
            threshold = arrays.node_f[node, state.NODE_SPLIT_VALUE]
            return f"{name} is known" if math.isinf(threshold) else f"{name} <= {threshold:.6g}"
        known = self._categories[name]
        left = [known.get(code, "any other") for code in range(state.BINS) if mask >> code & 1]
        return f"{name} in {{{', '.join(left)}}}"


def member_roots(arrays: Arrays) -> list[tuple[int, int]]:
    """Member and root of each member's tree."""
    roots = [(m, int(arrays.root[tree])) for m, tree in enumerate(arrays.member_i[:, state.M_TREE])]
    return [(m, root) for m, root in roots if root != state.ABSENT]


def descendants(arrays: Arrays, root: int) -> list[int]:
    """A node and all below it, parents first, left before right."""
    nodes, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        if arrays.node_i[node, state.NODE_FEATURE] >= 0:
            waiting += [int(arrays.node_i[node, side]) for side in (state.NODE_RIGHT, state.NODE_LEFT)]
    return nodes


def node_values(arrays: Arrays) -> Array:
    """Each node's mean target: a leaf's own, a branch's from its leaves by their weight."""
    used = int(arrays.counts[state.N_NODES_HIGH])
    node_i, node_f = arrays.node_i[:used], arrays.node_f[:used]
    weight, value = node_f[:, state.NODE_N].copy(), node_f[:, state.NODE_MEAN].copy()
    branches = np.flatnonzero(
        (node_i[:, state.NODE_FEATURE] >= 0) & (node_i[:, state.NODE_OWNER] != state.ABSENT)
    )
    for depth in range(int(node_i[:, state.NODE_DEPTH].max(initial=0)), -1, -1):
        here = branches[node_i[branches, state.NODE_DEPTH] == depth]
        left, right = node_i[here, state.NODE_LEFT], node_i[here, state.NODE_RIGHT]
        weight[here] = np.maximum(weight[left] + weight[right], 1e-300)
        value[here] = (weight[left] * value[left] + weight[right] * value[right]) / weight[here]
    return value


def leaf_models(arrays: Arrays, leaves: Array) -> Array:
    """What leaves predict by: 0 their mean, 1 and 2 their linear models; as `leaf.leaf_output` chooses."""
    mean, slow, fast = (
        arrays.node_f[leaves, column]
        for column in (state.NODE_ERROR_MEAN, state.NODE_ERROR_SLOW, state.NODE_ERROR_FAST)
    )
    return np.where(mean < np.minimum(slow, fast), 0, np.where(slow <= fast, 1, 2))


def leaf_model(arrays: Arrays, leaf: int) -> int:
    """What one leaf predicts by, see `leaf_models`."""
    return int(leaf_models(arrays, np.array([leaf]))[0])


def node_columns(arrays: Arrays, names: FeatureNames) -> dict[str, list[Any]]:
    """The nodes of the members' trees as a table.

    Parameters
    ----------
    arrays
        The forest.
    names
        Its features' names.

    Returns
    -------
    dict
        By name of the column, one entry a node, parents first.
    """
    columns: dict[str, list[Any]] = {name: [] for name in NODE_COLUMNS}
    values = node_values(arrays)
    for member, root in member_roots(arrays):
        for node in descendants(arrays, root):
            i, f = arrays.node_i[node], arrays.node_f[node]
            branch = bool(i[state.NODE_FEATURE] >= 0)
            row = (
                member,
                node,
                int(i[state.NODE_PARENT]),
                int(i[state.NODE_DEPTH]),
                names.test(arrays, node) if branch else None,
                bool(i[state.NODE_DEFAULT]) if branch else None,
                float(f[state.NODE_GAIN]) if branch else None,
                float(f[state.NODE_N]),
                float(values[node]),
                None if branch else LEAF_MODELS[leaf_model(arrays, node)],
                bool(i[state.NODE_SLOT] >= 0),
            )
            for column, cell in zip(columns.values(), row, strict=True):
                column.append(cell)
    return columns


def draw_tree(arrays: Arrays, names: FeatureNames, member: int) -> str:
    """One member's tree as text.

    Parameters
    ----------
    arrays
        The forest.
    names
        Its features' names.
    member
        Which member.

    Returns
    -------
    str
        A node a line.
    """
    roots = dict(member_roots(arrays))
    if member not in roots:
        return "(nothing learned)"
    values = node_values(arrays)

    def lines_of(node: int, indent: str, label: str) -> list[str]:
        i = arrays.node_i[node]
        if i[state.NODE_FEATURE] < 0:
            model, weight = LEAF_MODELS[leaf_model(arrays, node)], arrays.node_f[node, state.NODE_N]
            return [f"{label}{values[node]:.6g}, {model}, weight {weight:.0f}"]
        missing = "yes" if i[state.NODE_DEFAULT] else "no"
        lines = [f"{label}{names.test(arrays, node)}? (missing: {missing})"]
        lines += lines_of(int(i[state.NODE_LEFT]), f"{indent}│  ", f"{indent}├─ yes: ")
        lines += lines_of(int(i[state.NODE_RIGHT]), f"{indent}   ", f"{indent}└─ no: ")
        return lines

    return "\n".join(lines_of(roots[member], "", ""))


def importances(arrays: Arrays, names: FeatureNames) -> dict[str, float]:
    """Each feature's share of the variance that the splits took away.

    The mean decrease of impurity (Breiman 2001, Random forests, section 10), of splits as they were made.

    Parameters
    ----------
    arrays
        The forest.
    names
        Its features' names.

    Returns
    -------
    dict
        By feature, one in sum; all zero before any split.
    """
    total = np.zeros(len(arrays.feature))
    for _, root in member_roots(arrays):
        nodes = np.array(descendants(arrays, root))
        branches = nodes[arrays.node_i[nodes, state.NODE_FEATURE] >= 0]
        np.add.at(
            total, arrays.node_i[branches, state.NODE_FEATURE], arrays.node_f[branches, state.NODE_GAIN]
        )
    shares = total / total.sum() if total.sum() > 0.0 else total
    return dict(zip(names.features, shares.tolist(), strict=False))


def contributions(arrays: Arrays, names: FeatureNames, prediction: float) -> dict[str, float]:
    """What each feature added to the prediction of the row that was scored last.

    Down a tree, the step from a node's mean to its child's is the split feature's doing (Palczewska et al.
    2013, "Interpreting random forest models using a feature contribution method"). A leaf's linear model adds
    each weight times the feature's distance from its mean; what is left is the base's.

    Parameters
    ----------
    arrays
        The forest, just after it scored the row.
    names
        Its features' names.
    prediction
        The row's prediction.

    Returns
    -------
    dict
        One term a feature, and one under the empty name for the rest; they add up to the prediction.
    """
    filled = arrays.row[1]
    values, shares = node_values(arrays), arrays.votes / arrays.votes.sum()
    sums = np.zeros(len(arrays.feature))
    for member, root in member_roots(arrays):
        leaf: int = add_path_steps(arrays, root, values, float(shares[member]), sums)
        model = leaf_model(arrays, leaf)
        if model:
            numeric = arrays.feature[:, state.F_KIND] == 0.0
            means = np.where(numeric, arrays.feature[:, state.F_MEAN], 0.0)
            sums += shares[member] * arrays.line[leaf, model - 1, :-1] * (filled - means)
    terms = dict(zip(names.features, sums.tolist(), strict=False))
    return {BASE: prediction - sum(terms.values())} | terms


def add_path_steps(arrays: Arrays, node: int, values: Array, share: float, sums: Array) -> int:
    """Add a tree's steps on the way of the row scored last to the sums (D,) by feature; returns the leaf."""
    row = arrays.row[0]
    while arrays.node_i[node, state.NODE_FEATURE] >= 0:
        side = state.NODE_LEFT if goes_left_in(arrays, node, row) else state.NODE_RIGHT
        child = int(arrays.node_i[node, side])
        sums[arrays.node_i[node, state.NODE_FEATURE]] += share * (values[child] - values[node])
        node = child
    return node


def goes_left_in(arrays: Arrays, node: int, row: Array) -> bool:
    """Which way a row goes, as `tree.goes_left` decides."""
    i = arrays.node_i[node]
    value, mask = row[i[state.NODE_FEATURE]], int(i[state.NODE_MASK])
    if math.isnan(value) or (mask and not mask >> (state.BINS + int(value)) & 1):
        return bool(i[state.NODE_DEFAULT])
    return (
        bool(mask >> int(value) & 1) if mask else bool(value <= arrays.node_f[node, state.NODE_SPLIT_VALUE])
    )
