"""Batch norm and softmax, on the caller's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import attributes as at
from ..machine.cpu import kernels
from .one_op import Array, floats, threads

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["batch_norm", "log_softmax", "softmax"]

_batch_norm = kernels().batch_norm
_softmax_axis = kernels().softmax_axis


def batch_norm(
    input: npt.ArrayLike,
    running_mean: npt.ArrayLike,
    running_var: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Normalise each channel: ``(input - running_mean) / sqrt(running_var + eps) * weight + bias``.

    Parameters
    ----------
    input : (N, C, ...)
        One without elements may have any shape but (), and statistics of any shape; it is returned
        as it is.
    running_mean, running_var : (C,)
    weight, bias : (C,), optional
    training : bool
        Must be False: the statistics are those given, and stay as they are.
    momentum : float
        Unused, as in PyTorch where ``training`` is False.
    eps : float

    Returns
    -------
    The input's shape.
    """
    if training:
        raise ArgumentError(
            "batch_norm: training=True is not supported, fastconv runs trained networks; pass "
            "training=False and the running statistics"
        )
    if type(eps) is not float or eps < 0:
        eps = at.non_negative("batch_norm: eps", eps)
    y: Array = _batch_norm(input, running_mean, running_var, weight, bias, eps, threads())
    if y is not NotImplemented:
        return y
    if running_mean is None or running_var is None:
        raise ArgumentError("batch_norm: running_mean and running_var must be given")
    arrays = floats(
        "batch_norm",
        input=input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias,
    )  # fmt: skip
    x = arrays.pop("input")
    if not x.size:
        return _without_elements(x, arrays)
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: input must be (N, C, ...), got shape {x.shape}")
    channels = x.shape[1]
    for name, array in arrays.items():
        if array.shape != (channels,):
            # PyTorch looks at no more than the number of elements of weight and bias.
            if name not in ("weight", "bias") or array.size != channels:
                raise ShapeError(
                    f"batch_norm: {name} must be ({channels},), one number for each channel of input {x.shape}, "
                    f"got shape {array.shape}"
                )
            arrays[name] = array.reshape(channels)
    y = _batch_norm(
        x, arrays["running_mean"], arrays["running_var"], arrays.get("weight"), arrays.get("bias"), eps, threads()
    )
    assert y is not NotImplemented
    return y


def _without_elements(x: Array, arrays: dict[str, Array]) -> Array:
    """Do what PyTorch does: multiply nothing by the first weight, so that there has to be one."""
    for name in ("weight", "bias"):
        if name in arrays and (arrays[name].ndim != 1 or not arrays[name].size):
            raise ShapeError(f"batch_norm: {name} must be (C,), C at least 1, got shape {arrays[name].shape}")
    return np.empty_like(x)


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
