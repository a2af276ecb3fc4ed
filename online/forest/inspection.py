"""A forest for people: its nodes as a table, a drawing of a tree, what each feature does, and why a row got
its value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from online.forest import forest_state as state
from online.forest.forest_state import Array, Arrays

__all__ = ["Names", "contributions", "drawing", "importances", "node_columns"]

BASE = ""  # the key of what no feature accounts for
MODELS = ("mean", "slow line", "fast line")


class Names:
    """The names behind places and codes.

    Parameters
    ----------
    places
        The place of each feature by name.
    codes
        The number of each category by name, by name of the feature.
    """

    def __init__(self, places: dict[str, int], codes: dict[str, dict[str, int]]) -> None:
        self.features = sorted(places, key=places.__getitem__)
        self._categories = {
            name: {code: text for text, code in known.items()} for name, known in codes.items()
        }

    def test(self, arrays: Arrays, node: int) -> str:
        """What a branch asks, yes being left."""
        name = self.features[arrays.node_i[node, state.FEATURE]]
        mask = int(arrays.node_i[node, state.MASK])
        if not mask:
            threshold = arrays.node_f[node, state.THRESHOLD]
            return f"{name} is known" if math.isinf(threshold) else f"{name} <= {threshold:.6g}"
        known = self._categories[name]
        left = [known.get(code, "any other") for code in range(state.BINS) if mask >> code & 1]
        return f"{name} in {{{', '.join(left)}}}"


def planted(arrays: Arrays) -> list[tuple[int, int]]:
    """Member and root of each member's tree."""
    roots = [(m, int(arrays.root[tree])) for m, tree in enumerate(arrays.member_i[:, state.TREE])]
    return [(m, root) for m, root in roots if root != state.NONE]


def below(arrays: Arrays, root: int) -> list[int]:
    """A node and all below it, parents first, left before right."""
    found, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        found.append(node)
        if arrays.node_i[node, state.FEATURE] >= 0:
            waiting += [int(arrays.node_i[node, side]) for side in (state.RIGHT, state.LEFT)]
    return found


def node_values(arrays: Arrays) -> Array:
    """Each node's mean target: a leaf's own, a branch's from its leaves by their weight."""
    used = int(arrays.counts[state.NODE_HIGH])
    node_i, node_f = arrays.node_i[:used], arrays.node_f[:used]
    weight, value = node_f[:, state.N].copy(), node_f[:, state.MEAN].copy()
    branches = np.flatnonzero((node_i[:, state.FEATURE] >= 0) & (node_i[:, state.OWNER] != state.NONE))
    for depth in range(int(node_i[:, state.DEPTH].max(initial=0)), -1, -1):
        here = branches[node_i[branches, state.DEPTH] == depth]
        left, right = node_i[here, state.LEFT], node_i[here, state.RIGHT]
        weight[here] = np.maximum(weight[left] + weight[right], 1e-300)
        value[here] = (weight[left] * value[left] + weight[right] * value[right]) / weight[here]
    return value


def leaf_models(arrays: Arrays, leaves: Array) -> Array:
    """What leaves predict by: 0 their mean, 1 and 2 their linear models; as `leaf.leaf_output` chooses."""
    mean, slow, fast = (
        arrays.node_f[leaves, column] for column in (state.E_MEAN, state.E_SLOW, state.E_FAST)
    )
    return np.where(mean < np.minimum(slow, fast), 0, np.where(slow <= fast, 1, 2))


def leaf_model(arrays: Arrays, leaf: int) -> int:
    """What one leaf predicts by, see `leaf_models`."""
    return int(leaf_models(arrays, np.array([leaf]))[0])


def node_columns(arrays: Arrays, names: Names) -> dict[str, list[Any]]:
    """One entry a node of the members' trees, parents first."""
    columns: dict[str, list[Any]] = {name: [] for name in (
        "member", "node", "parent", "depth", "test", "missing_goes_left", "gain", "weight", "mean",
        "predicts_by", "observes",
    )}  # fmt: skip
    values = node_values(arrays)
    for member, root in planted(arrays):
        for node in below(arrays, root):
            i, f = arrays.node_i[node], arrays.node_f[node]
            branch = bool(i[state.FEATURE] >= 0)
            row = (
                member, node, int(i[state.PARENT]), int(i[state.DEPTH]),
                names.test(arrays, node) if branch else None,
                bool(i[state.DEFAULT]) if branch else None,
                float(f[state.GAIN]) if branch else None,
                float(f[state.N]), float(values[node]),
                None if branch else MODELS[leaf_model(arrays, node)],
                bool(i[state.SLOT] >= 0),
            )  # fmt: skip
            for column, cell in zip(columns.values(), row, strict=True):
                column.append(cell)
    return columns


def drawing(arrays: Arrays, names: Names, member: int) -> str:
    """One member's tree as text."""
    roots = dict(planted(arrays))
    if member not in roots:
        return "(nothing learned)"
    lines: list[str] = []
    draw(arrays, names, roots[member], "", "", node_values(arrays), lines)
    return "\n".join(lines)


def draw(
    arrays: Arrays, names: Names, node: int, lead: str, label: str, values: Array, lines: list[str]
) -> None:
    """Add a node and those below it to a drawing."""
    i = arrays.node_i[node]
    if i[state.FEATURE] < 0:
        kind = MODELS[leaf_model(arrays, node)]
        lines.append(f"{label}{values[node]:.6g}, {kind}, weight {arrays.node_f[node, state.N]:.0f}")
        return
    missing = "yes" if i[state.DEFAULT] else "no"
    lines.append(f"{label}{names.test(arrays, node)}? (missing: {missing})")
    for side, fork, more, answer in ((state.LEFT, "├─", "│  ", "yes"), (state.RIGHT, "└─", "   ", "no")):
        deeper = f"{lead}{fork} {answer}: "
        inner: list[str] = []
        draw(arrays, names, int(i[side]), lead + more, deeper, values, inner)
        lines.extend(inner)


def importances(arrays: Arrays, names: Names) -> dict[str, float]:
    """Each feature's share of the variance that the splits took away; all zero before any split.

    The mean decrease of impurity (Breiman 2001, Random forests, section 10), of splits as they were made.
    """
    total = np.zeros(len(arrays.feature))
    for _, root in planted(arrays):
        nodes = np.array(below(arrays, root))
        branches = nodes[arrays.node_i[nodes, state.FEATURE] >= 0]
        np.add.at(total, arrays.node_i[branches, state.FEATURE], arrays.node_f[branches, state.GAIN])
    shares = total / total.sum() if total.sum() > 0.0 else total
    return dict(zip(names.features, shares.tolist(), strict=False))


def contributions(arrays: Arrays, names: Names, prediction: float) -> dict[str, float]:
    """How the row scored last came by its prediction: one term a feature and one for the rest, which add up
    to it.

    Down a tree, the step from a node's mean to its child's is the split feature's doing (Palczewska et al.
    2013, "Interpreting random forest models using a feature contribution method"). A leaf's linear model adds
    each weight times the feature's distance from its mean; what is left is the base's.
    """
    row, filled = arrays.row
    values, shares = node_values(arrays), arrays.say / arrays.say.sum()
    found = np.zeros(len(arrays.feature))
    for member, root in planted(arrays):
        leaf: int = add_path(arrays, root, row, values, float(shares[member]), found)
        model = leaf_model(arrays, leaf)
        if model:
            numeric = arrays.feature[:, state.F_KIND] == 0.0
            middle = np.where(numeric, arrays.feature[:, state.F_MEAN], 0.0)
            found += shares[member] * arrays.line[leaf, model - 1, :-1] * (filled - middle)
    terms = dict(zip(names.features, found.tolist(), strict=False))
    return {BASE: prediction - sum(terms.values())} | terms


def add_path(arrays: Arrays, node: int, row: Array, values: Array, share: float, found: Array) -> int:
    """Add a tree's steps on a row's way down; returns the leaf."""
    while arrays.node_i[node, state.FEATURE] >= 0:
        child = int(arrays.node_i[node, state.LEFT if left_of(arrays, node, row) else state.RIGHT])
        found[arrays.node_i[node, state.FEATURE]] += share * (values[child] - values[node])
        node = child
    return node


def left_of(arrays: Arrays, node: int, row: Array) -> bool:
    """Which way a row goes, as `tree.goes_left` decides."""
    i = arrays.node_i[node]
    value, mask = row[i[state.FEATURE]], int(i[state.MASK])
    if math.isnan(value) or (mask and not mask >> (state.BINS + int(value)) & 1):
        return bool(i[state.DEFAULT])
    return bool(mask >> int(value) & 1) if mask else bool(value <= arrays.node_f[node, state.THRESHOLD])
