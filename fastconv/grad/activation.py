"""Activations: the usual ones by a kernel that knows their derivatives, the others of functions there are."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, pi
from typing import Any

import numpy as np

from .. import functional as F
from ..functional.one_op import floats, threads
from ..machine.cpu import kernels
from .rule import Array, Backward, Rule, of_input

__all__ = ["RULES", "derivative"]

_KINDS = kernels().GRADIENTS
_gradient = kernels().activation_gradient

_SELU = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717  # scale and alpha: Klambauer et al., 2017


def derivative(kind: str, x: Array, g: Array, a: float = 0.0, b: float = 0.0) -> Array:
    """Return g times a row of the table of derivatives at x, of g's shape, with its parameters."""
    y: Array = _gradient(_KINDS[kind], x, g, a, b, threads())
    return y


def _at_input(function: str, kind: str, parameters: Callable[..., tuple[float, ...]] = lambda: ()) -> Rule:
    """Return the rule of a row that looks at the input; `parameters` makes its own of the function's."""
    call = getattr(F, function)

    def rule(input: Any, **attributes: Any) -> tuple[Array, Backward]:
        y: Array = call(input, **attributes)
        x = floats(function, input=input)["input"]
        numbers = [float(number) for number in parameters(**attributes)]
        return y, of_input(lambda g: derivative(kind, x, g, *numbers))

    return rule


def _at_result(function: str, kind: str) -> Rule:
    """Return the rule of a row that looks at the result."""
    call = getattr(F, function)

    def rule(input: Any) -> tuple[Array, Backward]:
        y: Array = call(input)
        result = np.ascontiguousarray(y)
        return y, of_input(lambda g: derivative(kind, result.reshape(g.shape), g))

    return rule


def _composed(function: str, gradient: Callable[..., Array]) -> Rule:
    """Return the rule of a gradient that is composed, `gradient(g, x, y, **attributes)`."""
    call = getattr(F, function)

    def rule(input: Any, **attributes: Any) -> tuple[Array, Backward]:
        y: Array = call(input, **attributes)
        x = floats(function, input=input)["input"]
        return y, of_input(lambda g: gradient(g, x, y, **attributes))

    return rule


def _zero(g: Array, x: Array, y: Array) -> Array:
    return np.zeros_like(g)


def _gelu(input: Any, approximate: Any) -> tuple[Array, Backward]:
    y: Array = F.gelu(input, approximate=approximate)
    x, kind = floats("gelu", input=input)["input"], "gelu_tanh" if approximate == "tanh" else "gelu"
    return y, of_input(lambda g: derivative(kind, x, g))


def _glu(input: Any, dim: Any) -> tuple[Array, Backward]:
    y: Array = F.glu(input, dim)
    first, second = np.split(floats("glu", input=input)["input"], 2, int(dim))

    def gradient(g: Array) -> Array:
        gate = F.sigmoid(second)
        return F.cat([F.mul(g, gate), derivative("sigmoid", gate, F.mul(g, first))], int(dim))

    return y, of_input(gradient)


def _selu(g: Array, x: Array, y: Array) -> Array:
    scale, alpha = _SELU
    return F.mul(derivative("elu", x, g, alpha, 1.0), scale)


def _softsign(g: Array, x: Array, y: Array) -> Array:
    under = F.add(F.abs(x), 1.0)
    return F.div(g, F.mul(under, under))


RULES: dict[str, Rule] = {
    "relu": _at_input("relu", "above", lambda: (0.0,)),
    "threshold": _at_input("threshold", "above", lambda threshold, value: (threshold,)),
    "hardtanh": _at_input("hardtanh", "between", lambda min_val, max_val: (min_val, max_val)),
    "relu6": _at_input("relu6", "between", lambda: (0.0, 6.0)),
    "hardshrink": _at_input("hardshrink", "outside", lambda lambd: (lambd,)),
    "softshrink": _at_input("softshrink", "outside", lambda lambd: (lambd,)),
    "leaky_relu": _at_input("leaky_relu", "leaky", lambda negative_slope: (negative_slope,)),
    "sigmoid": _at_result("sigmoid", "sigmoid"),
    "tanh": _at_result("tanh", "tanh"),
    "silu": _at_input("silu", "silu"),
    "hardswish": _at_input("hardswish", "hardswish"),
    "hardsigmoid": _composed("hardsigmoid", lambda g, x, y: F.mul(derivative("between", x, g, -3.0, 3.0), 1 / 6)),
    "gelu": _gelu,
    "elu": _at_input("elu", "elu", lambda alpha: (alpha, 1.0)),
    "celu": _at_input("celu", "elu", lambda alpha: (alpha, 1 / alpha)),
    "selu": _composed("selu", _selu),
    "softplus": _at_input("softplus", "softplus", lambda beta, threshold: (beta, threshold)),
    "logsigmoid": _at_input("logsigmoid", "softplus", lambda: (-1.0, inf)),
    "mish": _at_input("mish", "mish"),
    "softsign": _composed("softsign", _softsign),
    "tanhshrink": _composed("tanhshrink", lambda g, x, y: F.mul(g, F.pow(F.tanh(x), 2.0))),
    "glu": _glu,
    "exp": _composed("exp", lambda g, x, y: F.mul(g, y)),
    "log": _composed("log", lambda g, x, y: F.div(g, x)),
    "sqrt": _composed("sqrt", lambda g, x, y: F.div(g, F.mul(y, 2.0))),
    "rsqrt": _composed("rsqrt", lambda g, x, y: F.mul(F.mul(g, -0.5), F.pow(y, 3.0))),
    "reciprocal": _composed("reciprocal", lambda g, x, y: F.mul(F.mul(g, -1.0), F.mul(y, y))),
    "erf": _composed("erf", lambda g, x, y: F.mul(g, F.mul(F.exp(F.mul(F.mul(x, x), -1.0)), 2 / pi**0.5))),
    "abs": _composed("abs", lambda g, x, y: F.mul(g, F.sign(x))),
    "sin": _composed("sin", lambda g, x, y: F.mul(g, F.cos(x))),
    "cos": _composed("cos", lambda g, x, y: F.mul(g, F.mul(F.sin(x), -1.0))),
    **{name: _composed(name, _zero) for name in ("ceil", "floor", "round", "sign", "trunc")},
}
