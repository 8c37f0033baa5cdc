"""Images of another size.

Interpolation is linear, and each axis by itself: what an output is made of gets its share of the output's gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..compile.ops.resize import taps
from ..functional.one_op import floats
from ..graph.ops.resize import optional_scale
from .rule import Array, Backward, Rule, of_input

__all__ = ["RULES"]


# A product with the matrix of all weights is faster up to here, where an infinity does not meet its zeros.
_MATRIX = 1 << 18


def _spread(g: Array, axis: int, size: int, places: Array, weights: Array) -> Array:
    """Add the elements of an axis, times their weights, to where they came from, by taps in double.

    places, weights: (out, taps)

    Of the taps in the order of their places, the first of each place are added together, then the second, and so on.
    """
    if size * len(places) <= _MATRIX and np.isfinite(g).all():
        matrix = np.zeros((size, len(places)), g.dtype)
        np.add.at(matrix, (places, np.arange(len(places))[:, np.newaxis]), weights)
        return F.matmul(g, matrix.T) if axis == g.ndim - 1 else F.matmul(matrix, g)
    order = np.argsort(places, axis=None, kind="stable")
    shares, of = weights.ravel()[order], order // places.shape[1]
    counts = np.bincount(places.ravel(), minlength=size)
    starts = np.cumsum(counts) - counts
    found = np.zeros((*g.shape[:axis], size, *g.shape[axis + 1 :]))
    along, behind = found.swapaxes(0, axis), (1,) * (g.ndim - axis - 1)
    at = np.arange(size)
    for turn in range(counts.max()):
        at = at[counts[at] > turn]
        taken = starts[at] + turn
        part = g.take(of[taken], axis) * shares[taken].reshape(-1, *behind)
        along[at] += part.swapaxes(0, axis)
    return found


def _interpolate(input: Any, **attributes: Any) -> tuple[Array, Backward]:
    y = F.interpolate(input, **attributes)
    x = floats("interpolate", input=input)["input"]
    mode = "bilinear" if attributes["mode"] == "linear" else attributes["mode"]

    def gradient(g: Array) -> Array:
        if not g.size:
            return np.zeros_like(x)
        scales = optional_scale("interpolate: scale_factor", attributes["scale_factor"]) or (None, None)
        found = g
        for axis, scale in zip(range(2, x.ndim), scales, strict=False):
            size, out = x.shape[axis], g.shape[axis]
            found = _spread(found, axis, size, *taps(size, out, scale, mode, bool(attributes["align_corners"])))
        return found.astype(x.dtype, copy=False)

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
