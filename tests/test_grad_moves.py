"""Gradients of what moves, resizes, reduces and sorts."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cases
import numpy as np
import pytest
from cases import Case
from checks import assert_close
from gradients import FLOATS, assert_differences, assert_like_torch, seed_of
from numpy.typing import DTypeLike, NDArray

import fastconv.functional as F
from fastconv.grad import vjp

MOVES = [
    Case("permute", ((2, 3, 4),), {"dims": (2, 0, 1)}),
    Case("permute", ((2, 3, 4),), {"dims": (-1, 1, 0)}),
    Case("transpose", ((2, 3, 4),), {"dim0": 0, "dim1": -1}),
    Case("flip", ((2, 3, 4),), {"dims": (0, 2)}),
    Case("roll", ((2, 5),), {"shifts": (1, 2), "dims": (0, 1)}),
    Case("roll", ((2, 5),), {"shifts": 3}),
    Case("reshape", ((4, 6),), {"shape": (3, -1)}),
    Case("flatten", ((2, 3, 4),), {"start_dim": 1}),
    Case("cumsum", ((),), {"dim": 0}),
    Case("topk", ((4, 7),), {"k": 3}),
    Case("topk", ((4, 7),), {"k": 2, "dim": 0, "largest": False}),
]
RESIZE = [case for case in cases.RESIZE if case.op != "grid_sample"] + [
    Case("interpolate", ((2, 3, 7),), {"mode": mode} | size)
    for mode in ("nearest", "linear")
    for size in ({"scale_factor": 1.75}, {"size": 4}, {"size": (9,)})
]
# Over no axis PyTorch's variances divide by the number of one element.
REDUCE = [
    Case(op, ((3, 4, 5),), {"dim": dim, "keepdim": keepdim})
    for op in ("sum", "mean", "amax", "amin", "logsumexp", "std", "var")
    for dim in (0, (0, 2), -1, (0, 1, 2))
    for keepdim in (False, True)
] + [
    *(Case(op, ((3, 4),), {}) for op in ("sum", "mean", "std", "var", "prod", "amax", "vector_norm")),
    *(Case("vector_norm", ((3, 4, 5),), {"ord": order, "dim": 1}) for order in (1, 2, float("inf"))),
    *(Case("var", ((3, 4),), {"dim": 1, "correction": correction}) for correction in (0, 2)),
    *(Case("prod", ((3, 4),), {"dim": dim}) for dim in (0, 1)),
    *(Case(op, ((),), {}) for op in ("sum", "mean")),
]
ALL = cases.UNFOLD + cases.FOLD + cases.PAD + MOVES + RESIZE + cases.ORDER + REDUCE


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", ALL, ids=str)
def test_like_torch(case: Case, dtype: DTypeLike) -> None:
    assert_like_torch(case.op, case.arrays(dtype), case.attrs)


@pytest.mark.parametrize("op", ["amax", "amin"])
def test_equal_extremes_share(op: str) -> None:
    x = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.float64)
    assert_like_torch(op, [x], {"dim": (0, 2)})


def test_a_product_with_zeros() -> None:
    x = np.array([[0.0, 1, 2], [0, 0, 3], [1, 2, 3]])
    assert_like_torch("prod", [x], {"dim": 1})


@pytest.mark.parametrize(
    "case",
    [
        *(Case("interpolate", ((1, 2, 5, 6),), {"size": (7, 4), "mode": mode}) for mode in ("bilinear", "bicubic")),
        Case("pad", ((2, 3, 5),), {"pad": (2, 1), "mode": "reflect"}),
        Case("fold", ((2, 12, 6),), {"output_size": (7, 8), "kernel_size": 2, "stride": 3}),
        *(case for case in REDUCE if case.attrs.get("dim") == (0, 2)),
        Case("cumsum", ((2, 9, 5),), {"dim": 1}),
        Case("topk", ((4, 7),), {"k": 3}),
    ],
    ids=str,
)
def test_differences(case: Case) -> None:
    assert_differences(case.op, case.arrays(np.float64), case.attrs)


def _drawn(*shape: int) -> NDArray[Any]:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def test_a_list_of_arrays_gets_a_tuple() -> None:
    first, second, g = _drawn(2, 3), _drawn(2, 5), _drawn(2, 8)
    parts = vjp(F.cat, [first, second], 1)[1](g)
    assert isinstance(parts, tuple)
    np.testing.assert_array_equal(parts[0], g[:, :3])
    np.testing.assert_array_equal(parts[1], g[:, 3:])
    g = _drawn(2, 2, 3)
    for index, part in enumerate(vjp(F.stack, (first, first), -2)[1](g)):
        np.testing.assert_array_equal(part, g[:, index])
    empty = np.zeros(0, np.float32)
    nothing, whole = vjp(F.cat, [empty, first])[1](first)
    assert nothing.shape == (0,)
    np.testing.assert_array_equal(whole, first)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_an_index_that_is_taken_twice_gets_both(dim: int) -> None:
    x, index = _drawn(4, 5), np.array([1, 1, 3])
    y, pullback = vjp(F.index_select, x, dim, index)
    g = seed_of(y.shape, np.float32)
    found, none = pullback(g)
    expected = np.zeros_like(x)
    np.add.at(expected, (index,) if dim == 0 else (slice(None), index), g)
    assert none is None
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_broadcasting_is_summed_back() -> None:
    x = _drawn(3, 1)
    y, pullback = vjp(F.broadcast_to, x, (2, 3, 4))
    g = seed_of(y.shape, np.float32)
    np.testing.assert_allclose(pullback(g), g.sum((0, 2)).reshape(3, 1), rtol=1e-6)
    assert pullback(np.ones_like(y)).tolist() == [[8.0]] * 3


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "dim"), [((0, 3), 1), ((0, 3), 0), ((3, 0, 2), 0), ((3, 0, 2), 2), ((2, 0), 1)])
def test_a_product_of_nothing(shape: tuple[int, ...], dim: int, dtype: DTypeLike) -> None:
    assert_like_torch("prod", [np.zeros(shape, dtype)], {"dim": dim})


def test_lists_of_different_lengths() -> None:
    parts = vjp(F.cat, [[1.0, 2.0], [3.0]])[1](np.array([1.0, 2, 3]))
    assert [part.tolist() for part in parts] == [[1, 2], [3]]
    (_, none) = vjp(F.matmul, [[1.0, 2.0]], [[1.0], [2.0]])[1](np.ones((1, 1)), wrt="input")
    assert none is None


LONG = [
    *({"mode": "linear", "size": size, "align_corners": corners} for size in (5, 4001) for corners in (False, True)),
    {"mode": "linear", "scale_factor": 2.0},
    {"mode": "nearest", "scale_factor": [1.3]},
    {"mode": "nearest-exact", "size": 777},
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("attrs", LONG, ids=str)
def test_interpolation_of_long_signals(attrs: dict[str, Any], dtype: DTypeLike) -> None:
    for length in (1, 2, 2000):
        x = np.random.default_rng(0).standard_normal((1, 2, length)).astype(dtype)
        assert_like_torch("interpolate", [x], attrs)


def test_interpolation_takes_no_more_than_its_taps() -> None:
    x = np.zeros((1, 1, 20000), np.float32)
    y, pullback = vjp(F.interpolate, x, scale_factor=2.0, mode="linear")
    tracemalloc.start()
    pullback(y)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 16 << 20  # a matrix of both lengths is 3 GB


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_infinity_goes_to_its_taps_alone(mode: str, value: float) -> None:
    torch = pytest.importorskip("torch")
    x, g = np.zeros((1, 2, 9, 11)), np.ones((1, 2, 13, 14))
    g[0, 1, 6, 5] = value
    tensor = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.interpolate(tensor, size=(13, 14), mode=mode)
    (wanted,) = torch.autograd.grad(y, tensor, torch.tensor(g))
    found = vjp(F.interpolate, x, (13, 14), mode=mode)[1](g)
    assert 0 < (~np.isfinite(found)).sum() <= 16
    assert_close(found, wanted.numpy(), 1e-12)
