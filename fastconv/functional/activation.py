"""Functions of every element alike, and along one axis, on the caller's memory in its own order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError
from ..graph import attributes as at
from ..machine.cpu import kernels
from .one_op import Array, floats, threads

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["hardtanh", "leaky_relu", "log_softmax", "relu", "relu6", "sigmoid", "softmax", "tanh"]

_elementwise = kernels().elementwise
_softmax_axis = kernels().softmax_axis
_RELU, _HARDTANH, _LEAKY_RELU, _SIGMOID, _TANH = (
    kernels().ACTIVATIONS[name] for name in ("relu", "hardtanh", "leaky_relu", "sigmoid", "tanh")
)


def _converted(function: str, kind: int, input: npt.ArrayLike, a: float = 0.0, b: float = 0.0) -> Array:
    """Compute what the kernel does not take as it is: other layouts and byte orders, lists, scalars."""
    y: Array = _elementwise(kind, floats(function, input=input)["input"], a, b, threads())
    assert y is not NotImplemented
    return y


def relu(input: npt.ArrayLike) -> Array:
    """Return ``max(input, 0)``, of any shape; NaN stays NaN."""
    y: Array = _elementwise(_RELU, input, 0.0, 0.0, threads())
    return y if y is not NotImplemented else _converted("relu", _RELU, input)


def leaky_relu(input: npt.ArrayLike, negative_slope: float = 0.01) -> Array:
    """Return ``input``, of any shape, times ``negative_slope`` where it is negative."""
    if type(negative_slope) is not float:
        negative_slope = at.number("leaky_relu: negative_slope", negative_slope)
    y: Array = _elementwise(_LEAKY_RELU, input, negative_slope, 0.0, threads())
    return y if y is not NotImplemented else _converted("leaky_relu", _LEAKY_RELU, input, negative_slope, 0.0)


def hardtanh(input: npt.ArrayLike, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """Clip ``input``, of any shape, to ``min_val .. max_val``."""
    return _clipped("hardtanh", input, min_val, max_val)


def relu6(input: npt.ArrayLike) -> Array:
    """Clip ``input``, of any shape, to 0 .. 6."""
    return _clipped("relu6", input, 0.0, 6.0)


def _clipped(function: str, input: npt.ArrayLike, low: float, high: float) -> Array:
    if type(low) is not float or type(high) is not float:
        low, high = at.number(f"{function}: min_val", low), at.number(f"{function}: max_val", high)
    if low > high:
        raise ArgumentError(f"{function}: min_val must not be greater than max_val, got {low} and {high}")
    y: Array = _elementwise(_HARDTANH, input, low, high, threads())
    return y if y is not NotImplemented else _converted(function, _HARDTANH, input, low, high)


def sigmoid(input: npt.ArrayLike) -> Array:
    """Return ``1 / (1 + exp(-input))``, of any shape."""
    y: Array = _elementwise(_SIGMOID, input, 0.0, 0.0, threads())
    return y if y is not NotImplemented else _converted("sigmoid", _SIGMOID, input)


def tanh(input: npt.ArrayLike) -> Array:
    """Return the hyperbolic tangent of ``input``, of any shape."""
    y: Array = _elementwise(_TANH, input, 0.0, 0.0, threads())
    return y if y is not NotImplemented else _converted("tanh", _TANH, input)


def softmax(input: npt.ArrayLike, dim: int, *, dtype: npt.DTypeLike | None = None) -> Array:
    """Exponentiate and scale so that the sum over the axis ``dim`` is 1.

    Parameters
    ----------
    input : any shape
    dim : int
        Must be given: PyTorch's choice of an axis for its caller is deprecated there.
    dtype : float32 or float64, optional
        Convert the input, which may then hold integers, before computing.

    Returns
    -------
    The input's shape.
    """
    return _over_axis("softmax", input, dim, dtype, False)


def log_softmax(input: npt.ArrayLike, dim: int, *, dtype: npt.DTypeLike | None = None) -> Array:
    """Return the logarithm of `softmax`, computed without its rounding to 0; same parameters."""
    return _over_axis("log_softmax", input, dim, dtype, True)


def _over_axis(function: str, input: npt.ArrayLike, dim: int, dtype: npt.DTypeLike | None, log: bool) -> Array:
    if dtype is None and type(dim) is int:
        y: Array = _softmax_axis(input, dim, log, threads())
        if y is not NotImplemented:
            return y
    x = floats(function, input=input if dtype is None else np.asarray(input, dtype))["input"]
    rank = max(x.ndim, 1)  # a scalar counts as an array of one, as in PyTorch
    axis = at.integer(f"{function}: dim", dim)
    if not -rank <= axis < rank:
        raise ArgumentError(f"{function}: dim must be {-rank}..{rank - 1} for shape {x.shape}, got {dim}")
    y = _softmax_axis(x.reshape(x.shape or (1,)), axis, log, threads())
    assert y is not NotImplemented
    result: Array = y.reshape(x.shape)
    return result
