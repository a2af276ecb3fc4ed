"""Whether a plan's arrays fit together: kernels look at no index, so a wrong one would read anywhere.

All checks follow from the description in :mod:`online.scoring.kernels.plan_arrays`, but those of the packed
nodes and of the leaf table, whose elements mean several things.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from online.core.errors import PlanError
from online.core.jit import Array
from online.scoring.kernels.plan_arrays import (
    CHILD_BITS,
    COLUMN_BIT,
    NODE_LINK,
    STORED,
    WEIGHTS_AT,
    ArraySpec,
)

__all__ = ["checked_arrays"]


def checked_arrays(arrays: Mapping[str, Array], experts: int) -> dict[str, Array]:
    """A plan's arrays as kernels take them, read-only.

    Parameters
    ----------
    arrays
        By name; those that the description does not have are left out.
    experts
        How many there are.

    Returns
    -------
    dict
        C-contiguous arrays of the described types, in the order of the description.

    Raises
    ------
    PlanError
        An array is missing, of another type or shape, or points outside another; it is named.
    """
    checked = {name: converted(name, spec, arrays) for name, spec in STORED.items()}
    check_shapes(checked, experts)
    for name, spec in STORED.items():
        check_targets(name, spec, checked)
    check_nodes(checked)
    check_leaves(checked)
    for array in checked.values():
        array.setflags(write=False)
    return checked


def converted(name: str, spec: ArraySpec, arrays: Mapping[str, Array]) -> Array:
    """One array as kernels take it."""
    if name not in arrays:
        raise PlanError(f"array {name!r} is missing")
    try:
        return np.ascontiguousarray(arrays[name], spec.dtype)
    except (ValueError, TypeError) as exc:
        raise PlanError(f"array {name!r} cannot be read as {spec.dtype.__name__}: {exc}") from exc


def check_shapes(arrays: Mapping[str, Array], experts: int) -> None:
    """Every named dimension must be as long in all arrays."""
    known = {"experts": (experts, "the plan's info")}
    for name, array in arrays.items():
        shape = STORED[name].shape
        if array.ndim != len(shape):
            raise PlanError(f"array {name!r} has {array.ndim} dimensions, not {len(shape)}")
        for length, dimension in zip(array.shape, shape, strict=True):
            if isinstance(dimension, int):
                expected, source = dimension, "the format"
            else:
                base, _, more = dimension.partition("+")
                expected, source = known.setdefault(base, (length - int(more or 0), f"array {name!r}"))
                expected += int(more or 0)
            if length != expected:
                raise PlanError(
                    f"array {name!r} is of shape {array.shape}: {length} in place of the {expected}"
                    f" that {source} says"
                )


def check_targets(name: str, spec: ArraySpec, arrays: Mapping[str, Array]) -> None:
    """Everything an array points at must be there."""
    array = arrays[name]
    if spec.rows_of and not within(array, len(arrays[spec.rows_of])):
        raise PlanError(f"array {name!r} points outside {spec.rows_of!r}")
    if spec.columns_of_row and not within(array, 2 * len(arrays["impute"])):
        raise PlanError(f"array {name!r} points outside the columns of a row")
    if spec.starts_of:
        length = len(arrays[spec.starts_of])
        if array[0] != 0 or array[-1] != length or (np.diff(array) < 0).any():
            raise PlanError(
                f"array {name!r} does not divide {spec.starts_of!r}, of {length} rows, into parts"
            )


def check_nodes(arrays: Mapping[str, Array]) -> None:
    """Branches must test columns of a row and lead to two nodes, leaves have a row of the leaf table."""
    link = arrays["node"][:, NODE_LINK]
    inner, low_bits = link >= 0, link & CHILD_BITS
    if not within(link[inner] >> COLUMN_BIT, 2 * len(arrays["impute"])):
        raise PlanError("array 'node' points outside the columns of a row")
    if not within(low_bits[inner], len(link) - 1):  # the second child is the one after
        raise PlanError("array 'node' points outside 'node'")
    if not (link[~inner] >> COLUMN_BIT == -1).all():
        raise PlanError("array 'node' points outside the columns of a row")
    if not within(low_bits[~inner], len(arrays["leaf"])):
        raise PlanError("array 'node' points outside 'leaf'")


def check_leaves(arrays: Mapping[str, Array]) -> None:
    """Where a leaf has weights, they must be there."""
    start = arrays["leaf"][:, WEIGHTS_AT]
    if not within(start + 1, len(arrays["weight"]) + 2):  # -1 is none; at the end, a line of no weights
        raise PlanError("array 'leaf' points outside 'weight'")


def within(indices: Array, length: int) -> bool:
    """Whether all indices are in [0, length); NaN is not."""
    return not indices.size or bool(indices.min() >= 0 and indices.max() < length)
