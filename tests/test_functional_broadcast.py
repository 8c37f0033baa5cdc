"""Arithmetic, comparisons, logic and choices of ``fastconv.functional`` beside PyTorch: shapes, strides, numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checks import TOLERANCE, assert_close, refused
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from fastconv import functional

torch = pytest.importorskip("torch")

NUMBERS = ("add", "sub", "mul", "div", "pow", "float_power", "fmod", "remainder", "maximum", "minimum")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
LOGIC = ("logical_and", "logical_or", "logical_xor")
OPS = (*NUMBERS, *COMPARISONS, *LOGIC)
FIRST = ("add", "sub", "mul", "div", "pow", "float_power", "remainder")
"""Those of which the first operand may be a number."""
SECOND = (*FIRST, "fmod", *COMPARISONS)
FLOATS = [np.float32, np.float64]
SPECIAL = np.array([0.0, -0.0, 1, -1, 2, 3, -2.5, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e30, 1e-30, 7, 100.25])
WIDTHS = (1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 1023, 1024, 1025, 2049)


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng([seed, *shape]).standard_normal(shape), dtype)


def torch_of(op: str, *arguments: Any, **attrs: Any) -> np.ndarray:
    tensors = [torch.tensor(np.array(x)) if isinstance(x, np.ndarray) else x for x in arguments]
    return np.asarray(getattr(torch, op)(*tensors, **attrs).numpy())


def check(op: str, *arguments: Any, **attrs: Any) -> None:
    """Compare a function with PyTorch's, in type, shape, numbers and what is not finite."""
    expected, actual = torch_of(op, *arguments, **attrs), getattr(functional, op)(*arguments, **attrs)
    assert actual.dtype == expected.dtype
    assert actual.flags.writeable
    assert not any(np.shares_memory(actual, x) for x in arguments if isinstance(x, np.ndarray))
    if expected.dtype == np.bool_:
        np.testing.assert_array_equal(actual, expected, strict=True)
    else:
        assert_close(actual, expected, TOLERANCE[expected.dtype])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", OPS)
def test_every_pair_of_special_values(op: str, dtype: Any) -> None:
    values = SPECIAL.astype(dtype)
    if op in ("fmod", "remainder"):  # PyTorch's vectors give NaN for quotients so large, its scalars do not
        values = values[np.abs(values) != values.dtype.type(1e-30)]
    check(op, values[:, None].copy(), values)
    check(op, np.repeat(values, len(values)), np.tile(values, len(values)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_remainders_are_exact(dtype: Any) -> None:
    """Whatever the quotient: below and above what a vector divides without the C library."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(4000) * 10.0 ** rng.uniform(-6, 30, 4000)).astype(dtype)
    z = (rng.standard_normal(4000) * 10.0 ** rng.uniform(-6, 6, 4000)).astype(dtype)
    x[::3] = (np.round(x[::3] / z[::3]) % dtype(2**20)) * z[::3]  # all but whole quotients
    for first, second in (
        (x, z),
        (x[:100], z[:100]),
        (z, x),
        (np.round(x[:999] % 1000), np.round(z[:999]) + dtype(0.5)),
    ):
        with np.errstate(all="ignore"):
            rest = np.fmod(first, second)
            np.testing.assert_array_equal(functional.fmod(first, second), rest)
            rest = np.where((rest != 0) & ((rest < 0) != (second < 0)), rest + second, rest)
        np.testing.assert_array_equal(functional.remainder(first, second), rest)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", SECOND)
def test_numbers_in_place_of_arrays(op: str, dtype: Any) -> None:
    values = SPECIAL.astype(dtype)
    for number in (0, 1, 2, -1, 3, -2.5, 0.5, -0.5, np.inf, -np.inf, np.nan, np.float64(1.5)):
        check(op, values, number)
        if op in FIRST and not isinstance(number, np.float64):
            check(op, number, values)


@pytest.mark.parametrize("op", [op for op in OPS if op not in FIRST])
def test_numbers_are_refused_where_pytorch_refuses_them(op: str) -> None:
    x = random(3)
    with refused(rf"{op}: "):
        getattr(functional, op)(2.0, x)
    with pytest.raises(TypeError):
        torch_of(op, 2.0, x)
    if op not in SECOND:
        with refused(rf"{op}: "):
            getattr(functional, op)(x, 2.0)
        with pytest.raises(TypeError):
            torch_of(op, x, 2.0)


@pytest.mark.parametrize("op", ["add", "pow", "lt", "logical_xor"])
@pytest.mark.parametrize("n", WIDTHS)
def test_sizes_around_the_vector_width_and_the_run(op: str, n: int) -> None:
    for first, second in (((n,), (n,)), ((3, n), (n,)), ((3, n), (3, 1)), ((n, 1), (1, 5)), ((n, 3), (3,)), ((n,), ())):
        x, z = np.abs(random(*first)) + np.float32(0.5), random(*second, seed=1)
        check(op, x, z)
        check(op, z, x) if op != "pow" else None
        whole = getattr(functional, op)(x, z)
        part = getattr(functional, op)(x[-1:], z if z.shape[:1] != x.shape[:1] or x.ndim > z.ndim else z[-1:])
        np.testing.assert_array_equal(whole[-1:], part)  # whatever stands beside it


def _views(x: np.ndarray) -> list[np.ndarray]:
    """The same elements in other orders of memory."""
    host = np.full([2 * n for n in x.shape], np.nan, x.dtype)
    host[(slice(None, None, 2),) * x.ndim] = x
    backwards = (slice(None, None, -1),) * x.ndim
    swapped = x.astype(x.dtype.newbyteorder())
    return [np.asfortranarray(x), host[(slice(None, None, 2),) * x.ndim], x[backwards].copy()[backwards], swapped]


@given(of_numpy.mutually_broadcastable_shapes(num_shapes=3, max_dims=5, max_side=6), st.data())
def test_any_shapes_and_strides(shapes: of_numpy.BroadcastableShapes, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    x, z, c = (random(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes.input_shapes))
    c = np.asarray(c > 0)
    x, z = (np.asarray(data.draw(st.sampled_from([array, *_views(array)]))) for array in (x, z))
    plain = [np.array(array, dtype) for array in (x, z)]
    op = data.draw(st.sampled_from(["sub", "remainder", "ge", "logical_or", "where"]))
    given_, torch_s = ((x, z), plain) if op != "where" else ((c, x, z), [c, *plain])
    expected, actual = torch_of(op, *torch_s), getattr(functional, op)(*given_)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert actual.dtype == expected.dtype


def test_arrays_that_do_not_broadcast_are_named() -> None:
    x, z = random(2, 3), random(4)
    for op in OPS:
        with refused(rf"{op if op != 'float_power' else 'pow'}: input \(2, 3\) and \w+ \(4,\) do not broadcast"):
            getattr(functional, op)(x, z)
    with refused(r"where: condition \(4,\) and input \(2, 3\) and other \(2, 3\) do not broadcast"):
        functional.where(z > 0, x, x)
    with refused(r"logical_and: input \(2, 3\) and other \(4,\) do not broadcast"):
        functional.logical_and(x > 0, z > 0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_alpha(dtype: Any) -> None:
    x, z = random(3, 5, dtype=dtype), random(5, dtype=dtype)
    for op in ("add", "sub"):
        for alpha in (2, -0.5, 0, 1.0, np.nan):
            check(op, x, z, alpha=alpha)
            check(op, x, 3.0, alpha=alpha)
        for alpha in (True, "a", None):
            with refused(rf"{op}: alpha must be a number"):
                getattr(functional, op)(x, z, alpha=alpha)


def test_bools_are_not_subtracted() -> None:
    x = random(3, 5)
    for truth in (True, False):
        for arguments, name in (((x, truth), "other"), ((truth, x), "input")):
            for attrs in ({}, {"alpha": 2}):
                with pytest.raises(RuntimeError, match="bool"):
                    torch.sub(*[torch.tensor(v) if isinstance(v, np.ndarray) else v for v in arguments], **attrs)
                with refused(rf"sub: {name} is a bool, {truth}; .* use logical_not"):
                    functional.sub(*arguments, **attrs)
        for op in ("add", "mul"):  # which PyTorch computes
            check(op, x, truth)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("mode", [None, "trunc", "floor"])
def test_rounding_of_quotients(dtype: Any, mode: str | None) -> None:
    values = SPECIAL[np.abs(SPECIAL) < 1e6].astype(dtype)
    check("div", values[:, None].copy(), values, rounding_mode=mode)
    check("div", values, -0.75, rounding_mode=mode)
    check("div", random(100, 7, dtype=dtype) * 100, random(7, dtype=dtype), rounding_mode=mode)
    with refused("div: rounding_mode must be None, 'trunc' or 'floor', got 'up'"):
        functional.div(values, values, rounding_mode="up")
    with refused(r"div: input \(2, 3\) and other \(4,\) do not broadcast"):
        functional.div(random(2, 3), random(4), rounding_mode=mode)


@pytest.mark.parametrize("dtype", FLOATS)
def test_clamp(dtype: Any) -> None:
    x = SPECIAL.astype(dtype)
    for bounds in ((0.0, 1.0), (1, 0), (None, 0.5), (-1.0, None), (np.nan, 1.0), (0.0, np.nan), (-np.inf, np.inf)):
        check("clamp", x, *bounds)
    low, high = random(16, dtype=dtype), random(3, 16, dtype=dtype, seed=1)
    check("clamp", x, low, high)
    np.testing.assert_array_equal(functional.clamp(x, max=high), torch_of("clamp", x, max=torch.tensor(high)))
    with refused("clamp: min or max must be given"):
        functional.clamp(x)
    with refused("clamp: min and max must both be numbers, or both be arrays"):
        functional.clamp(x, low, 1.0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_where(dtype: Any) -> None:
    x, z, c = random(3, 4, 5, dtype=dtype), random(5, dtype=dtype), random(4, 1) > 0
    x[0, 0, 0] = z[2] = np.nan
    check("where", c, x, z)
    check("where", c[::-1], x[..., ::2], z[::2])
    check("where", np.array(True), x, z)
    check("where", c, x, 0.0)
    check("where", c, 2, z)
    check("where", np.zeros((0, 1), np.bool_), x[0, :1], z)
    with refused("where: condition must hold bools, got float32"):
        functional.where(random(4, 1), x, z)
    with refused("where: input or other must be an array, both are numbers"):
        functional.where(c, 1.0, 2.0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_truths_of_one_array(dtype: Any) -> None:
    for x in (SPECIAL.astype(dtype), random(2, 3, 65, dtype=dtype).round(), np.zeros((0, 2), dtype), dtype(0)):
        for op in ("isnan", "logical_not"):
            check(op, np.asarray(x))


def test_bools_where_pytorch_computes_truths() -> None:
    x, z = random(3, 5) > 0, random(5) > 0
    for op in LOGIC:
        check(op, x, z)
    check("logical_not", x)
    for op in ("add", "eq", "maximum"):
        with refused(rf"{op}: input is bool"):
            getattr(functional, op)(x, z)
    with refused("logical_and: "):
        functional.logical_and(x, random(5))


def test_a_denormal_is_not_zero() -> None:
    x = np.array([1e-42, 0, -1e-42], np.float32)
    np.testing.assert_array_equal(functional.eq(x, 0.0), [False, True, False])
    np.testing.assert_array_equal(functional.where(x > 0, x, x), x)


@pytest.mark.parametrize("op", ["add", "lt", "where"])
def test_threads_do_not_change_the_bits(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastconv.functional import arithmetic

    x, z = random(3, 300, 401), random(300, 1, seed=1)
    arguments = (x, z) if op != "where" else (z > 0, x, z)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(arithmetic, "threads", lambda threads=threads: threads)
        results.append(getattr(functional, op)(*arguments))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


REQUIRED = inspect.Parameter.empty


@pytest.mark.parametrize("op", [*OPS, "where", "clamp"])
def test_names_of_arguments(op: str) -> None:
    function: Callable[..., Any] = getattr(functional, op)
    found = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    second = "exponent" if op in ("pow", "float_power") else "other"
    expected: dict[str, Any] = {"input": REQUIRED, second: REQUIRED}
    expected |= {"add": {"alpha": 1}, "sub": {"alpha": 1}, "div": {"rounding_mode": None}}.get(op, {})
    if op == "where":
        expected = {"condition": REQUIRED, "input": REQUIRED, "other": REQUIRED}
    if op == "clamp":
        expected = {"input": REQUIRED, "min": None, "max": None}
    assert list(found.items()) == list(expected.items())


def test_other_types_are_refused_by_the_name_of_the_argument() -> None:
    x = random(3)
    for call, match in {
        "add(x, [1, 2, 3])": r"add: other is int64, float32 and float64 are computed; .*other\.astype\(np\.float32\)",
        "add(x.astype(int), x)": "add: input is int64",
        "mul(x, x.astype(np.float64))": "mul: other is float64, input is float32",
        "pow(x, x.astype(int))": "pow: exponent is int64",
        "add(x, None)": "add: other must be given, an array or a number",
        "maximum(x, None)": "maximum: other must be given, an array$",
        "eq(x, 'a')": "eq: other is <U1",
        "add(1.0, 2.0)": "add: input or other must be an array, both are numbers",
        "add(x, 10**400)": "add: other must be a number",
    }.items():
        with refused(match):
            eval(f"functional.{call}", {"functional": functional, "x": x, "np": np})
