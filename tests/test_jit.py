"""The contract with Numba's private parts: what ``online/core/jit.py`` relies on."""

from __future__ import annotations

import ctypes
import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest

from online.core.clip import clip, clip_in_kernel
from online.core.jit import (
    Array,
    cfunc_cached,
    count_trailing_zeros,
    kernel,
    load_f64,
    load_i32,
    load_i64,
    matrix_at,
    njit_cached,
    prefetch,
    sources_hash,
    store_f64,
    store_i64,
    table_pointer,
    table_reader,
    vector_at,
)


class Words(NamedTuple):
    first: int
    second: int


read_words = table_reader(Words)
pair_at = table_pointer(
    "Pair", ("rows",), {"left": (np.float64, ("rows",)), "right": (np.int32, (2, "rows"))}
)


@njit_cached
def elements(doubles: int, wholes: int, smalls: int) -> float:
    store_f64(doubles, 1, load_f64(doubles, 0) + 1.0)
    store_i64(wholes, 1, load_i64(wholes, 0) + load_i32(smalls, 1))
    return float(load_f64(doubles, 1))


@njit_cached
def words_of(table: int) -> tuple[int, int]:
    words: Words = read_words(table)
    return words.second, words.first


@njit_cached
def sums(table: int) -> tuple[float, int, int]:
    pair = pair_at(table)
    prefetch(pair.left)
    return pair.left.sum(), pair.right[1].sum(), pair.right.shape[1]


@njit_cached
def last_of(address: int, rows: int, columns: int) -> tuple[float, float]:
    return vector_at(address, rows * columns)[-1], matrix_at(address, rows, columns)[rows - 1, 0]


@njit_cached
def trailing(number: int) -> int:
    return int(count_trailing_zeros(number))


@kernel
def over(a: float, b: float) -> float:
    return a / b


@njit_cached
def ratio(a: float, b: float) -> float:
    return over(a, b)


def test_elements_are_read_and_written_by_address() -> None:
    doubles, wholes, smalls = np.array([2.5, 0.0]), np.array([2**40, 0]), np.array([7, -3], np.int32)
    assert elements(doubles.ctypes.data, wholes.ctypes.data, smalls.ctypes.data) == 3.5
    assert (doubles[1], wholes[1]) == (3.5, 2**40 - 3)


def test_arrays_are_read_by_address() -> None:
    rows: Array = np.arange(6.0)
    assert last_of(rows.ctypes.data, 2, 3) == (5.0, 3.0)


def test_an_array_table_is_read_whole_or_through_a_pointer() -> None:
    left, right = np.array([1.0, 2.0, 4.0]), np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    table = np.array([3, left.ctypes.data, right.ctypes.data])
    assert words_of(table.ctypes.data) == (left.ctypes.data, 3)
    assert sums(table.ctypes.data) == (7.0, 15, 3)


def test_trailing_zeros_are_counted() -> None:
    assert [trailing(number) for number in (1, 8, -(2**63), 0)] == [0, 3, 63, 64]


def test_kernels_divide_as_numpy_does() -> None:
    assert ratio(1.0, 0.0) == np.inf


@njit_cached
def clipped(value: float, low: float, high: float) -> float:
    return clip_in_kernel(value, low, high)


def test_kernels_clip_as_python_does() -> None:
    for value in (-math.inf, -1.5, 0.0, 0.5, 2.5, math.inf):
        for low, high in ((-1.0, 1.0), (0.0, 0.0), (1.0, -1.0)):
            assert clipped(value, low, high) == clip(value, low, high)


def test_a_function_for_c_is_called_by_its_address() -> None:
    code = cfunc_cached("int64(int64)")(twice)
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address)(21) == 42


def twice(number: int) -> int:
    return 2 * number


OUTER = """
from online.core.jit import njit_cached
from {package}.inner import step

@njit_cached
def outer(number):
    return step(number)
"""
INNER = """
from online.core.jit import kernel

@kernel
def step(number):
    return number + {size}
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """A cached function of a package of two modules, as a new process loads it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    package = tmp_path / "kernels_of_a_test"
    package.mkdir()
    (package / "outer.py").write_text(OUTER.format(package=package.name))

    def load(size: int) -> Any:
        (package / "inner.py").write_text(INNER.format(size=size))
        for name in [name for name in sys.modules if name.startswith(package.name)]:
            del sys.modules[name]
        sources_hash.cache_clear()
        importlib.invalidate_caches()
        return importlib.import_module(f"{package.name}.outer").outer

    return load


def test_a_compiled_form_is_kept_until_any_module_of_its_package_changes(load: Callable[[int], Any]) -> None:
    for size, hits in ((1, 0), (1, 1), (2, 0), (2, 1)):
        outer = load(size)
        assert outer(40) == 40 + size
        assert sum(outer.stats.cache_hits.values()) == hits


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(
    load: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
    assert load(1)(40) == 41
    assert "cannot be kept" in caplog.text


def test_no_folder_at_all_costs_nothing_but_time(
    load: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    assert load(1)(40) == 41
    assert "cannot be kept" in caplog.text
