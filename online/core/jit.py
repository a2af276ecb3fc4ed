"""Compiled kernels: the decorators that make them, and how they read arrays by address.

Handing Numba an array costs 0.2-0.3 us each, which for the dozens of a model is more than scoring a row. So
kernels that are called from Python take addresses and sizes, and look at the arrays behind them: element by
element (``load_f64(address, index)``), which takes a fraction of the time to compile when there are many, or
as arrays (:func:`vector_at`, :func:`matrix_at`). Neither checks an index. Many arrays travel as one *array
table*: a row of int64 words, sizes and addresses, in an order that its reader was built with
(:func:`table_reader`, :func:`table_pointer`).

This is the only module that uses Numba's private parts (``numba.core``, ``_nrt``, its function cache) and
llvmlite. ``pyproject.toml`` bounds Numba's version for that reason, and ``tests/test_jit.py`` holds the
contract.
"""

from __future__ import annotations

import functools
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, sigutils
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.datamodel.models import PrimitiveModel
from numba.core.dispatcher import Dispatcher
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, register_model
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import from_dtype

__all__ = [
    "Array", "cfunc_cached", "count_trailing_zeros", "kernel", "load_f64", "load_i32", "load_i64",
    "matrix_at", "njit_cached", "prefetch", "sources_hash", "store_f64", "store_i64", "table_pointer",
    "table_reader", "vector_at",
]  # fmt: skip

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# The decorators


def kernel(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compile a kernel that only other kernels call.

    Such kernels neither allocate nor count references to arrays (``_nrt=False``: it takes the forest's ten
    trees from some 100 to 40 us a row); what they need beside their arguments is scratch space that the
    caller brings. Division by zero gives infinity, as in NumPy.
    """
    # no_cfunc_wrapper: nothing but Numba calls them, and each wrapper would be compiled as well
    compiled: Callable[Arguments, Result] = njit(error_model="numpy", _nrt=False, no_cfunc_wrapper=True)(
        function
    )
    return compiled


def njit_cached(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compile a function when it is first called, and keep its compiled form on disk where that can be.

    The folder is ``NUMBA_CACHE_DIR``, else beside the source, else the user's own. When none of them can be
    written the function is compiled in every process: that costs start-up time and nothing else.
    """
    compiled: Callable[Arguments, Result] = njit(function)
    if isinstance(compiled, Dispatcher):  # not with NUMBA_DISABLE_JIT
        keep_on_disk(compiled, function)
    return compiled


def cfunc_cached(signature: str) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function now, as one that C can call, or load its compiled form; kept on disk likewise.

    The result has the code's ``address``, and must be kept for as long as that is called.
    """

    def compile_now(function: Callable[..., Any]) -> Any:
        compiled = CFunc(function, sigutils.normalize_signature(signature), locals={}, options={})
        keep_on_disk(compiled, function)
        compiled.compile()
        return compiled

    return compile_now


def keep_on_disk(compiled: Any, function: Callable[..., Any]) -> None:
    """Have compiled forms of a function kept on disk, if there is a folder for them."""
    try:
        compiled._cache = PackageCache(function)
    except RuntimeError as exc:
        log.warning("compiled kernels cannot be kept, which makes every start slower: %s", exc)


class PackageCache(FunctionCache):
    """Numba's cache of compiled forms, which here also notices a change in any other module of the package.

    Numba looks for a function's compiled form by the function's own source file, but the form contains all
    kernels that the function calls, and constants of modules beside them. So all modules of the function's
    folder count, as a list kept by hand would be forgotten, those of other folders whose kernels it calls,
    and this one.
    """

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), sources_hash(frozenset(sources_of(self._py_func))))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled form for a signature; None, and it is compiled, when it cannot be had."""
        try:
            return super().load_overload(sig, target_context)
        except OSError as exc:
            log.warning("a compiled kernel cannot be read, it is compiled anew: %s", exc)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled form; a full or read-only disk costs the next start time and nothing else."""
        try:
            super().save_overload(sig, data)
        except OSError as exc:
            log.warning("a compiled kernel cannot be kept, which makes the next start slower: %s", exc)


def sources_of(function: Callable[..., Any]) -> set[Path]:
    """The modules that a function's compiled form may come from."""
    module = Path(function.__code__.co_filename)
    return {Path(__file__), *module.parent.glob("*.py"), *kernel_modules(function)}


def kernel_modules(function: Callable[..., Any]) -> set[Path]:
    """The modules of a function and of all kernels that it calls."""
    seen, waiting = {function}, [function]
    while waiting:
        caller = waiting.pop()
        for called in map(caller.__globals__.get, caller.__code__.co_names):
            if isinstance(called, Dispatcher) and called.py_func not in seen:
                seen.add(called.py_func)
                waiting.append(called.py_func)
    return {Path(kernel_function.__code__.co_filename) for kernel_function in seen}


@functools.cache
def sources_hash(modules: frozenset[Path]) -> int:
    """A checksum of modules, read once a process."""
    return zlib.crc32(b"".join(module.read_bytes() for module in sorted(modules)))


# Elements by address


def _loading(element: Any, result: Any) -> Any:
    """An intrinsic that reads one element of a C array, as a result type."""

    @intrinsic
    def load(typing: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = context.get_value_type(element).as_pointer()
            value = builder.load(builder.gep(builder.inttoptr(args[0], pointer), [args[1]]))
            return context.cast(builder, value, element, result)

        return result(types.int64, types.int64), generate

    return load


def _storing(element: Any) -> Any:
    """An intrinsic that writes one element of a C array."""

    @intrinsic
    def store(typing: Any, address: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = context.get_value_type(element).as_pointer()
            builder.store(args[2], builder.gep(builder.inttoptr(args[0], pointer), [args[1]]))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, element), generate

    return store


load_f64 = _loading(types.float64, types.float64)  # load_f64(address, index): an element of a float64 array
load_i64 = _loading(types.int64, types.int64)
load_i32 = _loading(types.int32, types.int64)
store_f64 = _storing(types.float64)  # store_f64(address, index, value)
store_i64 = _storing(types.int64)


@intrinsic
def count_trailing_zeros(typing: Any, number: Any) -> Any:
    """The index of the lowest bit that is set.

    Parameters
    ----------
    typing
        Numba's own; kernels leave it out, here and below.
    number
        An int64.

    Returns
    -------
    int64
        64 when no bit is set.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], cgutils.false_bit)

    return types.int64(types.int64), generate


# Arrays by address


def _array_value(context: Any, builder: Any, array_type: Any, address: Any, shape: list[Any]) -> Any:
    """A C-contiguous array of Numba's without an owner, at an address."""
    array = make_array(array_type)(context, builder)
    itemsize = context.get_abi_sizeof(context.get_data_type(array_type.dtype))
    strides = [context.get_constant(types.int64, itemsize)]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    data = builder.inttoptr(address, context.get_data_type(array_type.dtype).as_pointer())
    constant_itemsize = context.get_constant(types.int64, itemsize)
    populate_array(array, data, shape, strides, constant_itemsize, meminfo=None)
    return array._getvalue()


@intrinsic
def vector_at(typing: Any, address: Any, length: Any) -> Any:
    """Doubles at an address, as an array.

    Parameters
    ----------
    typing
        Numba's own.
    address, length
        Where the first is, and how many there are.

    Returns
    -------
    array
        (length,) float64, which owns nothing.
    """
    array_type = types.Array(types.float64, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _array_value(context, builder, array_type, args[0], list(args[1:]))

    return array_type(types.int64, types.int64), generate


@intrinsic
def matrix_at(typing: Any, address: Any, rows: Any, columns: Any) -> Any:
    """Rows of doubles at an address, as an array.

    Parameters
    ----------
    typing
        Numba's own.
    address, rows, columns
        Where the first is, how many rows there are, and how many doubles in each.

    Returns
    -------
    array
        (rows, columns) float64, C-contiguous, which owns nothing.
    """
    array_type = types.Array(types.float64, 2, "C")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _array_value(context, builder, array_type, args[0], list(args[1:]))

    return array_type(types.int64, types.int64, types.int64), generate


_FOR_READING, _KEEP_CLOSEST, _DATA_CACHE = 0, 3, 1  # as LLVM numbers llvm.prefetch's arguments


@intrinsic
def prefetch(typing: Any, array: Any) -> Any:
    """Have the first element of an array brought into the processor's cache, without waiting for it.

    Parameters
    ----------
    typing
        Numba's own.
    array
        Any.

    Returns
    -------
    void
        Nothing.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = builder.bitcast(make_array(array)(context, builder, args[0]).data, cgutils.voidptr_t)
        function_type = ir.FunctionType(ir.VoidType(), [data.type, *3 * [ir.IntType(32)]])
        name = f"llvm.prefetch.{data.type.intrinsic_name}"
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        hints = (_FOR_READING, _KEEP_CLOSEST, _DATA_CACHE)
        builder.call(function, [data, *(ir.Constant(ir.IntType(32), hint) for hint in hints)])
        return context.get_dummy_value()

    return types.void(array), generate


# Array tables


def table_reader(words: type) -> Any:
    """An intrinsic that reads a whole array table at an address into a NamedTuple of ints.

    Parameters
    ----------
    words
        The NamedTuple class; its fields name the table's words in their order.
    """
    tuple_type = types.NamedUniTuple(types.int64, len(words._fields), words)  # type: ignore[attr-defined]

    @intrinsic
    def read_table(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            first = builder.inttoptr(args[0], context.get_value_type(types.int64).as_pointer())
            offsets = (context.get_constant(types.int64, offset) for offset in range(len(tuple_type)))
            values = [builder.load(builder.gep(first, [offset])) for offset in offsets]
            return context.make_tuple(builder, tuple_type, values)

        return tuple_type(types.int64), generate

    return read_table


def table_pointer(
    name: str, sizes: Sequence[str], layout: Mapping[str, tuple[type, tuple[int | str, ...]]]
) -> Any:
    """An intrinsic that takes the address of an array table for an object with arrays as attributes.

    Handing thirty arrays from kernel to kernel makes functions of three hundred arguments, which LLVM chews
    on for a minute and a half; a pointer is one. An attribute is read from the table where it is used. A
    table never changes while a kernel runs, so those reads are marked as invariant and cost next to nothing.

    Parameters
    ----------
    name
        What Numba is to call the type.
    sizes
        The names of the lengths, which are the table's first words.
    layout
        The arrays, whose addresses follow, by name: type, and shape in numbers or names of lengths.

    Returns
    -------
    callable
        ``at(address)``, for kernels alone.
    """
    offsets = {word: offset for offset, word in enumerate((*sizes, *layout))}
    words = types.CPointer(types.int64)
    array_types = {
        field: types.Array(from_dtype(np.dtype(dtype)), len(shape), "C")
        for field, (dtype, shape) in layout.items()
    }

    class Table(types.Type):
        """The pointer's type."""

        def __init__(self) -> None:
            super().__init__(name=name)

    @register_model(Table)
    class TableModel(PrimitiveModel):
        """A pointer to words."""

        def __init__(self, manager: Any, table: Any) -> None:
            super().__init__(manager, table, manager.lookup(words).get_value_type())

    @infer_getattr
    class TableAttributes(AttributeTemplate):
        """The attributes are the arrays."""

        key = Table

        def generic_resolve(self, _table: Any, field: str) -> Any:
            """The type of an attribute; None if there is none."""
            return array_types.get(field)

    def load_word(context: Any, builder: Any, table: Any, word: str) -> Any:
        value = builder.load(builder.gep(table, [context.get_constant(types.int64, offsets[word])]))
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    @lower_getattr_generic(Table)
    def lower_attribute(context: Any, builder: Any, _type: Any, table: Any, field: str) -> Any:
        shape = [
            context.get_constant(types.int64, size)
            if isinstance(size, int)
            else load_word(context, builder, table, size)
            for size in layout[field][1]
        ]
        address = load_word(context, builder, table, field)
        array = _array_value(context, builder, array_types[field], address, shape)
        return impl_ret_borrowed(context, builder, array_types[field], array)

    table_type = Table()

    @intrinsic
    def table_at(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(words))

        return table_type(types.int64), generate

    return table_at
