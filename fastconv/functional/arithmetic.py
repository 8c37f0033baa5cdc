"""Arithmetic of an array and a weight."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ShapeError
from .one_op import Array, compiled, floats, one_op

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["prelu"]

_prelu = one_op("prelu", compiled("prelu", (), ("weight",)), ("input", "weight"))


def prelu(input: npt.ArrayLike, weight: npt.ArrayLike) -> Array:
    """Return ``input``, and ``input * weight`` where it is not positive.

    Parameters
    ----------
    input : (N, C, ...), or any shape where ``weight`` has one element
    weight : (C,), (1,) or ()

    Returns
    -------
    The input's shape.
    """
    arrays = floats("prelu", input=input, weight=weight)
    x, w = arrays["input"], arrays["weight"]
    channels = x.shape[1] if x.ndim > 1 else 1
    if w.ndim > 1 or w.size not in (1, channels):
        raise ShapeError(
            f"prelu: weight must have one element, or one for each of {channels} channels of the input {x.shape}, "
            f"got shape {w.shape}"
        )
    if not x.size:
        return np.empty_like(x)
    images = (len(x), channels, prod(x.shape[2:]), 1) if x.ndim > 1 else (1, 1, x.size, 1)
    y: Array = _prelu.run((x.reshape(images), w.reshape(-1)), ()).reshape(x.shape)
    return y
