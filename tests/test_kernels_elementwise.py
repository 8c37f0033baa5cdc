"""The vectorised elementwise kernels at every level that was built and that this CPU runs.

The levels' modules load side by side, so one process tests them all.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from math import erfc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference

from fastconv._base import level
from fastconv.machine import cpu

NAMES = list(cpu.LEVELS)
HERE = NAMES[1 : NAMES.index(level()) + 1] if level() != "generic" else ["generic"]
BUILT = [name for name in HERE if find_spec(f"fastconv.kernels.{cpu.LEVELS[name]}")]

Array = npt.NDArray[Any]
Float = type[np.float32] | type[np.float64]
DTYPES = [np.float32, np.float64]
LONG = np.longdouble
"""The reference's precision: 64 bits of mantissa on x86-64."""

# Largest errors in units of the last place. Measured over 5 million values, at the worst level: 1.07, 2.43, 2.14.
ULPS = {"exp": 2.0, "sigmoid": 2.5, "tanh": 2.5}
REFERENCE: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
PARAMETERS = {"hardtanh": (-0.5, 0.75), "leaky_relu": (0.1, 0.0), "elu": (0.5, 1.5), "softplus": (1.0, 20.0)}


@pytest.fixture(params=BUILT)
def kernels(request: pytest.FixtureRequest) -> Any:
    return import_module(f"fastconv.kernels.{cpu.LEVELS[request.param]}._kernels")


def act(kernels: Any, name: str, x: Array, threads: int = 1) -> Array:
    y = kernels.elementwise(kernels.ACTIVATIONS[name], x, *PARAMETERS.get(name, (0.0, 0.0)), threads)
    assert y is not NotImplemented
    result: Array = y
    return result


def same_bits(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def sample(dtype: Float) -> Array:
    """Values over the whole range of exp, dense near 0, and many tiny ones."""
    rng = np.random.default_rng(7)
    top = 88.0 if dtype is np.float32 else 709.0
    edges = np.log(np.array([np.finfo(dtype).max, np.finfo(dtype).tiny], LONG))
    around = [np.nextafter(edge.astype(dtype), 0) for edge in edges]
    tiny = rng.normal(size=100_000) * 10.0 ** rng.uniform(-30, 0, 100_000)
    return np.concatenate(
        [rng.uniform(-top, top, 300_000), rng.normal(size=300_000), np.linspace(-20, 20, 200_001), tiny, around]
    ).astype(dtype)


def ulps(y: Array, exact: Array) -> Array:
    """Errors in units of the last place of the exact value, where that is neither infinite nor denormal."""
    limits = np.finfo(y.dtype)
    counted = (np.abs(exact) <= limits.max) & (np.abs(exact) >= limits.tiny)
    unit = np.spacing(np.abs(exact[counted]).astype(y.dtype))
    errors: Array = np.abs(y[counted] - exact[counted]) / unit
    return errors


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ULPS)
def test_the_error_is_bounded_over_the_whole_range(kernels: Any, name: str, dtype: Float) -> None:
    if np.finfo(LONG).nmant <= np.finfo(dtype).nmant:
        pytest.skip("no wider type to compare with")
    x = sample(dtype)
    y = act(kernels, name, x)
    assert y.dtype == dtype
    assert np.isfinite(y).all()
    assert ulps(y, REFERENCE[name](x.astype(LONG))).max() <= ULPS[name]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["elu", "erf", "gelu", "gelu_tanh", "hardsigmoid", "hardswish", "log", "logsigmoid",
                                  "mish", "rsqrt", "selu", "silu", "softplus", "softsign", "sqrt"])  # fmt: skip
def test_the_error_is_small_beside_the_result_or_the_argument(kernels: Any, name: str, dtype: Float) -> None:
    """x * 0.5 * (1 + erf(x)) and its like cancel where x is far below 0; PyTorch's do, too."""
    x = np.random.default_rng(3).permutation(sample(dtype))[:200_000].astype(dtype)
    a, b = PARAMETERS.get(name, (0.0, 0.0))
    of = {
        "gelu_tanh": lambda v: reference.gelu(v, "tanh"),
        "elu": lambda v: np.where(v > 0, v, a * np.expm1(np.minimum(v * b, 0))),
    }.get(name) or getattr(reference, name)
    exact = of(x.astype(np.float64))
    y = act(kernels, name, x)
    assert (np.isnan(y) == np.isnan(exact)).all()
    counted = np.isfinite(exact) & (np.abs(exact) < np.finfo(dtype).max)
    scale = np.maximum(np.abs(exact[counted]), np.minimum(np.abs(x[counted]), 1))
    errors = np.abs(y[counted] - exact[counted]) / np.maximum(scale, np.finfo(dtype).tiny)
    assert errors.max() < 3 * np.finfo(dtype).eps + 1e-15  # the reference, too, rounds


def test_gelu_below_0_is_as_close_as_its_exponential(kernels: Any) -> None:
    """Relative, down to where the result is denormal: float's e^(-x^2 / 2) loses 2^-24 of its exponent, up to 126."""
    x = -np.random.default_rng(5).uniform(0.001, 12.8, 100_003).astype(np.float32)
    wide = x.astype(np.float64)
    exact = wide * np.array([erfc(v) for v in -wide * 0.5**0.5]) / 2
    errors = np.abs(act(kernels, "gelu", x) - exact) / np.abs(exact)
    assert errors[x > -4].max() < 1.5e-6
    assert errors.max() < 1e-5
    assert not act(kernels, "gelu", np.array([-14, -100, -1e30], np.float32)).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_gates_of_what_is_no_ordinary_number(kernels: Any, name: str, dtype: Float) -> None:
    """As PyTorch's: at -infinity an infinity times 0."""
    x = np.array([np.nan, -np.inf, np.inf, 1e30, -1e30, -1e3, 0, -0.0], dtype)
    y = act(kernels, name, x)
    np.testing.assert_array_equal(y, np.array([np.nan, np.nan, np.inf, 1e30, 0, 0, 0, 0], dtype))
    assert np.signbit(y[7])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_ordinary_number(kernels: Any, dtype: Float) -> None:
    tiny = np.finfo(dtype).tiny
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, tiny, -tiny], dtype)
    expected = {
        "none": x,
        "relu": [np.nan, np.inf, 0, 0, -0.0, 1e30, 0, tiny, 0],
        "hardtanh": [np.nan, 0.75, -0.5, 0, -0.0, 0.75, -0.5, tiny, -tiny],
        "exp": [np.nan, np.inf, 0, 1, 1, np.inf, 0, 1, 1],
        "sigmoid": [np.nan, 1, 0, 0.5, 0.5, 1, 0, 0.5, 0.5],
        "tanh": [np.nan, 1, -1, 0, -0.0, 1, -1, tiny, -tiny],
    }
    for name, values in expected.items():
        y = act(kernels, name, x)
        np.testing.assert_array_equal(y, np.array(values, dtype), name)
        if name != "exp" and name != "sigmoid":
            assert np.signbit(y[4]), name
    np.testing.assert_array_equal(
        act(kernels, "leaky_relu", x)[:7], np.where(x > 0, x, x * dtype(0.1))[:7], "leaky_relu"
    )


@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.parametrize("reach", [0.8, 10, 8192, 1e6, 1e30])
def test_the_error_of_angles(kernels: Any, name: str, reach: float) -> None:
    x = np.random.default_rng(5).uniform(-reach, reach, 200_003).astype(np.float32)
    exact = getattr(np, name)(x.astype(np.float64))
    assert np.abs(act(kernels, name, x) - exact).max() < 1.2e-7
    np.testing.assert_allclose(act(kernels, name, x.astype(np.float64)), exact, rtol=0, atol=1e-15)


@pytest.mark.parametrize("exponent", [2.5, -0.75, 1 / 3, 7.0, -4.0, 10.0])
def test_the_error_of_powers(kernels: Any, exponent: float) -> None:
    """Relative, from the smallest normal result to the largest; beyond there is nothing but 0 and infinity."""
    x = np.exp(np.random.default_rng(5).uniform(-30, 30, 100_003)).astype(np.float32)
    y = kernels.elementwise(kernels.ACTIVATIONS["pow"], x, exponent, 0.0, 1).astype(np.float64)
    exact = np.power(x.astype(np.float64), np.float64(np.float32(exponent)))
    normal = (exact > 1.2e-38) & (exact < 3.4e38)
    bound = 4e-7 if kernels.LEVEL != "x86-64-v2" else 1e-5  # without FMA a * e is rounded
    assert (np.abs(y[normal] - exact[normal]) / exact[normal]).max() < bound
    assert np.isinf(y[exact > 3.5e38]).all()
    assert not y[exact < 1.1e-38].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [2.5, 3.0, -3.0, -2.0, 4.0, 0.0, -0.75, np.nan, np.inf, -np.inf, 1e30, 16777217.0])
def test_powers_of_what_is_no_ordinary_number(kernels: Any, exponent: float, dtype: Float) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 2, -2, 0.5, -0.5, 1, -1, 3e38, -3e38], dtype)
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), np.float64(dtype(exponent))).astype(dtype)
    exact[np.abs(exact) < np.finfo(dtype).tiny] = 0
    y = kernels.elementwise(kernels.ACTIVATIONS["pow"], x, exponent, 0.0, 1)
    np.testing.assert_allclose(y, exact, rtol=1e-6 if dtype is np.float32 else 1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["floor", "ceil", "round", "trunc", "sign", "isnan", "logical_not"])
def test_steps_are_exact(kernels: Any, name: str, dtype: Float) -> None:
    """Near every whole and half number, around the numbers without a fraction, and beyond."""
    halves = np.arange(-20, 21, dtype=dtype) / 2
    edges = np.array([2.0**k for k in (21, 22, 23, 24, 51, 52, 53)], dtype)
    near = [
        v
        for base in (halves, edges, -edges)
        for v in (np.nextafter(base, dtype(-1e30)), base, np.nextafter(base, dtype(1e30)))
    ]
    x = np.concatenate(
        [*near, np.array([np.nan, np.inf, -np.inf, 0, -0.0, 2.0**22 + 0.5, 8388607.5, -8388607.5], dtype)]
    )
    tiny = (np.abs(x) < np.finfo(dtype).tiny) & (x != 0)  # flushed
    np.testing.assert_array_equal(act(kernels, name, x)[~tiny], getattr(reference, name)(x)[~tiny])


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_overflows_and_underflows_where_it_should(kernels: Any, dtype: Float) -> None:
    limits = np.finfo(dtype)
    over, under = np.log(LONG(limits.max)).astype(dtype), np.log(LONG(limits.tiny)).astype(dtype)
    x = np.array([over * dtype(1.001), under * dtype(1.001), over * dtype(0.999), under * dtype(0.999)], dtype)
    y = act(kernels, "exp", x)
    assert y[0] == np.inf
    assert y[1] == 0
    assert limits.max > y[2] > limits.max / 4
    assert limits.tiny < y[3] < limits.tiny * 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["relu", "hardtanh", "leaky_relu"])
def test_cheap_activations_are_exact(kernels: Any, name: str, dtype: Float) -> None:
    x = sample(dtype)
    low, high = (dtype(v) for v in PARAMETERS["hardtanh"])
    exact = {
        "relu": np.where(x < 0, dtype(0), x),
        "hardtanh": np.clip(x, low, high),
        "leaky_relu": np.where(x > 0, x, x * dtype(0.1)),
    }[name]
    y, normal = act(kernels, name, x), np.abs(exact) >= np.finfo(dtype).tiny
    np.testing.assert_array_equal(y[normal], exact[normal])


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_the_place(kernels: Any, dtype: Float) -> None:
    """Every length up to two vectors and one, at every distance from a vector's boundary."""
    x = np.random.default_rng(3).normal(0, 4, 80).astype(dtype)
    for name in kernels.ACTIVATIONS:
        whole = act(kernels, name, x)
        for start in range(kernels.VECTOR):
            for n in range(2 * kernels.VECTOR + 2):
                part = x[start : start + n]
                assert same_bits(act(kernels, name, part), whole[start : start + n]), (name, start, n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_of_a_long_run_do_not_depend_on_the_place(kernels: Any, dtype: Float) -> None:
    """Long runs begin with a part of a vector where their results begin between a vector's boundaries."""
    n, piece = 1024 + 37, 512
    x = np.random.default_rng(3).normal(0, 4, (17, n)).astype(dtype)
    for name in kernels.ACTIVATIONS:
        short = [act(kernels, name, row[k : k + piece]) for row in x for k in range(0, n, piece)]
        assert same_bits(act(kernels, name, x), np.concatenate(short).reshape(x.shape)), name
    # Planes whose sizes are odd begin at every distance from a boundary.
    channel = [np.full(17, v, dtype) for v in (0.25, 1.5, 3, -1)]
    y = kernels.batch_norm(x[np.newaxis], *channel, 1e-5, 1)
    short = [
        kernels.batch_norm(np.ascontiguousarray(x[np.newaxis, :, k : k + piece]), *channel, 1e-5, 1)
        for k in range(0, n, piece)
    ]
    assert same_bits(y, np.concatenate(short, axis=2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_s_tail_leaves_the_next_row_alone(kernels: Any, dtype: Float) -> None:
    """Rows of every length up to two vectors, side by side and each by itself."""
    for n in range(1, 2 * kernels.VECTOR + 2):
        x = np.random.default_rng(n).normal(size=(5, n)).astype(dtype)
        rows = np.concatenate([kernels.softmax_axis(row[np.newaxis].copy(), 1, False, 1) for row in x])
        assert same_bits(kernels.softmax_axis(x, 1, False, 1), rows), n


ORDERS: dict[str, Callable[[Array], Array]] = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "channels last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "swapped": lambda x: x.swapaxes(0, 2),
    "axes of one": lambda x: x[:1, :, :1].copy().transpose(1, 3, 0, 2),
    "scalar": lambda x: x[0, 0, 0, 0:1].reshape(()),
    "empty": lambda x: x[:0],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dense_array_keeps_its_order(kernels: Any, dtype: Float, order: str) -> None:
    x = ORDERS[order](np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype(dtype))
    y = act(kernels, "hardtanh", x)
    np.testing.assert_array_equal(y, np.clip(x, dtype(-0.5), dtype(0.75)))
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    assert not np.shares_memory(x, y)
    long = [axis for axis in range(x.ndim) if x.shape[axis] > 1]
    assert [y.strides[axis] for axis in long] == [x.strides[axis] for axis in long] or not x.size


def refused() -> dict[str, Any]:
    x = np.ones((4, 6), np.float32)
    unaligned = np.zeros(4 * 24 + 1, np.uint8)[1:].view(np.float32)
    return {
        "list": [1.0, 2.0],
        "float16": x.astype(np.float16),
        "int32": x.astype(np.int32),
        "longdouble": x.astype(np.longdouble),
        "byte order": x.astype(x.dtype.newbyteorder()),
        "subclass": x.view(np.matrix),
        "masked": np.ma.masked_array(x),
        "unaligned": unaligned,
        "step": x[:, ::2],
        "backwards": x[::-1],
        "gap": x[:, :5],
        "broadcast": np.broadcast_to(x, (3, 4, 6)),
        "none": None,
    }


@pytest.mark.parametrize("kind", refused())
def test_other_arrays_are_left_to_the_caller(kernels: Any, kind: str) -> None:
    x, c = refused()[kind], np.ones(6, np.float32)
    assert kernels.elementwise(1, x, 0.0, 0.0, 1) is NotImplemented
    assert kernels.softmax_axis(x, 0, False, 1) is NotImplemented
    assert kernels.batch_norm(x, c, c, None, None, 1e-5, 1) is NotImplemented


def test_an_unknown_kind_is_refused(kernels: Any) -> None:
    x = np.ones(3, np.float32)
    assert sorted(kernels.ACTIVATIONS.values()) == list(range(len(kernels.ACTIVATIONS)))
    for kind in (-1, len(kernels.ACTIVATIONS)):
        with pytest.raises(ValueError, match=str(kind)):
            kernels.elementwise(kind, x, 0.0, 0.0, 1)
    for kind in kernels.ACTIVATIONS.values():
        assert np.isfinite(kernels.elementwise(kind, x, 1.0, 1.0, 1)).all()


def test_arguments_of_other_orders_shapes_and_types_are_left_to_the_caller(kernels: Any) -> None:
    x, c = np.ones((2, 6, 3), np.float32), np.ones(6, np.float32)
    assert kernels.batch_norm(x, c, c, c, c, 1e-5, 1).shape == x.shape
    for wrong in (c[:5], c.astype(np.float64), np.ones((6, 1), np.float32), np.ones(12, np.float32)[::2], 1.0):
        for place in range(4):
            arguments: list[Any] = [c] * 4
            arguments[place] = wrong
            assert kernels.batch_norm(x, *arguments, 1e-5, 1) is NotImplemented
    assert kernels.batch_norm(c, c, c, None, None, 1e-5, 1) is NotImplemented
    assert kernels.batch_norm(np.asfortranarray(x), c, c, None, None, 1e-5, 1) is NotImplemented
    assert kernels.softmax_axis(np.asfortranarray(x), 0, False, 1) is NotImplemented
    assert kernels.softmax_axis(np.float32([1])[0:1].reshape(()), 0, False, 1) is NotImplemented
    for axis in (-4, 3):
        assert kernels.softmax_axis(x, axis, False, 1) is NotImplemented


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3), (1, 7, 5), (3, 5, 4, 9), (2, 1, 33), (0, 3, 2), (2, 3, 0)])
def test_batch_norm(kernels: Any, shape: tuple[int, ...], dtype: Float) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=shape).astype(dtype)
    c = shape[1]
    mean, weight, bias = (rng.normal(size=c).astype(dtype) for _ in range(3))
    var = rng.uniform(0.5, 2, c).astype(dtype)
    for w, b in ((weight, bias), (None, bias), (weight, None), (None, None)):
        channel = [LONG(1) * v.reshape(c, *[1] * (len(shape) - 2)) for v in (mean, var)]
        exact = (x - channel[0]) / np.sqrt(channel[1] + LONG(1e-5))
        exact = exact if w is None else exact * w.reshape(channel[0].shape)
        exact = exact if b is None else exact + b.reshape(channel[0].shape)
        y = kernels.batch_norm(x, mean, var, w, b, 1e-5, 1)
        assert y.dtype == dtype
        tolerance = 8 * np.finfo(dtype).eps
        np.testing.assert_allclose(y, exact.astype(dtype), rtol=tolerance, atol=tolerance)


# (shape, axis): sums along the vectors and across them, around the width and beyond a block of columns
SOFTMAX = [
    ((1,), 0), ((3, 1), 1), ((4, 15), 1), ((4, 16), -1), ((3, 17), 1), ((2, 1000), 1), ((10, 3), 0),
    ((2, 5, 31), 1), ((2, 5, 33), 1), ((3, 1, 4), 1), ((2, 6, 1030), -2), ((0, 3), 1), ((3, 0), 1),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), SOFTMAX)
@pytest.mark.parametrize("log", [False, True])
def test_softmax(kernels: Any, log: bool, shape: tuple[int, ...], axis: int, dtype: Float) -> None:
    x = np.random.default_rng(5).normal(0, 3, shape).astype(dtype)
    y = kernels.softmax_axis(x, axis, log, 1)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    if not x.size:
        return
    shifted = x - x.max(axis, keepdims=True)  # rounded, as any computation in this precision must
    wide = shifted.astype(LONG)
    total = np.exp(wide).sum(axis, keepdims=True)
    exact = wide - np.log(total) if log else np.exp(wide) / total
    tolerance = (4 + np.log2(x.shape[axis])) * np.finfo(dtype).eps
    np.testing.assert_allclose(y.astype(LONG), exact, rtol=tolerance, atol=tolerance if log else 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_of_what_is_no_number(kernels: Any, axis: int, log: bool, dtype: Float) -> None:
    """A NaN or an infinite maximum spoils its own row and no other; -inf alone among numbers has no share."""
    rows = np.zeros((5, 19), dtype)
    rows[0, 17], rows[1, 3], rows[2], rows[3, 18] = np.nan, np.inf, -np.inf, -np.inf
    y = kernels.softmax_axis(np.ascontiguousarray(rows if axis else rows.T), axis, log, 1)
    y = y if axis else y.T
    assert np.isnan(y[0]).all()
    assert np.isnan(y[1, 3])
    assert np.isnan(y[2]).all()
    even = [np.log(1 / 18), -np.inf, np.log(1 / 19)] if log else [1 / 18, 0, 1 / 19]
    np.testing.assert_allclose(y[3, :18], even[0], rtol=1e-6)
    assert y[3, 18] == even[1]
    np.testing.assert_allclose(y[4], even[2], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_threads_or_batch(kernels: Any, dtype: Float) -> None:
    """An array large enough to be shared out; with a last page that is not whole."""
    x = np.random.default_rng(9).normal(0, 3, (5, 7, 61, 101)).astype(dtype)
    c = np.linspace(0.5, 2, 7).astype(dtype)
    for threads in (2, 3):
        for name in ("relu", "tanh"):
            assert same_bits(act(kernels, name, x, threads), act(kernels, name, x))
        for axis in (1, 3):
            alone = kernels.softmax_axis(x, axis, False, 1)
            assert same_bits(kernels.softmax_axis(x, axis, False, threads), alone)
            assert same_bits(kernels.softmax_axis(x[3:4], axis, False, 1), alone[3:4])
        alone = kernels.batch_norm(x, c, c, c, c, 1e-5, 1)
        assert same_bits(kernels.batch_norm(x, c, c, c, c, 1e-5, threads), alone)
        assert same_bits(kernels.batch_norm(x[3:4], c, c, c, c, 1e-5, 1), alone[3:4])
