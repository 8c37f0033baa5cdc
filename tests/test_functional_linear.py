"""Linear layers on the caller's memory: the same bits wherever a row stands, and sums that round little."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from checks import TOLERANCE, assert_close, engine
from numpy.typing import NDArray

from fastconv.machine.cpu import kernels

FLOATS = [np.float32, np.float64]
AROUND = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15, 16, 17, 31, 33)


def arrays(rows: int, features: int, out: int, dtype: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(rows * 10_000_000 + features * 10_000 + out)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in ((rows, features), (out, features), (out,)))  # type: ignore[return-value]


def in_float64(x: NDArray[Any], w: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    return x.astype(np.float64) @ w.astype(np.float64).T + b


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("features", [*AROUND, 100, 257, 784, 1031])
def test_every_height_and_width_of_a_tile(features: int, dtype: Any) -> None:
    x, w, b = arrays(33, features, 33, dtype)
    whole = engine("linear", x, w, b)
    assert_close(whole, in_float64(x, w, b), TOLERANCE[np.dtype(dtype)])
    for rows, out in itertools.product(AROUND, AROUND):
        part = engine("linear", x[:rows], w[:out].copy(), b[:out].copy())
        np.testing.assert_array_equal(part, whole[:rows, :out])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("rows", "features", "out"), [(1, 4096, 1000), (37, 4096, 129), (3, 20_000, 17), (1100, 1024, 40)]
)
def test_large_layers(rows: int, features: int, out: int, dtype: Any) -> None:
    x, w, b = arrays(rows, features, out, dtype)
    y = engine("linear", x, w, b)
    expected = in_float64(x, w, b)
    if dtype is np.float64:
        expected = (
            (x.astype(np.longdouble) @ w.astype(np.longdouble).T + b).astype(np.float64) if rows < 4 else expected
        )
    assert_close(y, expected, TOLERANCE[np.dtype(dtype)])
    # A row has the same bits alone and last, and an output the same among fewer.
    np.testing.assert_array_equal(engine("linear", x[-1], w, b), y[-1])
    np.testing.assert_array_equal(engine("linear", x, w[-9:], b[-9:]), y[:, -9:])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("rows", "features", "out"), [(1, 4096, 1003), (7, 2048, 701), (250, 300, 130), (61, 513, 257)]
)
def test_threads_change_no_bit(rows: int, features: int, out: int, dtype: Any) -> None:
    x, w, b = arrays(rows, features, out, dtype)
    linear = kernels().linear_rows
    alone = linear(x, w, b, 1)
    for threads in (2, 3, 5, 16):
        np.testing.assert_array_equal(linear(x, w, b, threads), alone)


def test_a_long_sum_rounds_less_than_a_chain() -> None:
    x, w, b = arrays(4, 4096, 4, np.float32)
    chain = np.zeros((4, 4), np.float32)
    for k in range(4096):
        chain += x[:, k, None] * w[None, :, k]
    expected = in_float64(x, w, b)
    assert np.abs(engine("linear", x, w, b) - expected).max() < np.abs(chain + b - expected).max()


@pytest.mark.parametrize("dtype", FLOATS)
def test_one_nan_spoils_its_own_row_and_column_only(dtype: Any) -> None:
    x, w, b = arrays(9, 35, 11, dtype)
    clean = engine("linear", x, w, b)
    x[4, 34], w[7, 3], b[2] = np.nan, np.inf, np.nan
    y = engine("linear", x, w, b)
    assert np.isnan(y[4]).all()
    assert np.isnan(y[:, 2]).all()
    assert not np.isfinite(y[:, 7]).any()
    rows, columns = np.delete(np.arange(9), 4), np.delete(np.arange(11), [2, 7])
    np.testing.assert_array_equal(y[np.ix_(rows, columns)], clean[np.ix_(rows, columns)])


@pytest.mark.parametrize(
    "wrong", [None, "x", [1.0], np.float32(1), np.zeros(3), np.zeros((2, 3), np.float16)], ids=repr
)
def test_the_kernel_leaves_what_it_does_not_know_to_its_caller(wrong: Any) -> None:
    x, w, b = arrays(2, 3, 4, np.float32)
    linear = kernels().linear_rows
    assert linear(wrong, w, b, 1) is NotImplemented
    assert linear(x, wrong, b, 1) is NotImplemented
    if wrong is not None:
        assert linear(x, w, wrong, 1) is NotImplemented
    assert linear(x[:, ::-1], w, b, 1) is NotImplemented
    assert linear(x, w[:3], b, 1) is NotImplemented
