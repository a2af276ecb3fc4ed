"""What Numba takes a forest's arrays for: one pointer.

Handing thirty arrays from kernel to kernel makes functions of three hundred arguments, which LLVM chews on
for a minute and a half. To the kernels an `Arrays` is therefore the address of its handle, a row of sizes and
addresses, and ``s.node_f`` reads there where the array lies and how long it is. A handle never changes while
a kernel runs, so those reads are marked as invariant and cost next to nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel.models import PrimitiveModel
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, register_model
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import from_dtype

from online.forest.forest_state import LAYOUT, SIZES, Array, Arrays

__all__ = ["column_at", "fetch", "forest_at", "handle_of", "table_at"]

PLACES = {name: place for place, name in enumerate((*SIZES, *LAYOUT))}
WORD = types.int64
ROW_OF_WORDS = types.CPointer(WORD)
READ, NEAREST, DATA = 0, 3, 1  # as LLVM's prefetch numbers them


def handle_of(arrays: Arrays) -> Array:
    """The handle of a forest. All its arrays must be C-contiguous and outlive the handle."""
    sizes = arrays.sizes()
    addresses = [getattr(arrays, name).ctypes.data for name in LAYOUT]
    return np.array([*(sizes[name] for name in SIZES), *addresses], np.int64)


class Forest(types.Type):
    """Numba's type of a pointer to a handle."""

    def __init__(self) -> None:
        super().__init__(name="Forest")


FOREST = Forest()


@register_model(Forest)
class ForestModel(PrimitiveModel):
    """A pointer to words."""

    def __init__(self, manager: Any, forest: Any) -> None:
        super().__init__(manager, forest, manager.lookup(ROW_OF_WORDS).get_value_type())


def array_type(name: str) -> Any:
    """Numba's type of one of a forest's arrays."""
    dtype, shape = LAYOUT[name]
    return types.Array(from_dtype(np.dtype(dtype)), len(shape), "C")


@infer_getattr
class ForestAttributes(AttributeTemplate):
    """A forest's attributes are its arrays."""

    key = Forest

    def generic_resolve(self, forest: Any, name: str) -> Any:
        """The type of an attribute; None if there is none."""
        return array_type(name) if name in LAYOUT else None


def word(context: Any, builder: Any, handle: Any, name: str) -> Any:
    """Read a size or an address."""
    read = builder.load(builder.gep(handle, [context.get_constant(WORD, PLACES[name])]))
    read.set_metadata("invariant.load", builder.module.add_metadata([]))
    return read


def laid_out(context: Any, builder: Any, kind: Any, address: Any, shape: list[Any]) -> Any:
    """An array of Numba's without an owner, at an address."""
    array = make_array(kind)(context, builder)
    item = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    strides = [context.get_constant(WORD, item)]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    data = builder.inttoptr(address, context.get_data_type(kind.dtype).as_pointer())
    populate_array(array, data, shape, strides, context.get_constant(WORD, item), meminfo=None)
    return array._getvalue()


@lower_getattr_generic(Forest)
def lower_attribute(context: Any, builder: Any, kind: Any, handle: Any, name: str) -> Any:
    """Read one array's place and lengths."""
    shape = [
        context.get_constant(WORD, size) if isinstance(size, int) else word(context, builder, handle, size)
        for size in LAYOUT[name][1]
    ]
    array = laid_out(context, builder, array_type(name), word(context, builder, handle, name), shape)
    return impl_ret_borrowed(context, builder, array_type(name), array)


@intrinsic
def forest_at(typing: Any, address: Any) -> Any:
    """The forest whose handle lies at an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(ROW_OF_WORDS))

    return FOREST(types.int64), generate


@intrinsic
def column_at(typing: Any, address: Any, length: Any) -> Any:
    """So many doubles at an address."""
    kind = types.Array(types.float64, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return laid_out(context, builder, kind, args[0], list(args[1:]))

    return kind(types.int64, types.int64), generate


@intrinsic
def table_at(typing: Any, address: Any, rows: Any, columns: Any) -> Any:
    """A table of doubles at an address."""
    kind = types.Array(types.float64, 2, "C")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return laid_out(context, builder, kind, args[0], list(args[1:]))

    return kind(types.int64, types.int64, types.int64), generate


@intrinsic
def fetch(typing: Any, array: Any) -> Any:
    """Have the first element of an array brought nearer, without waiting for it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = builder.bitcast(make_array(array)(context, builder, args[0]).data, cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [data.type, *3 * [ir.IntType(32)]])
        name = f"llvm.prefetch.{data.type.intrinsic_name}"
        ask = cgutils.get_or_insert_function(builder.module, kind, name)
        builder.call(ask, [data, *(ir.Constant(ir.IntType(32), n) for n in (READ, NEAREST, DATA))])
        return context.get_dummy_value()

    return types.void(array), generate
