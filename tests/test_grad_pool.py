"""Gradients of pooling, ties and NaN among them."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import pytest
from cases import Case
from gradients import FLOATS, assert_differences, assert_like_torch, call, seed_of
from numpy.typing import DTypeLike

import fastconv.functional as F
from fastconv.grad import vjp
from fastconv.machine.cpu import kernels

# PyTorch has no gradient where an adaptive output is empty.
POOLING = cases.MAX_POOL + cases.AVG_POOL + [case for case in cases.ADAPTIVE if "0" not in str(case.attrs)]
SIGNALS = [
    Case(op, (shape,), attrs)
    for op in ("max_pool1d", "avg_pool1d")
    for shape in ((2, 3, 11), (3, 11))
    for attrs in (
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2},
        {"kernel_size": (3,), "stride": (2,), "ceil_mode": True},
    )
] + [
    Case(op, (shape,), {"output_size": 4})
    for op in ("adaptive_max_pool1d", "adaptive_avg_pool1d")
    for shape in ((2, 3, 11), (3, 3))
]
MAXIMA = [case for case in POOLING + SIGNALS if "max" in case.op]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", POOLING + SIGNALS, ids=str)
def test_like_torch(case: Case, dtype: DTypeLike) -> None:
    assert_like_torch(case.op, case.arrays(dtype), case.attrs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", MAXIMA, ids=str)
def test_ties_go_to_the_first(case: Case, dtype: DTypeLike) -> None:
    x = np.random.default_rng(0).integers(-1, 2, size=case.shapes[0]).astype(dtype)
    assert_like_torch(case.op, [x], case.attrs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", MAXIMA[::5], ids=str)
def test_nan_is_a_maximum(case: Case, dtype: DTypeLike) -> None:
    (x,) = case.arrays(dtype)
    x[np.random.default_rng(1).random(x.shape) < 0.2] = np.nan
    x[np.random.default_rng(2).random(x.shape) < 0.1] = -np.inf
    assert_like_torch(case.op, [x], case.attrs)


@pytest.mark.parametrize("op", ["max_pool2d", "adaptive_max_pool2d"])
def test_with_indices_the_gradient_is_of_the_values(op: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    attrs = {"kernel_size": 2} if op == "max_pool2d" else {"output_size": 3}
    _, alone = call(op, [x], attrs)
    _, both = call(op, [x], {**attrs, "return_indices": True})
    np.testing.assert_array_equal(alone[0], both[0])


@pytest.mark.parametrize(
    "case",
    [
        Case("max_pool2d", ((2, 3, 7, 8),), {"kernel_size": 3, "stride": 2, "padding": 1}),
        Case("avg_pool2d", ((2, 3, 7, 8),), {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
        Case("adaptive_avg_pool2d", ((2, 3, 7, 8),), {"output_size": (3, 5)}),
        Case("adaptive_max_pool2d", ((2, 3, 7, 8),), {"output_size": (3, 5)}),
        Case("max_pool1d", ((2, 3, 9),), {"kernel_size": 2}),
        Case("avg_pool1d", ((2, 3, 9),), {"kernel_size": 2}),
    ],
    ids=str,
)
def test_differences(case: Case) -> None:
    assert_differences(case.op, case.arrays(np.float64), case.attrs)


def test_an_empty_adaptive_output_gives_zeros() -> None:
    x = np.ones((2, 3, 7, 10), np.float32)
    for op in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
        _, (gradient,) = call(op, [x], {"output_size": (0, 3)}, seed_of((2, 3, 0, 3), np.float32))
        np.testing.assert_array_equal(gradient, np.zeros_like(x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("shape", "attrs"),
    [
        ((1, 2, 6, 6), {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 7}),
        ((1, 2, 4, 4), {"kernel_size": (1, 2), "stride": 1, "padding": (0, 1), "dilation": (1, 5)}),
        ((1, 2, 4, 4), {"kernel_size": (2, 1), "stride": 1, "padding": (1, 0), "dilation": (5, 1)}),
    ],
)
def test_a_window_of_padding_has_no_maximum(shape: tuple[int, ...], attrs: dict[str, Any], dtype: DTypeLike) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    (y, places), pullback = vjp(F.max_pool2d, x, return_indices=True, **attrs)
    assert (y == -np.inf).all()
    assert (places == -1).all()
    np.testing.assert_array_equal(pullback(np.ones_like(y)), np.zeros_like(x))


def test_places_outside_a_plane_are_skipped() -> None:
    """Before the plane stands another one, and behind the last nothing may be written."""
    g, places = np.ones((2, 1, 5), np.float32), np.array([[[0, 3, 4, -1, 1 << 40]], [[-1, -4, 3, 4, -(1 << 40)]]])
    found = kernels().pool_gradient(g, places, None, None, 0.0, (2, 2, 2), 1)
    np.testing.assert_array_equal(found.reshape(2, 4), [[1, 0, 0, 1], [0, 0, 0, 1]])


def test_indices_that_the_caller_changes_are_not_those_of_the_pullback() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    (y, places), pullback = vjp(F.max_pool2d, x, 2, return_indices=True)
    before = pullback(y)
    places[...] = 1 << 40
    np.testing.assert_array_equal(pullback(y), before)


def test_the_number_of_a_tap_is_exact() -> None:
    """Beyond 2**24 not every integer is a float32."""
    count, place = (1 << 24) + 3, (1 << 24) + 1
    x = np.zeros((1, 1, count), np.float32)
    x[..., place] = 1
    y, places = F.max_pool1d(x, count, return_indices=True)
    assert (y.item(), places.item()) == (1, place)
