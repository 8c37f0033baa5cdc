"""Activations: functions of every element alike, on the caller's memory in its own order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..errors import ArgumentError
from ..graph import attributes as at
from ..graph.ops.activation import approximation
from ..machine.cpu import kernels
from .one_op import Array, floats, threads

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "abs",
    "celu",
    "elu",
    "erf",
    "exp",
    "gelu",
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
    "rsqrt",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "sqrt",
    "tanh",
]

_KINDS = kernels().ACTIVATIONS
_elementwise = kernels().elementwise


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
