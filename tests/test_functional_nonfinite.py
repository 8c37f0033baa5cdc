"""NaN and infinity: where they go, and where they must not go."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import pytest
from cases import Case
from checks import Peer, assert_agree, engine
from numpy.typing import NDArray

from fastconv.machine.cpu import kernels

F32 = np.dtype(np.float32)
ALGORITHMS = cases.CONV_ALGORITHMS
BAD = [np.nan, np.inf, -np.inf]
LENGTHS = (1, 4, 8, 16, 33)  # within a vector, a whole one, past one


def _sprinkled(x: NDArray[Any], seed: int = 0) -> NDArray[Any]:
    """Replace about one value in thirty, and at least one, by NaN or an infinity."""
    rng = np.random.default_rng(seed)
    flat = x.copy().reshape(-1)
    where = rng.choice(flat.size, size=1 + flat.size // 30, replace=False)
    flat[where] = rng.choice(BAD, size=where.size)
    sprinkled: NDArray[Any] = flat.reshape(x.shape)
    return sprinkled


@pytest.mark.parametrize(
    ("case", "algorithm"),
    cases.with_algorithms([c for c in cases.CONV_SIZES + cases.CONV_ATTRIBUTES if 0 not in c.shapes[0]]),
)
def test_conv2d_spreads_them_over_their_windows_only(case: Case, algorithm: str, peer: Peer) -> None:
    x, *weights = case.arrays(F32)
    x = _sprinkled(x)
    expected = peer("conv2d", x, *weights, **case.attrs)
    actual = engine("conv2d", x, *weights, **case.attrs, algorithm=algorithm)
    assert_agree(actual, expected, F32)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_conv2d_keeps_them_in_their_image_and_group(algorithm: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 6, 7, 9)).astype(F32)
    w = rng.standard_normal((4, 3, 3, 3)).astype(F32)
    x[1, 3:] = np.nan  # the second group of the second image
    y = engine("conv2d", x, w, padding=1, groups=2, algorithm=algorithm)
    assert np.isnan(y[1, 2:]).all()
    assert np.isfinite(y[1, :2]).all()
    assert np.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "winograd"])
@pytest.mark.parametrize("bad", BAD)
def test_conv2d_keeps_a_bad_weight_or_bias_in_its_channel(algorithm: str, bad: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, (2, 3, 6, 7)).astype(F32)
    w = rng.standard_normal((9, 3, 3, 3)).astype(F32)
    b = rng.standard_normal(9).astype(F32)
    w[4, 1, 1, 1] = b[7] = bad
    y = engine("conv2d", x, w, b, algorithm=algorithm)
    np.testing.assert_array_equal(y[:, [4, 7]], np.full((2, 2, 4, 5), bad, F32))
    assert np.isfinite(np.delete(y, [4, 7], axis=1)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 3, 4, 7, 8, 9, 15, 16, 17, 63, 64, 65, 129, 300])
def test_images_that_are_not_finite_are_found(size: int, dtype: type) -> None:
    not_finite = kernels().not_finite
    x = np.full((3, size), np.finfo(dtype).max, dtype)
    x[:, ::2] *= -1
    assert not_finite(x, 1) is None
    for place in range(3 * size):
        image, element = divmod(place, size)
        kept, x[image, element] = x[image, element], BAD[place % 3]
        found = not_finite(x, 1)
        assert found is not None
        assert found.tolist() == [i == image for i in range(3)]
        x[image, element] = kept


def test_images_that_are_not_finite_are_found_by_two_threads() -> None:
    x = np.zeros((3, 100_001), F32)  # the threads' shares meet within an image
    assert kernels().not_finite(x, 2) is None
    for place in (0, 100_000, 150_000, 150_001, 150_002, 300_002):
        x.flat[place] = np.nan
        found = kernels().not_finite(x, 2)
        assert found is not None
        assert found.tolist() == [i == place // 100_001 for i in range(3)]
        x.flat[place] = 0
    assert kernels().not_finite(x[:0], 2) is None


@pytest.mark.parametrize("op", ["relu", "leaky_relu", "hardtanh", "relu6", "sigmoid", "tanh"])
@pytest.mark.parametrize("length", LENGTHS)
def test_activations_in_every_lane(op: str, length: int, peer: Peer) -> None:
    values = np.array([*BAD, 0.0, 3e38, -3e38, 50.0, -50.0, 1e-30, -1e-30], F32)
    for shift in range(len(values)):
        x = np.resize(np.roll(values, shift), length)
        assert_agree(engine(op, x), peer(op, x), F32)


@pytest.mark.parametrize("slope", [0.0, -1.0, np.inf, np.nan])
def test_leaky_relu_slopes(slope: float, peer: Peer) -> None:
    x = np.array([*BAD, 1.0, -1.0, 2.5, -2.5] * 5, F32)
    expected = peer("leaky_relu", x, negative_slope=slope)
    assert_agree(engine("leaky_relu", x, slope), expected, F32)


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [0, 1])
def test_softmax(op: str, dim: int, peer: Peer) -> None:
    rows = [
        [1.0, np.nan, 2.0],
        [np.inf, 1.0, -np.inf],
        [np.inf, np.inf, 0.0],
        [-np.inf, -np.inf, -np.inf],
        [-np.inf, 1.0, 2.0],
        [1000.0, 1001.0, -1000.0],
        [1e38, -1e38, 2e38],
    ]
    for row in rows:
        x = np.array([row, [0.5, -1.5, 2.0]], F32)
        x = x if dim == 1 else x.T
        assert_agree(engine(op, x, dim), peer(op, x, dim=dim), F32)


@pytest.mark.parametrize("channels", LENGTHS)
@pytest.mark.parametrize("bad", BAD)
def test_max_pool2d_at_every_tap(channels: int, bad: float, peer: Peer) -> None:
    # NaN wins from any place in the window and any lane of a vector; -inf only among its like.
    rng = np.random.default_rng(0)
    for tap in range(9):
        x = rng.standard_normal((1, channels, 3, 3)).astype(F32)
        x[0, tap % channels].flat[tap] = bad
        for attrs in ({"kernel_size": 3}, {"kernel_size": 2, "stride": 1}):
            expected = peer("max_pool2d", x, return_indices=True, **attrs)
            assert_agree(engine("max_pool2d", x, return_indices=True, **attrs), expected, F32)
            assert_agree(engine("max_pool2d", x, **attrs), expected[0], F32)
        expected = peer("adaptive_max_pool2d", x, output_size=2, return_indices=True)
        assert_agree(engine("adaptive_max_pool2d", x, 2, return_indices=True), expected, F32)


def test_max_pool2d_reports_the_last_nan_and_the_first_of_equals() -> None:
    x = np.zeros((1, 1, 2, 4), F32)
    x[0, 0, 0, 0] = x[0, 0, 1, 1] = np.nan
    for op in ("max_pool2d", "adaptive_max_pool2d"):
        size = 2 if op == "max_pool2d" else (1, 2)
        values, indices = engine(op, x, size, return_indices=True)
        np.testing.assert_array_equal(values, np.array([[[[np.nan, 0.0]]]], F32))
        np.testing.assert_array_equal(indices, [[[[5, 2]]]])


@pytest.mark.parametrize("case", cases.COVERED_MAX_POOL, ids=str)
def test_max_pooling_of_nothing_but_minus_infinity(case: Case, peer: Peer) -> None:
    # Padding never wins, not even against an equal -inf: every index lies in the image.
    x = np.full(case.shapes[0], -np.inf, F32)
    values, indices = engine(case.op, x, return_indices=True, **case.attrs)
    assert (values == -np.inf).all()
    _, expected = peer(case.op, x, return_indices=True, **case.attrs)
    np.testing.assert_array_equal(indices, expected)


@pytest.mark.parametrize(
    "case",
    [
        *(c for c in cases.MAX_POOL + cases.AVG_POOL if c.shapes[0] == (2, 3, 10, 11)),
        *(c for c in cases.ADAPTIVE if c.shapes[0] == (2, 3, 7, 10)),
        *(c for c in cases.UNFOLD + cases.FOLD + cases.PAD if 0 not in c.shapes[0]),
        *(c for c in cases.LINEAR + cases.BATCH_NORM if 0 not in c.shapes[0]),
    ],
    ids=str,
)
def test_sprinkled_over_the_input(case: Case, peer: Peer) -> None:
    x, *others = case.arrays(F32)
    x = _sprinkled(x)
    actual = engine(case.op, x, *others, **case.attrs)
    assert_agree(actual, peer(case.op, x, *others, **case.attrs), F32)
