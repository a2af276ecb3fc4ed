"""The scoring plan: everything a prediction needs, in immutable flat arrays, without River or pickle.

Every expert is a weighted set of trees; a linear model is a tree that is one leaf. Nodes of all trees stand
in one table, leaves in another:

    node_feature    int32    column tested, -1 at a leaf
    node_threshold  float64  go to node_left where value <= threshold, else to node_right
    node_left, node_right    int32 nodes
    node_leaf       int32    row of the leaf table, -1 at a branch
    node_alternate  int32    leaf whose output is averaged in at a branch, -1 for none
    leaf_bias       float64  (leaves,)
    leaf_weights    float64  (leaves, columns): output = bias + weights . scaled row
    tree_root, tree_expert   int32; tree_weight float64: an expert is the weighted sum of its trees
    head_weight     float64  (heads, experts); head_bias, head_margin, head_share (heads,): the prediction is
                             the heads' sum by share, each bias + weights . clipped experts, put between the
                             lowest expert less its margin and the highest plus it; then clipped to the range
    expert_weight   float64  (experts,): each expert's share in the prediction, for people
    context         float64  the cells of all context tables, one table after the other
    impute, mean, scale      float64 (columns,): missing values, then (value - mean) / scale, 0 for scale 0

A file is safetensors bytes; its metadata has one key, ``plan``: a JSON object of ``info``
(:class:`PlanInfo`) and ``sha256``, that of the info's JSON and the arrays' bytes in the order of ARRAYS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from online.context import context_tables
from online.encoding import Encoder
from online.errors import PlanError, SchemaError
from online.home import write_atomically
from online.schema import Schema

__all__ = ["PlanInfo", "ScoringPlan"]

HEAD = "plan"
ARRAYS: dict[str, type] = {
    "context": np.float64,
    "impute": np.float64, "mean": np.float64, "scale": np.float64,
    "node_feature": np.int32, "node_threshold": np.float64, "node_left": np.int32, "node_right": np.int32,
    "node_leaf": np.int32, "node_alternate": np.int32, "leaf_bias": np.float64, "leaf_weights": np.float64,
    "tree_root": np.int32, "tree_expert": np.int32, "tree_weight": np.float64,
    "head_weight": np.float64, "head_bias": np.float64, "head_margin": np.float64, "head_share": np.float64,
    "expert_weight": np.float64,
}  # fmt: skip


class PlanInfo(msgspec.Struct, frozen=True):
    """What a plan says of itself.

    ``version`` is the newest snapshot of its lineage, ``seq`` the last journal record learned. Experts are
    clipped to [``low``, ``high``], in target units; one that is not finite gives ``fallback``. The interval
    is the prediction plus and minus ``half_width``.
    """

    schema: Schema
    version: int
    seq: int
    experts: tuple[str, ...]
    low: float
    high: float
    fallback: float
    half_width: float
    river: str


class Head(msgspec.Struct, frozen=True):
    """What a plan's file says of the arrays in it; ``info`` is the JSON of a PlanInfo, byte for byte."""

    info: msgspec.Raw
    sha256: str


class ScoringPlan:
    """A compiled pipeline. Immutable: any number of threads may score at once.

    Parameters
    ----------
    info
        What the plan is.
    arrays
        The arrays named in this module's docstring.
    """

    def __init__(self, info: PlanInfo, arrays: Mapping[str, np.ndarray]) -> None:
        self.info = info
        self.arrays: dict[str, np.ndarray] = {
            name: np.ascontiguousarray(arrays[name], dtype) for name, dtype in ARRAYS.items()
        }
        for array in self.arrays.values():
            array.setflags(write=False)
        self.encoder = Encoder.of(info.schema)
        self._context = context_tables(info.schema.used, info.schema.context, self.arrays["context"].tolist())
        self.columns = len(self.encoder.columns) + len(self._context)
        self.fields = frozenset(feature.name for feature in info.schema.features)
        self._has_alternates = bool((self.arrays["node_alternate"] >= 0).any())
        scale = self.arrays["scale"]
        self._varies = scale > 0.0
        self._divisor = np.where(self._varies, scale, 1.0)
        self._share = expert_shares(self.arrays, len(info.experts))

    def score(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score encoded rows.

        Parameters
        ----------
        rows
            Encoded values, then context features: float64 (n, columns), NaN where one is to be imputed.

        Returns
        -------
        tuple
            Predictions (n,) and the experts' outputs (n, experts), in target units, all finite.
        """
        a = self.arrays
        rows = np.where(np.isnan(rows), a["impute"], rows)
        scaled = np.where(self._varies, (rows - a["mean"]) / self._divisor, 0.0)
        with np.errstate(all="ignore"):  # an exploding expert is clipped below
            experts = self._trees(scaled) @ self._share
        info = self.info
        experts = np.where(np.isfinite(experts), np.clip(experts, info.low, info.high), info.fallback)
        return np.clip(self._heads(experts), info.low, info.high), experts

    def _heads(self, experts: np.ndarray) -> np.ndarray:
        """Experts' outputs (n, experts) combined, (n,)."""
        a = self.arrays
        lines = a["head_bias"] + experts @ a["head_weight"].T
        low, high = experts.min(axis=1, keepdims=True), experts.max(axis=1, keepdims=True)
        held = np.clip(lines, low - a["head_margin"], high + a["head_margin"])
        return np.asarray(held @ a["head_share"])

    def context(self, values: Sequence[float]) -> list[float]:
        """The context features of an encoded row; NaN where there is none yet."""
        return [table.get(values) for table in self._context]

    def score_row(self, row: Mapping[str, Any]) -> float:
        """The prediction for one raw row."""
        values = self.encoder.encode(row).values
        return float(self.score(np.array([values + self.context(values)]))[0][0])

    def _trees(self, scaled: np.ndarray) -> np.ndarray:
        """Every tree's output for every scaled row, (n, trees): all of them descend together."""
        a = self.arrays
        n = len(scaled)
        row = np.arange(n)[:, None]
        node = np.broadcast_to(a["tree_root"], (n, len(a["tree_root"])))
        total, found = np.zeros(node.shape), np.ones(node.shape)
        while True:
            feature = a["node_feature"][node]
            inner = feature >= 0
            if not inner.any():
                return np.asarray((total + self._leaf(a["node_leaf"][node], scaled)) / found)
            if self._has_alternates:
                self._add_alternates(node, scaled, total, found)
            left = scaled[row, np.where(inner, feature, 0)] <= a["node_threshold"][node]
            below = np.where(left, a["node_left"][node], a["node_right"][node])
            node = np.where(inner, below, node)

    def _leaf(self, leaf: np.ndarray, scaled: np.ndarray) -> np.ndarray:
        """Outputs of leaves (n, trees) for scaled rows (n, columns)."""
        a = self.arrays
        products = np.einsum("ntc,nc->nt", a["leaf_weights"][leaf], scaled)
        return np.asarray(a["leaf_bias"][leaf] + products)

    def _add_alternates(
        self, node: np.ndarray, scaled: np.ndarray, total: np.ndarray, found: np.ndarray
    ) -> None:
        alternate = self.arrays["node_alternate"][node]
        present = alternate >= 0
        if present.any():
            total += np.where(present, self._leaf(np.where(present, alternate, 0), scaled), 0.0)
            found += present

    def dumps(self) -> bytes:
        """The plan as bytes."""
        info = msgspec.json.encode(self.info)
        head = Head(msgspec.Raw(info), digest(info, self.arrays))
        return safetensors.numpy.save(self.arrays, {HEAD: msgspec.json.encode(head).decode()})

    def save(self, path: Path) -> None:
        """Publish the plan: readers see the old one or all of this one."""
        write_atomically(path, self.dumps())

    @classmethod
    def load(cls, path: Path) -> ScoringPlan:
        """Read a published plan.

        Raises
        ------
        PlanError
            The file is missing, torn, or no plan.
        """
        try:
            with safetensors.safe_open(path, framework="np") as file:
                head = msgspec.json.decode((file.metadata() or {})[HEAD], type=Head)
                arrays = {name: file.get_tensor(name) for name in ARRAYS}
            info = bytes(head.info)
            if digest(info, arrays) != head.sha256:
                raise PlanError(f"{path} is damaged: its sha256 is not the one it names")
            return cls(msgspec.json.decode(info, type=PlanInfo), arrays)
        except (
            OSError, LookupError, ValueError,
            msgspec.MsgspecError, safetensors.SafetensorError, SchemaError,
        ) as exc:  # fmt: skip
            raise PlanError(f"{path} is no whole plan: {exc}") from exc


def digest(info: bytes, arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of a plan's content, in hex."""
    content = hashlib.sha256(info)
    for name in ARRAYS:
        content.update(np.ascontiguousarray(arrays[name]).tobytes())
    return content.hexdigest()


def expert_shares(arrays: Mapping[str, np.ndarray], experts: int) -> np.ndarray:
    """Each tree's weight in each expert, (trees, experts)."""
    shares = np.zeros((len(arrays["tree_root"]), experts))
    shares[np.arange(len(shares)), arrays["tree_expert"]] = arrays["tree_weight"]
    return shares
