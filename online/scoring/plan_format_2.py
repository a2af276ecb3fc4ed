"""Plans of format 2, as the release before wrote them: served at once, until the learner publishes anew.

They have other names for some arrays, and River's trees have their alternates beside them
(``node_alternate``), which :func:`online.scoring.river_tree_arrays.merge_alternates` turns into plain trees.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from online.core.jit import Array
from online.scoring.kernels.plan_arrays import CHILD_BITS, COLUMN_BIT, WEIGHTS_AT
from online.scoring.plan_checks import within
from online.scoring.tree_arrays import leaf_rows, node_words

__all__ = ["from_format_2"]

RENAMED = {
    "expert_tree": "expert_tree_start",
    "expert_read": "expert_read_start",
    "expert_reach": "expert_missing_above",
    "read_place": "read_column",
    "difficulty": "group_error",
}


def from_format_2(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of a plan of format 2 as this format has them.

    Raises
    ------
    LookupError, ValueError
        They are not those of such a plan.
    """
    renamed = {RENAMED.get(name, name): array for name, array in arrays.items()}
    alternates, has_alternates = renamed.pop("node_alternate"), renamed.pop("expert_beside")
    if not within(alternates + 1, len(renamed["node"]) + 1):
        raise ValueError("array 'node_alternate' points outside 'node'")
    for expert in np.flatnonzero(has_alternates):
        renamed |= without_alternates(renamed, alternates, int(expert))
    return renamed


def without_alternates(arrays: Mapping[str, Array], alternates: Array, expert: int) -> dict[str, Array]:
    """The arrays that differ when an expert's trees are plain ones, added behind all others."""
    from online.scoring.river_tree_arrays import (  # with it come River's trees, and half of SciPy
        Branch,
        merge_alternates,
    )

    node, leaf, weight = arrays["node"], arrays["leaf"], arrays["weight"]
    threshold, link = node[:, 0].copy().view(np.float64), node[:, 1]
    trees = slice(*arrays["expert_tree_start"][expert : expert + 2])
    columns = arrays["read_column"][slice(*arrays["expert_read_start"][expert : expert + 2])]

    def look(number: int) -> Branch | None:
        if link[number] < 0:
            return None
        child = int(link[number] & CHILD_BITS)
        beside = int(alternates[number]) if number < len(alternates) and alternates[number] >= 0 else None
        return Branch(int(link[number] >> COLUMN_BIT), threshold[number], child, child + 1, beside)

    def answer(number: int) -> Array:
        row = leaf[link[number] & CHILD_BITS]
        line = np.zeros(1 + len(columns))
        line[0], first = row[0], int(row[WEIGHTS_AT])
        if first >= 0:
            line[1:] = weight[first : first + len(columns)]
        return line

    roots = [int(root) for root in arrays["tree_root"][trees]]
    merged = merge_alternates(roots, arrays["tree_weight"][trees], columns, look=look, answer=answer)
    nodes, merged_roots = node_words(merged, len(node), len(leaf))
    leaves, weights = leaf_rows(merged, len(weight))
    tree_root = arrays["tree_root"].copy()
    tree_root[trees] = merged_roots
    return {
        "node": np.concatenate((node, nodes)),
        "leaf": np.concatenate((leaf, leaves)),
        "weight": np.concatenate((weight, weights)),
        "tree_root": tree_root,
    }
