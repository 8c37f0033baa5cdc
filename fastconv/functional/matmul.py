"""Linear layers, on the caller's memory: nothing is packed, as weights may change from call to call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ShapeError
from ..machine.cpu import kernels
from .one_op import Array, floats, threads

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["linear"]

_linear_rows = kernels().linear_rows


def linear(input: npt.ArrayLike, weight: npt.ArrayLike, bias: npt.ArrayLike | None = None) -> Array:
    """Apply ``input @ weight.T + bias`` to the last axis.

    Parameters
    ----------
    input : (..., I)
    weight : (O, I) or (I,)
    bias : (O,) or (), optional

    Returns
    -------
    (..., O), or (...) where ``weight`` is (I,)
    """
    y: Array = _linear_rows(input, weight, bias, threads())
    if y is not NotImplemented:
        return y
    arrays = floats("linear", input=input, weight=weight, bias=bias)
    x, w, b = arrays["input"], arrays["weight"], arrays.get("bias")
    if x.ndim == 0:
        raise ShapeError("linear: input needs at least one axis, (..., in_features), got a scalar")
    if w.ndim not in (1, 2):
        raise ShapeError(f"linear: weight must be (out_features, in_features) or (in_features,), got shape {w.shape}")
    if w.shape[-1] != x.shape[-1]:
        raise ShapeError(f"linear: weight {w.shape} takes {w.shape[-1]} features, input {x.shape} has {x.shape[-1]}")
    if b is not None and b.shape != w.shape[:-1]:
        raise ShapeError(f"linear: bias must have shape {w.shape[:-1]}, as weight is {w.shape}, got shape {b.shape}")
    if w.ndim == 1:
        y = _linear_rows(x, w[np.newaxis], None if b is None else b.reshape(1), threads())
        column: Array = y.reshape(x.shape[:-1])
        return column
    y = _linear_rows(x, w, b, threads())
    assert y is not NotImplemented
    return y
