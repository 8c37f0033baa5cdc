"""Activations: functions of every element alike, on the caller's memory in its own order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import attributes as at
from ..graph.ops.activation import ACTIVATIONS, approximation
from ..machine.cpu import kernels
from .one_op import Array, floats, one_op, threads

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = [
    "abs",
    "ceil",
    "celu",
    "cos",
    "elu",
    "erf",
    "exp",
    "floor",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log",
    "logsigmoid",
    "mish",
    "reciprocal",
    "relu",
    "relu6",
    "round",
    "rsqrt",
    "selu",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softplus",
    "softshrink",
    "softsign",
    "sqrt",
    "tanh",
    "tanhshrink",
    "threshold",
    "trunc",
]

_KINDS = kernels().ACTIVATIONS
_elementwise = kernels().elementwise
_broadcast = kernels().broadcast
_MUL = kernels().ARITHMETIC["mul"]


def _apply(op: str, input: npt.ArrayLike, a: float = 0.0, b: float = 0.0, function: str | None = None) -> Array:
    """Compute a row of the table of activations with its parameters; errors name `function`, by default the row."""
    y: Array = _elementwise(_KINDS[op], input, a, b, threads())
    if y is NotImplemented:  # other layouts and byte orders, lists, scalars
        y = _elementwise(_KINDS[op], floats(function or op, input=input)["input"], a, b, threads())
        assert y is not NotImplemented
    return y


def relu(input: npt.ArrayLike) -> Array:
    """Return ``max(input, 0)``, of any shape; NaN stays NaN."""
    return _apply("relu", input)


def leaky_relu(input: npt.ArrayLike, negative_slope: float = 0.01) -> Array:
    """Return ``input``, of any shape, times ``negative_slope`` where it is negative."""
    if type(negative_slope) is not float:
        negative_slope = at.number("leaky_relu: negative_slope", negative_slope)
    return _apply("leaky_relu", input, negative_slope)


def hardtanh(input: npt.ArrayLike, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """Clip ``input``, of any shape, to ``min_val .. max_val``."""
    if type(min_val) is not float or type(max_val) is not float:
        min_val, max_val = at.number("hardtanh: min_val", min_val), at.number("hardtanh: max_val", max_val)
    if min_val > max_val:
        raise ArgumentError(f"hardtanh: min_val must not be greater than max_val, got {min_val} and {max_val}")
    return _apply("hardtanh", input, min_val, max_val)


def relu6(input: npt.ArrayLike) -> Array:
    """Clip ``input``, of any shape, to 0 .. 6."""
    return _apply("hardtanh", input, 0.0, 6.0, "relu6")


def sigmoid(input: npt.ArrayLike) -> Array:
    """Return ``1 / (1 + exp(-input))``, of any shape."""
    return _apply("sigmoid", input)


def silu(input: npt.ArrayLike) -> Array:
    """Return ``input * sigmoid(input)``, of any shape: the sigmoid linear unit, or swish."""
    return _apply("silu", input)


def tanh(input: npt.ArrayLike) -> Array:
    """Return the hyperbolic tangent of ``input``, of any shape."""
    return _apply("tanh", input)


def hardsigmoid(input: npt.ArrayLike) -> Array:
    """Return ``relu6(input + 3) / 6``, of any shape."""
    return _apply("hardsigmoid", input)


def hardswish(input: npt.ArrayLike) -> Array:
    """Return ``input * hardsigmoid(input)``, of any shape."""
    return _apply("hardswish", input)


def gelu(input: npt.ArrayLike, *, approximate: Literal["none", "tanh"] = "none") -> Array:
    """Return ``input`` times the probability that a standard normal variable is below it, of any shape.

    ``approximate='tanh'`` is the formula with a hyperbolic tangent (Hendrycks and Gimpel, "Gaussian Error Linear
    Units", 2016).
    """
    exact = approximation("gelu: approximate", approximate) == "none"
    return _apply("gelu" if exact else "gelu_tanh", input, function="gelu")


def elu(input: npt.ArrayLike, alpha: float = 1.0) -> Array:
    """Return ``input``, of any shape, and ``alpha * (exp(input) - 1)`` where it is negative."""
    return _apply("elu", input, at.number("elu: alpha", alpha), 1.0)


def celu(input: npt.ArrayLike, alpha: float = 1.0) -> Array:
    """Return ``input``, of any shape, and ``alpha * (exp(input / alpha) - 1)`` where it is negative."""
    alpha = at.number("celu: alpha", alpha)
    if alpha == 0:
        raise ArgumentError("celu: alpha must not be 0")
    return _apply("elu", input, alpha, 1 / alpha, "celu")


def selu(input: npt.ArrayLike) -> Array:
    """Return the scaled `elu` that keeps mean 0 and variance 1, of any shape."""
    return _apply("selu", input)


def softplus(input: npt.ArrayLike, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """Return ``log(1 + exp(beta * input)) / beta``, of any shape; ``input`` where ``beta * input > threshold``."""
    beta, threshold = at.number("softplus: beta", beta), at.number("softplus: threshold", threshold)
    if beta == 0:
        raise ArgumentError("softplus: beta must not be 0")
    return _apply("softplus", input, beta, threshold)


def softsign(input: npt.ArrayLike) -> Array:
    """Return ``input / (1 + |input|)``, of any shape."""
    return _apply("softsign", input)


def mish(input: npt.ArrayLike) -> Array:
    """Return ``input * tanh(softplus(input))``, of any shape."""
    return _apply("mish", input)


def logsigmoid(input: npt.ArrayLike) -> Array:
    """Return ``log(sigmoid(input))``, of any shape."""
    return _apply("logsigmoid", input)


def erf(input: npt.ArrayLike) -> Array:
    """Return the error function of ``input``, of any shape."""
    return _apply("erf", input)


def exp(input: npt.ArrayLike) -> Array:
    """Return ``e ** input``, of any shape."""
    return _apply("exp", input)


def log(input: npt.ArrayLike) -> Array:
    """Return the natural logarithm of ``input``, of any shape."""
    return _apply("log", input)


def sqrt(input: npt.ArrayLike) -> Array:
    """Return the square root of ``input``, of any shape."""
    return _apply("sqrt", input)


def rsqrt(input: npt.ArrayLike) -> Array:
    """Return ``1 / sqrt(input)``, of any shape."""
    return _apply("rsqrt", input)


def reciprocal(input: npt.ArrayLike) -> Array:
    """Return ``1 / input``, of any shape."""
    return _apply("reciprocal", input)


def abs(input: npt.ArrayLike) -> Array:
    """Return the magnitude of ``input``, of any shape."""
    return _apply("abs", input)


def floor(input: npt.ArrayLike) -> Array:
    """Return the largest whole number that is not above ``input``, of any shape."""
    return _apply("floor", input)


def ceil(input: npt.ArrayLike) -> Array:
    """Return the smallest whole number that is not below ``input``, of any shape."""
    return _apply("ceil", input)


def round(input: npt.ArrayLike) -> Array:
    """Return the whole number nearest to ``input``, halves to the even one, of any shape."""
    return _apply("round", input)


def trunc(input: npt.ArrayLike) -> Array:
    """Return ``input`` without its fraction, of any shape."""
    return _apply("trunc", input)


def sign(input: npt.ArrayLike) -> Array:
    """Return -1, 0 or 1, the sign of ``input``; 0 for NaN, of any shape."""
    return _apply("sign", input)


def sin(input: npt.ArrayLike) -> Array:
    """Return the sine of ``input``, in radians, of any shape."""
    return _apply("sin", input)


def cos(input: npt.ArrayLike) -> Array:
    """Return the cosine of ``input``, in radians, of any shape."""
    return _apply("cos", input)


def tanhshrink(input: npt.ArrayLike) -> Array:
    """Return ``input - tanh(input)``, of any shape."""
    return _apply("tanhshrink", input)


def clip(input: npt.ArrayLike, low: float, high: float) -> Array:
    """Return `hardtanh` for `clamp`."""
    return _apply("hardtanh", input, low, high, "clamp")


def power(input: npt.ArrayLike, exponent: float) -> Array:
    """Return ``input ** exponent`` for `pow`."""
    row, number = (*ACTIVATIONS["pow"].compiled(exponent), 0.0)[:2]
    return _apply(row, input, number, function="pow")


def threshold(input: npt.ArrayLike, threshold: float, value: float) -> Array:
    """Return ``input``, of any shape, where it is above ``threshold``, else ``value``; NaN stays."""
    threshold = at.number("threshold: threshold", threshold)
    return _apply("threshold", input, threshold, at.number("threshold: value", value))


def hardshrink(input: npt.ArrayLike, lambd: float = 0.5) -> Array:
    """Return ``input``, of any shape, and 0 within ``-lambd .. lambd``."""
    return _apply("hardshrink", input, at.number("hardshrink: lambd", lambd))


def softshrink(input: npt.ArrayLike, lambd: float = 0.5) -> Array:
    """Return ``input``, of any shape, nearer to 0 by ``lambd``, and 0 within ``-lambd .. lambd``."""
    lambd = at.number("softshrink: lambd", lambd)
    if not lambd >= 0:
        raise ArgumentError(f"softshrink: lambd must be 0 or more, got {lambd}")
    return _apply("softshrink", input, lambd)


def _glu(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> tuple[Callable[..., Any], int]:
    shape, dim = arrays[0].shape, at.integer("glu: dim", values[0])
    if not -len(shape) <= dim < len(shape) or shape[dim] % 2:
        raise ShapeError(f"glu: dim={dim} must be an axis with an even number of elements, the input is {shape}")
    front, half = (slice(None),) * (dim % len(shape)), shape[dim] // 2
    first, second, sigmoid = (*front, slice(0, half)), (*front, slice(half, None)), _KINDS["sigmoid"]

    def run(x: Array) -> Array:
        gate = _elementwise(sigmoid, x[second], 0.0, 0.0, threads)
        if gate is NotImplemented:  # the halves have gaps between them
            gate = _elementwise(sigmoid, np.ascontiguousarray(x[second]), 0.0, 0.0, threads)
        y: Array = _broadcast(_MUL, 0, False, x[first], gate, None, threads)
        return y

    return run, 0


_run_glu = one_op("glu", _glu, images=False).run


def glu(input: npt.ArrayLike, dim: int = -1) -> Array:
    """Return the first half of an axis times the sigmoid of the second: the gated linear unit.

    Parameters
    ----------
    input : any shape with an even number of elements along ``dim``
    dim : int

    Returns
    -------
    The input's shape, half as long along ``dim``.
    """
    result: Array = _run_glu((input,), (dim,))
    return result
