"""Gradients of activations and arithmetic: at the places where formulas change, and of operands that broadcast."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import pytest
from cases import Case
from checks import assert_close
from gradients import FLOATS, TOLERANCE, assert_differences, assert_like_torch, call, drawn
from numpy.typing import DTypeLike

import fastconv.functional as F
from fastconv.grad import vjp
from fastconv.grad.table import FAMILIES

# PyTorch rounds the constants of these to float32, whatever it computes in.
ROUNDED = ("hardsigmoid",)
POSITIVE = ("log", "rsqrt", "sqrt", "pow")
STEPS = ("ceil", "floor", "round", "sign", "trunc")
ACTIVATIONS = [
    case
    for case in [*cases.ACTIVATIONS, *cases.PRELU]
    if case.attrs.get("alpha") != 3 and (case.op != "celu" or "alpha" not in case.attrs or case.attrs["alpha"] == 0.5)
]
# Where a formula goes over into another one, and what is no number.
EDGES = [-6.0, -3, -2, -1, -0.5, -0.0, 0, 0.5, 1, 2, 3, 6, 20, 40, -40, 100, -100]
BEYOND = [np.nan, np.inf, -np.inf, np.nan]  # with the edges 21: PyTorch computes the last ones one by one
AT_EDGES = [
    *((op, {}) for op in ("relu", "relu6", "leaky_relu", "hardtanh", "hardshrink", "softshrink", "hardswish")),
    *((op, {}) for op in ("hardsigmoid", "sigmoid", "tanh", "silu", "gelu", "elu", "celu", "selu", "softplus", "mish")),
    *((op, {}) for op in ("logsigmoid", "tanhshrink", "erf", "abs", "sin", "cos", "softsign", *STEPS)),
    ("threshold", {"threshold": 0.5, "value": 3.0}),
    ("hardtanh", {"min_val": -0.5, "max_val": 2.0}),
    ("leaky_relu", {"negative_slope": -0.5}),
    ("elu", {"alpha": 0.25}),
    ("gelu", {"approximate": "tanh"}),
    ("softplus", {"beta": 2.0, "threshold": 4.0}),
]


def _arrays(case: Case, dtype: DTypeLike) -> list[Any]:
    arrays = drawn(case, dtype)
    return [np.asarray(np.abs(arrays[0])), *arrays[1:]] if case.op in POSITIVE else arrays


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", ACTIVATIONS, ids=str)
def test_activations(case: Case, dtype: DTypeLike) -> None:
    if case.op in ROUNDED and dtype is np.float64:
        pytest.skip("PyTorch's constant is rounded to float32")
    assert_like_torch(case.op, _arrays(case, dtype), case.attrs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("op", "attrs"), AT_EDGES)
def test_where_formulas_change(op: str, attrs: dict[str, Any], dtype: DTypeLike) -> None:
    if op in ROUNDED and dtype is np.float64:
        pytest.skip("PyTorch's constant is rounded to float32")
    assert_like_torch(op, [np.array(EDGES, dtype)], attrs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("op", "attrs"), AT_EDGES)
def test_what_is_not_finite(op: str, attrs: dict[str, Any], dtype: DTypeLike) -> None:
    if op == "softsign":
        pytest.skip("PyTorch's is NaN at infinity, where the slope is 0")
    x = np.repeat(np.array(BEYOND, dtype), 16)  # whole vectors: what is left over PyTorch computes by other formulas
    assert_like_torch(op, [x], attrs)


def test_softsign_is_flat_at_infinity() -> None:
    _, (gradient,) = call("softsign", [np.array([np.inf, -np.inf, np.nan])], {}, np.ones(3))
    np.testing.assert_array_equal(gradient, [0, 0, np.nan])


@pytest.mark.parametrize("op", [op for op in FAMILIES["activation"] if op not in STEPS])
def test_differences_of_activations(op: str) -> None:
    x = np.random.default_rng(3).standard_normal((3, 10)) * 2
    x = np.where(np.abs(np.abs(x) - 0.5) < 1e-2, 0.7, x)  # a corner of the shrinks
    attrs = {"threshold": 0.1, "value": 3.0} if op == "threshold" else {}
    assert_differences(op, [np.abs(x) + 0.1 if op in POSITIVE else x], attrs)


@pytest.mark.parametrize("op", STEPS)
def test_steps_have_zeros(op: str) -> None:
    _, (gradient,) = call(op, [np.array([-1.5, 0, 0.5, np.nan], np.float32)], {})
    np.testing.assert_array_equal(gradient, np.zeros(4, np.float32))


# --- arithmetic -----------------------------------------------------------------------------------

PAIRS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), (3,)), ((2, 1, 4), (5, 1)), ((0, 4), (4,))]
ARITHMETIC = [
    Case(op, shapes)
    for op in ("add", "sub", "mul", "div", "maximum", "minimum", "fmod", "remainder")
    for shapes in PAIRS
] + [
    Case("add", ((3, 4), (4,)), {"alpha": 2.5}),
    Case("sub", ((3, 4), (4,)), {"alpha": 2.5}),
    *(Case("div", ((3, 4), (4,)), {"rounding_mode": mode}) for mode in ("trunc", "floor")),
    *(Case("pow", shapes) for shapes in PAIRS),
    *(Case("clamp", ((4, 5),), attrs) for attrs in ({"min": -0.5, "max": 0.5}, {"min": 0.0}, {"max": 0.25})),
    Case("clamp", ((4, 5),), {"min": 1.0, "max": -1.0}),
    Case("clamp", ((4, 5), (5,), (4, 1))),
    Case("clamp", ((4, 5), (5,))),
    Case("prelu", ((2, 3, 4), ())),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", ARITHMETIC, ids=str)
def test_arithmetic(case: Case, dtype: DTypeLike) -> None:
    assert_like_torch(case.op, _arrays(case, dtype), case.attrs)


@pytest.mark.parametrize(
    ("op", "x", "z"),
    [
        ("pow", [0, 0, 0, 1, 2, 0, 3], [0, 1, 2, 0, 0, 0.5, 1]),
        ("maximum", [1, 2, np.nan, 0, 5], [1, 1, 1, np.nan, 6]),
        ("minimum", [1, 2, np.nan, 0, 5], [1, 1, 1, np.nan, 6]),
        ("div", [1, 0, -1], [0, 0, np.inf]),
    ],
)
def test_arithmetic_at_the_edges(op: str, x: list[float], z: list[float]) -> None:
    assert_like_torch(op, [np.array(x, np.float64), np.array(z, np.float64)], {})


def test_clamp_of_nan() -> None:
    assert_like_torch("clamp", [np.array([0.5, -0.5, 0.25, np.nan])], {"min": -0.5, "max": 0.5})


@pytest.mark.parametrize("dtype", FLOATS)
def test_where(dtype: DTypeLike) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.random((3, 4)) > 0.5, rng.standard_normal(4).astype(dtype), rng.standard_normal((3, 1)).astype(dtype)]
    assert_like_torch("where", arrays, {})


@pytest.mark.parametrize("case", [case for case in ARITHMETIC if case.shapes[-1] == (4,)], ids=str)
def test_differences_of_arithmetic(case: Case) -> None:
    if "rounding_mode" in case.attrs or case.op in ("fmod", "remainder"):
        return  # they jump
    assert_differences(case.op, _arrays(case, np.float64), case.attrs, 1e-6)


def test_numbers_have_no_gradient() -> None:
    x = np.array([1.0, 2, 4])
    for op, of_x in (("add", [1, 1, 1]), ("mul", [3, 3, 3]), ("div", [1 / 3] * 3), ("pow", [3, 12, 48])):
        found, none = vjp(getattr(F, op), x, 3.0)[1](np.ones(3))
        assert none is None
        assert_close(found, np.array(of_x, np.float64), 1e-12)
    none, found = vjp(F.sub, 3.0, x)[1](np.ones(3))
    assert none is None
    np.testing.assert_array_equal(found, [-1, -1, -1])


def test_float_power_gives_each_operand_its_own_type() -> None:
    x = np.array([1, 2, 4], np.float32)
    y, pullback = vjp(F.float_power, x, 2.0)
    assert y.dtype == np.float64
    found, _ = pullback(np.ones(3))
    assert found.dtype == np.float32
    assert_close(found, 2 * x.astype(np.float64), TOLERANCE[np.dtype(np.float32)])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", ["remainder", "fmod"])
def test_by_a_divisor_that_is_rounded(op: str, dtype: DTypeLike) -> None:
    """The quotient of 1 and 0.1 in float64 is 10, that which `remainder` takes 9."""
    torch = pytest.importorskip("torch")
    x = np.array([1, 5, 6, -1, -6, 7, -7], dtype)
    z = np.array([0.1, 0.1, 0.2, 0.1, 0.2, -0.7, 2.5], dtype)
    divisor = torch.tensor(z, requires_grad=True)
    (wanted,) = torch.autograd.grad(getattr(torch, op)(torch.tensor(x), divisor).sum(), divisor)
    _, found = vjp(getattr(F, op), x, z)[1](np.ones_like(x))
    np.testing.assert_array_equal(found, wanted.numpy())
    if op == "remainder" and dtype is np.float64:
        assert found[0] == -9
