"""Images of another size.

Interpolation is linear, and each axis by itself: a product with a matrix from the left and one from the right. What it
makes of images of a single one is the matrices' columns, so the gradient has the formulas of the function itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..functional.one_op import floats
from .rule import Array, Backward, Rule, of_input

__all__ = ["RULES"]


def _matrix(size: int, place: int, axes: int, attributes: dict[str, Any], dtype: Any) -> Array:
    """Return what interpolation makes of each element of an axis of images, or of signals: (size, new size)."""
    shape, one = [size, 1, *(1,) * axes], dict(attributes)
    shape[2 + place] = size
    for name in ("size", "scale_factor"):
        value = attributes[name]
        if value is not None:
            own = value[place] if isinstance(value, (tuple, list)) else value
            one[name] = [1 if name == "size" else 1.0] * axes
            one[name][place] = own
    result: Array = F.interpolate(np.eye(size).reshape(shape), **one).reshape(size, -1)
    return result.astype(dtype)


def _interpolate(input: Any, **attributes: Any) -> tuple[Array, Backward]:
    y = F.interpolate(input, **attributes)
    x = floats("interpolate", input=input)["input"]

    def gradient(g: Array) -> Array:
        if not g.size:
            return np.zeros_like(x)
        axes = x.ndim - 2
        matrices = [_matrix(size, place, axes, attributes, x.dtype) for place, size in enumerate(x.shape[2:])]
        found = F.matmul(g, np.ascontiguousarray(matrices[-1].T))
        if axes == 2:
            found = F.matmul(matrices[0], found)
        return found

    return y, of_input(gradient)


def _pixel_shuffle(input: Any, upscale_factor: Any) -> tuple[Array, Backward]:
    return F.pixel_shuffle(input, upscale_factor), of_input(lambda g: F.pixel_unshuffle(g, upscale_factor))


def _pixel_unshuffle(input: Any, downscale_factor: Any) -> tuple[Array, Backward]:
    return F.pixel_unshuffle(input, downscale_factor), of_input(lambda g: F.pixel_shuffle(g, downscale_factor))


def _channel_shuffle(input: Any, groups: Any) -> tuple[Array, Backward]:
    y = F.channel_shuffle(input, groups)
    return y, of_input(lambda g: F.channel_shuffle(g, g.shape[-3] // int(groups)))


RULES: dict[str, Rule] = {
    "channel_shuffle": _channel_shuffle,
    "interpolate": _interpolate,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
}
