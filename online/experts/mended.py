"""River's Hoeffding adaptive tree for regression with its alternate trees mended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from river import tree
from river.tree.nodes import hatr_nodes

__all__ = ["MendedAdaptiveTree"]


class MendedAdaptiveTree(tree.HoeffdingAdaptiveTreeRegressor):
    """A Hoeffding adaptive tree [1]_ whose alternate trees grow beside the main one until a test decides.

    River 0.26.1 hands an alternate tree the parent of the branch it grows beside. So the alternate's first
    split is put in the place of that branch, before any test has compared the two; and once an alternate has
    branches, `traverse` gives a list within the list. Here an alternate's splits stay with the alternate, and
    leaves of alternates are averaged into the prediction, as River means to do.

    Parameters are those of River's tree.

    References
    ----------
    .. [1] Bifet, A., Gavaldà, R., 2009. Adaptive learning from evolving data streams. IDA, 249-260.

    Examples
    --------
    >>> import random
    >>> from online.experts.mended import MendedAdaptiveTree
    >>> rng = random.Random(7)
    >>> model = MendedAdaptiveTree(seed=7, drift_window_threshold=10**9)
    >>> for i in range(6000):
    ...     x = {"a": rng.uniform(-1, 1)}
    ...     model.learn_one(x, 5.0 * ((x["a"] > 0) == (i % 4000 < 2000)))
    >>> model.n_alternate_trees > 0, model.n_switch_alternate_trees
    (True, 0)
    """

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"seed": 1}

    def _branch_selector(self, numerical_feature: bool = True, multiway_split: bool = False) -> Any:
        return MENDED[super()._branch_selector(numerical_feature, multiway_split)]

    def _attempt_to_split(self, leaf: Any, parent: Any, parent_branch: Any, **kwargs: Any) -> None:
        place = placed(self, leaf, parent, parent_branch)
        super()._attempt_to_split(leaf, *place, **kwargs)


class Beside:
    """Where an alternate tree is: stands in for its parent, with the one child that it is."""

    def __init__(self, branch: Any) -> None:
        self._branch = branch

    @property
    def children(self) -> Beside:
        """What is assigned to by River, and read, as if it were a list of children."""
        return self

    def __getitem__(self, index: int) -> Any:
        return self._branch._alternate_tree

    def __setitem__(self, index: int, node: Any) -> None:
        self._branch._alternate_tree = node


def placed(model: Any, node: Any, parent: Any, parent_branch: Any) -> tuple[Any, Any]:
    """The parent of a node and its place there, which is beside a branch when that has the place given."""
    there = model._root if parent is None else parent.children[parent_branch]
    return (parent, parent_branch) if there is node else (Beside(there), 0)


class MendedBranch(hatr_nodes.AdaBranchRegressor):
    """A branch that knows whether it is the root of an alternate tree."""

    def learn_one(
        self,
        x: Any,
        y: float,
        *,
        w: float = 1.0,
        tree: Any = None,
        parent: Any = None,
        parent_branch: Any = None,
    ) -> None:
        """Learn one row, and have switches and splits happen where this branch is."""
        parent, parent_branch = placed(tree, self, parent, parent_branch)
        super().learn_one(x, y, w=w, tree=tree, parent=parent, parent_branch=parent_branch)

    def traverse(self, x: Any, until_leaf: bool = True) -> list[Any]:
        """Return the leaves a row comes to, those of alternate trees first."""
        found: list[Any] = []
        for node in self.walk(x, until_leaf=until_leaf):
            beside = getattr(node, "_alternate_tree", None)
            if isinstance(beside, hatr_nodes.AdaBranchRegressor):
                found += beside.traverse(x, until_leaf=until_leaf)
            elif beside is not None:
                found.append(beside)
        return [*found, node]


class MendedNominalBinary(MendedBranch, hatr_nodes.AdaNomBinaryBranchReg):
    """A yes-no branch on a category."""


class MendedNumericBinary(MendedBranch, hatr_nodes.AdaNumBinaryBranchReg):
    """A branch on a threshold."""


class MendedNominalMultiway(MendedBranch, hatr_nodes.AdaNomMultiwayBranchReg):
    """A branch with a child a category."""


class MendedNumericMultiway(MendedBranch, hatr_nodes.AdaNumMultiwayBranchReg):
    """A branch with a child a range."""


MENDED = {
    hatr_nodes.AdaNomBinaryBranchReg: MendedNominalBinary,
    hatr_nodes.AdaNumBinaryBranchReg: MendedNumericBinary,
    hatr_nodes.AdaNomMultiwayBranchReg: MendedNominalMultiway,
    hatr_nodes.AdaNumMultiwayBranchReg: MendedNumericMultiway,
}
