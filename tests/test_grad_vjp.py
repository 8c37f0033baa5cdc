"""`fastconv.grad.vjp`: its contract, whatever the function."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import numpy as np
import processes
import pytest
from checks import refused

import fastconv
import fastconv.functional as F
from fastconv.grad import vjp
from fastconv.grad.table import FAMILIES, REFUSED

X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
WEIGHT = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)


def test_every_function_has_a_gradient_or_is_refused() -> None:
    known = [name for names in FAMILIES.values() for name in names]
    assert sorted([*known, *REFUSED]) == sorted(F.__all__)
    for family, names in FAMILIES.items():
        assert sorted(import_module(f"fastconv.grad.{family}").RULES) == sorted(names)


@pytest.mark.parametrize("name", REFUSED)
def test_a_function_without_a_gradient_is_refused_by_name(name: str) -> None:
    with refused(match=f"'{name}' has no gradient here; .* abs, adaptive_avg_pool1d, .*, where$"):
        vjp(getattr(F, name), X)


def test_what_is_no_function_of_functional_is_refused() -> None:
    def relu(input: Any) -> Any:
        return input

    for function in (relu, np.tanh, len):
        with refused(match="has no gradient here"):
            vjp(function, X)


def test_arguments_that_the_function_does_not_take_are_refused_by_it() -> None:
    with pytest.raises(TypeError, match=r"relu\(\) got an unexpected keyword argument 'inputs'"):
        vjp(F.relu, inputs=X)
    with pytest.raises(TypeError, match=r"conv2d\(\) missing 1 required positional argument: 'weight'"):
        vjp(F.conv2d, X)


def test_one_array_for_one_argument_and_a_tuple_for_more() -> None:
    y, pullback = vjp(F.relu, X)
    assert pullback(y).shape == X.shape
    y, pullback = vjp(F.conv2d, X, WEIGHT)
    of_x, of_weight, of_bias = pullback(y)
    assert (of_x.shape, of_weight.shape, of_bias) == (X.shape, WEIGHT.shape, None)


def test_only_what_is_wanted_is_found() -> None:
    y, pullback = vjp(F.conv2d, X, WEIGHT, np.zeros(4, np.float32))
    everything = pullback(y)
    for place, name in enumerate(("input", "weight", "bias")):
        found = pullback(y, wrt=[name])
        assert [gradient is not None for gradient in found] == [index == place for index in range(3)]
        np.testing.assert_array_equal(found[place], everything[place])
    assert pullback(y, wrt="weight")[0] is None
    assert pullback(y, wrt=()) == (None, None, None)
    with refused(match=r"wrt must name some of input, weight, bias, got \['kernel'\]"):
        pullback(y, wrt=["kernel"])


def test_the_gradient_of_one_number_may_be_left_out() -> None:
    _, pullback = vjp(F.mean, X)
    np.testing.assert_allclose(pullback(), np.full_like(X, 1 / X.size))
    _, pullback = vjp(F.relu, X)
    with refused(match=r"grad_output must be given, the output is \(2, 3, 8, 8\) and no single number"):
        pullback()


def test_a_gradient_unlike_the_output_is_refused() -> None:
    y, pullback = vjp(F.conv2d, X, WEIGHT)
    with refused(match=r"conv2d: grad_output must have the output's shape \(2, 4, 6, 6\), got shape \(2, 4, 6, 5\)"):
        pullback(y[..., :5])
    with refused(match=r"grad_output is float64, the output is float32; convert it with .*astype\(np.float32\)"):
        pullback(y.astype(np.float64))
    with refused(match="grad_output is int64"):
        pullback(np.ones(y.shape, np.int64))


def test_a_list_is_taken_as_the_outputs_type() -> None:
    _, pullback = vjp(F.relu, np.array([1, -1], np.float32))
    found = pullback([2, 3])
    assert found.dtype == np.float32
    assert found.tolist() == [2, 0]


def test_the_pullback_may_be_called_again() -> None:
    y, pullback = vjp(F.batch_norm, X, None, None, training=True)
    first, again = pullback(y)[0], pullback(y)[0]
    np.testing.assert_array_equal(first, again)


def test_arrays_of_other_layouts_are_as_their_copies() -> None:
    rng = np.random.default_rng(2)
    wide = rng.standard_normal((2, 3, 16, 8)).astype(np.float32)[:, :, ::2]
    weight = np.asfortranarray(WEIGHT)
    y, pullback = vjp(F.conv2d, wide, weight, padding=1)
    g = rng.standard_normal(y.shape[::-1]).astype(np.float32).T
    found = pullback(g)
    expected = vjp(F.conv2d, wide.copy(), WEIGHT, padding=1)[1](np.ascontiguousarray(g))
    for gradient, want in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(gradient, want)


def test_nothing_given_is_changed() -> None:
    x, weight, bias = X.copy(), WEIGHT.copy(), np.ones(4, np.float32)
    y, pullback = vjp(F.conv2d, x, weight, bias, padding=1)
    g = y.copy()
    pullback(g)
    for array, before in ((x, X), (weight, WEIGHT), (bias, np.ones(4)), (g, y)):
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("name", [name for names in FAMILIES.values() for name in names])
def test_rules_take_the_arguments_of_their_functions(name: str) -> None:
    from fastconv.grad.table import rule_of

    taken = inspect.signature(getattr(F, name)).parameters
    rule = inspect.signature(rule_of(name)).parameters
    names = [p.name for p in rule.values() if p.kind is not p.VAR_KEYWORD]
    assert set(names) <= set(taken)
    assert len(names) == len(taken) or any(p.kind is p.VAR_KEYWORD for p in rule.values())


ALIASES = [
    *((op, ([1.5, -2, 3], [2.0, 3, -4])) for op in ("add", "sub", "mul", "div", "maximum", "minimum", "fmod")),
    ("remainder", ([1.5, -2, 3], [2.0, 3, -4])),
    ("pow", ([1.5, 2, 3], [2.0, 3, -4])),
    ("float_power", ([1.5, 2, 3], [2.0, 3, -4])),
    ("add", ([[1.0, 2]], [3.0])),
    ("broadcast_to", ([1.0, 2], (2,))),
    ("reshape", ([1.0, 2], (2, 1))),
    ("permute", ([[1.0, 2]], (0, 1))),
    ("sum", ([[1.0, 2], [3, 4]], 0)),
    ("where", ([True, False], [1.0, 2], [3.0, 4])),
    ("cat", ([np.ones((2, 3)), np.ones((1, 3))], 0)),
    ("cat", ([np.ones((2, 3))], 0)),
    ("stack", ([np.ones(3), np.ones(3)], 0)),
]


@pytest.mark.parametrize(("op", "arguments"), ALIASES)
def test_gradients_are_arrays_of_their_own(op: str, arguments: tuple[Any, ...]) -> None:
    given = [np.array(a) if isinstance(a, list) and not isinstance(a[0], np.ndarray) else a for a in arguments]
    y, pullback = vjp(getattr(F, op), *given)
    g = np.ones_like(y)
    found = pullback(g)
    found = found if isinstance(found, tuple) else (found,)
    gradients = [part for one in found if one is not None for part in (one if isinstance(one, tuple) else (one,))]
    for place, gradient in enumerate(gradients):
        assert type(gradient) is np.ndarray
        assert gradient.flags.writeable
        others = [g, y, *gradients[:place], *(a for a in given if isinstance(a, np.ndarray))]
        assert not any(np.shares_memory(gradient, other) for other in others)


@pytest.mark.parametrize("given", ["a", 1j, [[1.0], [1.0, 2.0]], {"a": 1}])
def test_a_gradient_that_is_no_array_is_refused(given: Any) -> None:
    _, pullback = vjp(F.relu, np.ones(2, np.float32))
    with refused(match=r"pullback of relu: grad_output must be an array of float32 and shape \(2,\), got"):
        pullback(given)


@pytest.mark.parametrize("wrt", [0, [[1]], b"input", [None], ("input", 1)])
def test_names_that_are_none_are_refused(wrt: Any) -> None:
    y, pullback = vjp(F.conv2d, X, WEIGHT)
    with refused(match="pullback of conv2d: wrt must name some of input, weight, bias, got"):
        pullback(y, wrt=wrt)


def test_a_gradient_may_be_of_another_byte_order() -> None:
    y, pullback = vjp(F.relu, X.astype(">f4"))
    np.testing.assert_array_equal(pullback(y.astype(">f4")), pullback(y))


@pytest.mark.filterwarnings("error")
def test_no_warning_escapes() -> None:
    x = np.ones((4, 2, 3, 3), np.float32)
    g = np.full_like(x, np.inf)
    zero, one = np.zeros(2, np.float32), np.ones(2, np.float32)
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (F.batch_norm, (x, None, None), {"training": True, "eps": 0.0}),
        (F.batch_norm, (x, zero.copy(), one.copy()), {"training": True, "momentum": np.inf}),
        (F.batch_norm, (x, one, zero), {"eps": 0.0}),
        (F.layer_norm, (x, (3, 3)), {"eps": 0.0}),
        (F.group_norm, (x, 1), {"eps": 0.0}),
        (F.rms_norm, (x * 0, (3,)), {"eps": 0.0}),
        (F.local_response_norm, (x * np.float32(1e30), 3), {}),
        (F.var, (x * np.float32(1e30),), {}),
    ]
    for function, arguments, attributes in calls:
        function(*arguments, **attributes)
        y, pullback = vjp(function, *arguments, **attributes)
        pullback(g if y.shape == g.shape else None)


def test_importing_fastconv_loads_no_gradients() -> None:
    code = "import sys, fastconv, fastconv.functional; print([m for m in sys.modules if m.startswith('fastconv.grad')])"
    assert processes.run("-c", code) == "[]\n"
    code = "import sys, fastconv; fastconv.grad; print('fastconv.grad.pullback' in sys.modules, fastconv.grad.vjp)"
    assert processes.run("-c", code).startswith("False <function vjp")


def test_the_face_names_what_there_is() -> None:
    assert "grad" in fastconv.__all__
    assert set(fastconv.grad.__all__) <= set(dir(fastconv.grad))
    with pytest.raises(AttributeError, match="has no attribute 'jvp'"):
        _ = fastconv.grad.jvp


BITS = """
import zlib
import numpy as np
import fastconv.functional as F
from fastconv.grad import vjp
rng = np.random.default_rng(0)
draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
calls = [
    (F.conv2d, (draw(19, 3, 40, 41), draw(16, 3, 3, 3), draw(16)), {"padding": 1}),
    (F.conv2d, (draw(1, 32, 56, 56), draw(64, 32, 3, 3), draw(64)), {"padding": 1}),
    (F.conv2d, (draw(5, 64, 28, 28), draw(64, 1, 3, 3)), {"padding": 1, "groups": 64, "stride": 2}),
    (F.conv_transpose2d, (draw(4, 32, 28, 28), draw(32, 16, 4, 4)), {"stride": 2, "padding": 1}),
    (F.linear, (draw(256, 400), draw(120, 400), draw(120)), {}),
    (F.batch_norm, (draw(8, 17, 40, 40), None, None, draw(17), draw(17)), {"training": True}),
    (F.layer_norm, (draw(512, 300), (300,), draw(300), draw(300)), {}),
    (F.group_norm, (draw(8, 16, 40, 40), 4, draw(16), draw(16)), {}),
    (F.max_pool2d, (draw(16, 16, 56, 56), 3, 2, 1), {}),
    (F.avg_pool2d, (draw(16, 16, 56, 56), 3, 2, 1), {}),
    (F.gelu, (draw(1000, 300),), {}),
    (F.softmax, (draw(1000, 300), 1), {}),
    (F.cross_entropy, (draw(1000, 300), rng.integers(0, 300, 1000)), {}),
]
for function, arguments, attributes in calls:
    y, pullback = vjp(function, *arguments, **attributes)
    found = pullback(np.asarray(rng.standard_normal(y.shape)).astype(np.float32))
    for gradient in found if isinstance(found, tuple) else (found,):
        if gradient is not None:
            print(function.__name__, zlib.crc32(np.ascontiguousarray(gradient).tobytes()))
"""


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    one, two = (processes.run("-c", BITS, OMP_NUM_THREADS=count) for count in ("1", "2"))
    assert one.count("\n") > 20
    assert one == two
