"""``fastconv.functional.conv2d``: every algorithm on every case."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import pytest
from checks import Peer, assert_agree, engine, oracle

import fastconv.functional

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
ALGORITHMS = cases.CONV_ALGORITHMS


@pytest.mark.parametrize(("case", "algorithm"), cases.with_algorithms(cases.CONV))
def test_float32(case: cases.Case, algorithm: str, peer: Peer) -> None:
    arrays = case.arrays(F32)
    expected = peer("conv2d", *arrays, **case.attrs)
    assert_agree(engine("conv2d", *arrays, **case.attrs, algorithm=algorithm), expected, F32)


@pytest.mark.parametrize("case", cases.CONV, ids=str)
def test_float64(case: cases.Case, peer: Peer) -> None:
    arrays = case.arrays(F64)
    expected = peer("conv2d", *arrays, **case.attrs)
    assert_agree(engine("conv2d", *arrays, **case.attrs), expected, F64)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (3, 3), (5, 4)])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 8), (9, 16), (17, 31)])
def test_every_stride_and_padding(size: tuple[int, int], kernel: tuple[int, int], algorithm: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, *size)).astype(F32)
    w = rng.standard_normal((5, 3, *kernel)).astype(F32)
    for stride in (1, 2, 3, (2, 1)):
        for padding in (0, 1, 2, 5, (0, 3), (3, 1)):
            pads = (padding, padding) if isinstance(padding, int) else padding
            if any(n + 2 * p < k for n, p, k in zip(size, pads, kernel, strict=True)):
                continue
            expected = oracle("conv2d", x, w, stride=stride, padding=padding)
            actual = engine("conv2d", x, w, stride=stride, padding=padding, algorithm=algorithm)
            assert_agree(actual, expected, F32)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_single_pixel_lands_where_it_should(algorithm: str) -> None:
    # An impulse through distinct weights returns the kernel, mirrored: no symmetry hides a mix-up.
    x = np.zeros((1, 2, 7, 9), F32)
    x[0, 1, 3, 4] = 1.0
    w = np.arange(1, 1 + 3 * 2 * 3 * 5, dtype=F32).reshape(3, 2, 3, 5)
    y = engine("conv2d", x, w, padding=(1, 2), algorithm=algorithm)
    expected = np.zeros((1, 3, 7, 9), F32)
    expected[0, :, 2:5, 2:7] = w[:, 1, ::-1, ::-1]
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "winograd"])
@pytest.mark.parametrize("bias", [0.0, 3.5])
def test_zero_weights_return_the_bias(algorithm: str, bias: float) -> None:
    x = np.ones((2, 5, 6, 7), F32)
    w = np.zeros((9, 5, 3, 3), F32)
    y = engine("conv2d", x, w, np.full(9, bias, F32), padding=1, algorithm=algorithm)
    np.testing.assert_array_equal(y, np.full((2, 9, 6, 7), bias, F32))


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "winograd"])
def test_sums_of_integers_are_exact(algorithm: str) -> None:
    # Small integers: every partial sum is exact in float32, whatever the order.
    rng = np.random.default_rng(0)
    x = rng.integers(-8, 9, (2, 13, 12, 11)).astype(F32)
    w = rng.integers(-8, 9, (17, 13, 3, 3)).astype(F32)
    expected = oracle("conv2d", x, w, padding=1)
    np.testing.assert_array_equal(engine("conv2d", x, w, padding=1, algorithm=algorithm), expected)


@pytest.mark.parametrize(("case", "algorithm"), cases.with_algorithms(cases.CONV_LAYERS))
def test_an_image_keeps_its_bits_in_any_batch(case: cases.Case, algorithm: str) -> None:
    x, *weights = case.arrays(F32)
    rng = np.random.default_rng(0)
    batch = np.concatenate([rng.standard_normal(x.shape).astype(F32), x, x[:, :, ::-1], x])
    alone = engine("conv2d", x, *weights, **case.attrs, algorithm=algorithm)
    together = engine("conv2d", batch, *weights, **case.attrs, algorithm=algorithm)
    np.testing.assert_array_equal(together[1], alone[0])
    np.testing.assert_array_equal(together[3], alone[0])


def test_winograd_is_what_pays_for_its_weights() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 64, 56, 56)).astype(F32)
    w = rng.standard_normal((64, 64, 3, 3)).astype(F32)
    winograd, exact = (engine("conv2d", x, w, padding=1, algorithm=name) for name in ("winograd", "exact"))
    assert_agree(winograd, exact, F32)
    assert winograd.tobytes() != exact.tobytes()
    assert engine("conv2d", x, w, padding=1).tobytes() == winograd.tobytes()
    pixel = x[:, :, :3, :3].copy()  # one output: all of the work would be the transform of the weights
    winograd, exact, chosen = (engine("conv2d", pixel, w, algorithm=name) for name in ("winograd", "exact", "auto"))
    assert winograd.tobytes() != exact.tobytes()
    assert chosen.tobytes() == exact.tobytes()


@pytest.mark.parametrize("of", ["input", "weight", "sum"])
def test_what_winograd_leaves_not_finite_has_the_bits_of_another_kernel(of: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 6, 9, 8)).astype(F32)
    w = rng.standard_normal((7, 6, 3, 3)).astype(F32)
    sound = [0, 2, 4]
    if of == "input":
        x[1, 2, 8, 7], x[3, 0, 0, 0] = np.inf, np.nan
    elif of == "weight":
        w[6, 5, 2, 2] = -np.inf
        sound = []
    else:  # d0 - d2 overflows, and no output does
        x[1, 0, 2:5:2] = 3e38
        x[1, 0, 2] = -3e38
        w[:, 0] *= 1e-3
    broken = [i for i in range(5) if i not in sound and not (of == "sum" and i == 3)]
    winograd, exact = (engine("conv2d", x, w, padding=1, algorithm=name) for name in ("winograd", "exact"))
    assert np.isfinite(exact[1]).all() == (of == "sum")
    for i in range(5):
        assert (winograd[i].tobytes() == exact[i].tobytes()) == (i in broken)
        alone = engine("conv2d", x[i : i + 1], w, padding=1, algorithm="winograd")
        assert alone.tobytes() == winograd[i : i + 1].tobytes()


@pytest.mark.parametrize(
    ("attrs", "kernel", "dtype"),
    [({"stride": 2}, 3, F32), ({"dilation": 2}, 3, F32), ({"groups": 2}, 3, F32), ({}, 5, F32), ({}, 3, F64)],
)
def test_winograd_is_for_3x3(attrs: dict[str, int], kernel: int, dtype: Any) -> None:
    x, w = np.ones((1, 4, 9, 9), dtype), np.ones((4, 4 // attrs.get("groups", 1), kernel, kernel), dtype)
    with pytest.raises(fastconv.UnsupportedOperatorError, match="conv2d: algorithm='winograd' cannot"):
        fastconv.functional.conv2d(x, w, algorithm="winograd", **attrs)
