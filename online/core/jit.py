"""What all compiled kernels share: addresses in place of arrays, and a cache on disk that never fails.

Handing Numba an array costs 0.2-0.3 us each, which for the dozens of a model is more than scoring a row. So
kernels that are called from Python take addresses and sizes, and look at the arrays behind them: as arrays
through ``carray(pointer(address), ...)``, or element by element, which takes a fraction of the time to
compile when there are many, and checks no index.
"""

from __future__ import annotations

import functools
import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

__all__ = [
    "Array", "cached", "kept", "kernel", "lowest_bit", "pointer", "put_real", "put_whole", "real", "small",
    "source_hash", "whole",
]  # fmt: skip

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

# Kernels neither allocate nor count references to arrays; what they need beside their arguments is scratch
# space that the caller brings.
kernel = njit(error_model="numpy", _nrt=False)


@intrinsic
def pointer(typing: Any, address: Any) -> Any:
    """An address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


def _loading(kind: Any, result: Any) -> Any:
    """An intrinsic that reads one element of a C array of a kind, as a result type."""

    @intrinsic
    def load(typing: Any, address: Any, place: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            of = context.get_value_type(kind).as_pointer()
            value = builder.load(builder.gep(builder.inttoptr(args[0], of), [args[1]]))
            return context.cast(builder, value, kind, result)

        return result(types.int64, types.int64), generate

    return load


def _storing(kind: Any) -> Any:
    """An intrinsic that writes one element of a C array of a kind."""

    @intrinsic
    def store(typing: Any, address: Any, place: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            of = context.get_value_type(kind).as_pointer()
            builder.store(args[2], builder.gep(builder.inttoptr(args[0], of), [args[1]]))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, kind), generate

    return store


real = _loading(types.float64, types.float64)  # real(address, place): an element of a float64 array
whole = _loading(types.int64, types.int64)  # of an int64 array
small = _loading(types.int32, types.int64)  # of an int32 array
put_real = _storing(types.float64)  # put_real(address, place, value)
put_whole = _storing(types.int64)


@intrinsic
def lowest_bit(typing: Any, number: Any) -> Any:
    """The place of the lowest bit that is set, 64 when none is."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], cgutils.false_bit)

    return types.int64(types.int64), generate


@functools.cache
def source_hash(module_file: str) -> int:
    """A number that changes with any module of a module's folder, or with this one; never 0.

    Numba looks for a kernel's compiled form by the kernel's own source alone. So only outermost kernels,
    which contain all others, are kept on disk, and each mentions the hash of all it comes from: a change
    in any compiles it anew. The whole folder counts, as a list of modules kept by hand would be forgotten.
    """
    modules = sorted(Path(module_file).parent.glob("*.py"))
    return zlib.crc32(b"".join(module.read_bytes() for module in (*modules, Path(__file__)))) + 1


def cached(function: Callable[..., Any], signature: str, compiler: Callable[..., Any] = njit) -> Any:
    """Compile a function now, or load its compiled form, and keep that on disk where it can be.

    ``compiler`` is Numba's ``njit``, or ``cfunc`` for one that other things than Python call.

    The folder is ``NUMBA_CACHE_DIR``, else beside the source, else the user's own. When none of them can be
    written the kernel is compiled in every process: that costs start-up time and nothing else.
    """
    try:
        return compiler(signature, cache=True)(function)
    except (RuntimeError, OSError) as exc:
        log.warning("compiled kernels cannot be kept, which makes every start slower: %s", exc)
        return compiler(signature)(function)


def kept(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called, and keep its compiled form on disk where that can be.

    As :func:`cached`, for kernels that take arrays and scalars of whatever types they are called with.
    """
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # there is no folder to keep it in
        return njit(function)
