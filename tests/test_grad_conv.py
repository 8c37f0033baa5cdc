"""Gradients of convolutions and matrix products, and the functions of ``torch.nn.grad``."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cases
import numpy as np
import pytest
from cases import Case
from checks import assert_close, refused
from gradients import FLOATS, TOLERANCE, assert_differences, assert_like_torch
from numpy.typing import DTypeLike

from fastconv import grad

SIGNALS = [
    Case(op, shapes, attrs)
    for op, weight in (("conv1d", (4, 3, 3)), ("conv_transpose1d", (3, 4, 3)))
    for shapes in (((2, 3, 11), weight, (4,)), ((3, 11), weight), ((0, 3, 11), weight, (4,)))
    for attrs in ({}, {"stride": 2, "padding": 1}, {"dilation": (2,), "padding": (1,)}, {"stride": 4})
] + [
    Case("conv1d", ((2, 3, 11), (4, 3, 4)), {"padding": "same"}),
    Case("conv1d", ((2, 4, 12), (6, 2, 3), (6,)), {"groups": 2, "stride": 3, "padding": 2}),
    Case("conv_transpose1d", ((2, 4, 5), (4, 3, 3), (6,)), {"groups": 2, "stride": 3, "output_padding": 2}),
]
PRODUCTS = [
    Case("matmul", shapes)
    for shapes in (
        *(((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 5)), ((4,), (4, 5))),
        *(((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4,)), ((4,), (2, 4, 5)), ((0, 4), (4, 5)), ((33, 65), (65, 17))),
    )
] + [Case("bmm", ((2, 3, 4), (2, 4, 5)))]
# Sums over several blocks of pixels and pieces of images, and rows of pixels around the vectors' widths.
BLOCKS = [
    Case("conv2d", ((19, 3, 40, 41), (5, 3, 3, 3), (5,)), {"padding": 1}),
    Case("conv2d", ((2, 7, 70, 33), (9, 7, 2, 2)), {"stride": 2}),
    *(Case("conv2d", ((3, 2, 4, n), (7, 2, 2, 3)), {"padding": (0, 1)}) for n in cases.AROUND_VECTOR_WIDTH),
    *(Case("conv2d", ((2, 3, 5, 6), (n, 3, 1, 1), (n,)), {"stride": (1, 2)}) for n in cases.AROUND_VECTOR_WIDTH),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "case", cases.CONV + cases.CONV_TRANSPOSE + cases.LINEAR + SIGNALS + PRODUCTS + BLOCKS, ids=str
)
def test_like_torch(case: Case, dtype: DTypeLike) -> None:
    if case.op == "linear" and not case.arrays(dtype)[0].shape[-1]:
        pytest.skip("PyTorch has no gradient without features")
    assert_like_torch(case.op, case.arrays(dtype), case.attrs)


@pytest.mark.parametrize(
    "case",
    [
        Case("conv2d", ((2, 4, 7, 6), (6, 2, 3, 2), (6,)), {"groups": 2, "stride": (2, 1), "padding": 1}),
        Case("conv2d", ((1, 3, 6, 6), (4, 3, 3, 3), (4,)), {"dilation": 2, "padding": "same"}),
        Case("conv_transpose2d", ((2, 4, 4, 3), (4, 2, 3, 3), (4,)), {"groups": 2, "stride": 2, "output_padding": 1}),
        Case("conv1d", ((2, 3, 9), (4, 3, 3), (4,)), {"stride": 2}),
        Case("conv_transpose1d", ((2, 3, 9), (3, 4, 3), (4,)), {"padding": 1}),
        Case("linear", ((3, 5), (4, 5), (4,))),
        Case("matmul", ((2, 3, 4), (4, 5))),
    ],
    ids=str,
)
def test_differences(case: Case) -> None:
    assert_differences(case.op, case.arrays(np.float64), case.attrs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("op", "x", "weight", "attrs"),
    [
        ("conv2d", (2, 4, 9, 8), (6, 2, 3, 3), {"groups": 2, "stride": 2, "padding": 1}),
        ("conv2d", (2, 3, 9, 8), (5, 3, 3, 2), {"dilation": (1, 2)}),
        ("conv2d", (2, 3, 9, 8), (5, 3, 3, 3), {"padding": 1}),
        ("conv1d", (2, 3, 9), (5, 3, 3), {"stride": 2, "padding": 1}),
    ],
)
def test_functions_of_torch_nn_grad(
    op: str, x: tuple[int, ...], weight: tuple[int, ...], attrs: dict[str, Any], dtype: DTypeLike
) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    image, kernel = rng.standard_normal(x).astype(dtype), rng.standard_normal(weight).astype(dtype)
    wide = torch.tensor(image.astype(np.float64)), torch.tensor(kernel.astype(np.float64))
    g = rng.standard_normal(tuple(getattr(torch.nn.functional, op)(*wide, **attrs).shape)).astype(dtype)
    seed = torch.tensor(g.astype(np.float64))
    for found, wanted in (
        (
            getattr(grad, f"{op}_input")(x, kernel, g, **attrs),
            getattr(torch.nn.grad, f"{op}_input")(x, wide[1], seed, **attrs),
        ),
        (
            getattr(grad, f"{op}_weight")(image, weight, g, **attrs),
            getattr(torch.nn.grad, f"{op}_weight")(wide[0], weight, seed, **attrs),
        ),
    ):
        assert found.dtype == dtype
        assert_close(found, wanted.numpy(), TOLERANCE[np.dtype(dtype)])


def test_shapes_that_do_not_fit_are_refused() -> None:
    x, weight = np.ones((2, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
    with refused(match=r"conv2d_input: grad_output must be \(2, 4, 6, 6\), as the convolution's output, got \(2, 4, 5"):
        grad.conv2d_input(x.shape, weight, np.ones((2, 4, 5, 5), np.float32))
    with refused(match=r"conv2d_weight: weight_size must have 4 axes, got \(4, 3, 3\)"):
        grad.conv2d_weight(x, (4, 3, 3), np.ones((2, 4, 6, 6), np.float32))
    with refused(match="conv2d_weight: grad_output is float64, input is float32"):
        grad.conv2d_weight(x, weight.shape, np.ones((2, 4, 6, 6)))


def test_sizes_that_do_not_fit_take_no_memory() -> None:
    x, g = np.ones((2, 3, 8, 8), np.float32), np.ones((2, 4, 6, 6), np.float32)
    for size, match in (
        ((10**9, 2, 3, 3), r"grad_output must have as many channels as there are kernels, 1000000000 of"),
        ((4, 10**9, 3, 3), r"kernels \(4, 1000000000, 3, 3\) in 1 groups do not fit an input \(2, 3, 8, 8\)"),
        ((4, 3, 10**6, 10**6), r"kernels \(4, 3, 1000000, 1000000\) are larger than the padded input"),
        ((4, 3, -3, 3), r"conv2d_weight: weight_size must hold no negative sizes, got \(4, 3, -3, 3\)"),
    ):
        tracemalloc.start()
        with refused(match=match):
            grad.conv2d_weight(x, size, g)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 1 << 20


@pytest.mark.parametrize("size", [None, 3, "abcd", (2, 3, 8.0, 8)])
def test_sizes_that_are_none_are_refused(size: Any) -> None:
    weight, g = np.ones((4, 3, 3, 3), np.float32), np.ones((2, 4, 6, 6), np.float32)
    with refused(match="conv2d_input: input_size must be"):
        grad.conv2d_input(size, weight, g)
    with refused(match="conv2d_weight: weight_size must be"):
        grad.conv2d_weight(g, size, g)


def test_values_that_are_not_finite_stay_where_they_belong() -> None:
    x, weight = np.ones((2, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
    g = np.ones((2, 4, 8, 8), np.float32)
    g[1, 2, 4, 4] = np.nan
    of_x, of_weight, of_bias = grad.vjp(_conv2d(), x, weight, np.zeros(4, np.float32), padding=1)[1](g)
    assert np.isfinite(of_x[0]).all()
    there = np.zeros((8, 8), bool)
    there[3:6, 3:6] = True
    np.testing.assert_array_equal(np.isnan(of_x[1]), np.broadcast_to(there, (3, 8, 8)))
    np.testing.assert_array_equal(np.isnan(of_weight).any((1, 2, 3)), [False, False, True, False])
    np.testing.assert_array_equal(np.isnan(of_bias), [False, False, True, False])


def _conv2d() -> Any:
    import fastconv.functional

    return fastconv.functional.conv2d
