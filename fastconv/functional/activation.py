"""Activations: functions of every element alike, on the caller's memory in its own order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ArgumentError
from ..graph import attributes as at
from ..machine.cpu import kernels
from .one_op import Array, floats, threads

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["hardtanh", "leaky_relu", "relu", "relu6", "sigmoid", "silu", "tanh"]

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
