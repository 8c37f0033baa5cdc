"""Images of another size: interpolation, sampling at given places, and pixels out of channels."""

from __future__ import annotations

from math import floor, isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, ModelFormatError, ShapeError
from ..attributes import MAX_INTEGER, boolean, number, pair, positive, shown
from .spec import REQUIRED, OpSpec, image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..attributes import Normaliser
    from .spec import Attributes, Settled, Shape, Two, Weights, Window

__all__ = ["GRID_MODES", "MODES", "PADDING_MODES", "SPECS", "nearest_pixels"]

MODES = ("nearest", "nearest-exact", "linear", "bilinear", "bicubic")
"""Of `interpolate`, as PyTorch calls them; "linear" is along the width alone."""


GRID_MODES = ("bilinear", "nearest", "bicubic")
PADDING_MODES = ("zeros", "border", "reflection")
"""Of `grid_sample`, as PyTorch calls them."""


def one_of(choices: Sequence[str]) -> Normaliser:
    """Return what takes one of these names."""

    def normalise(name: str, value: Any) -> str:
        if value not in choices:
            raise ArgumentError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}")
        return str(value)

    return normalise


def optional_size(name: str, value: Any) -> tuple[int, int] | None:
    """Return a pair of sizes; None stays."""
    return None if value is None else _size(name, value)


_size = pair(1)


def optional_scale(name: str, value: Any) -> tuple[float, float] | None:
    """Return a pair of positive numbers; None stays."""
    if value is None:
        return None
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) not in (1, 2):
        raise ArgumentError(f"{name} must be a number or a pair, got {shown(value)}")
    vertical, horizontal = number(name, values[0]), number(name, values[-1])
    if not (isfinite(vertical) and isfinite(horizontal) and vertical > 0 and horizontal > 0):
        raise ArgumentError(f"{name} must be positive, got {shown(value)}")
    return vertical, horizontal


def _interpolate(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(C, H, W) -> (C, *size). A scale_factor stays, alone: positions are computed with it, for images of any size."""
    channels, *sizes = image(shapes[0])
    size, scale = attrs["size"], attrs["scale_factor"]
    if attrs["align_corners"] and attrs["mode"].startswith("nearest"):
        raise ArgumentError(f"mode {attrs['mode']!r} takes no align_corners")
    if size is None and scale is None:
        raise ArgumentError("needs size or scale_factor")
    if scale is not None:
        if size is None and max(n * s for n, s in zip(sizes, scale, strict=True)) > MAX_INTEGER:
            raise ShapeError(f"scale_factor {scale} is too large for {tuple(sizes)}")
        scaled = tuple(floor(n * s) for n, s in zip(sizes, scale, strict=True))
        if size not in (None, scaled):
            raise ArgumentError(f"size {size} and scale_factor {scale}, which gives {scaled}, do not agree")
        size = scaled
    if not all(sizes) or not all(size):
        raise ShapeError(f"cannot resize {tuple(sizes)} to {size}")
    if attrs["mode"] == "linear" and size[0] != sizes[0]:
        raise ShapeError(f"mode 'linear' leaves the height as it is, {sizes[0]}, got {size[0]}; use 'bilinear'")
    return (channels, *size), {**attrs, "size": size if scale is None else None}


def _grid_sample(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(C, H, W) and a grid (H', W', 2), which may be a constant, the same for all images -> (C, H', W')."""
    if len(shapes) + len(weights) != 2:
        raise ModelFormatError("needs two inputs, an image and a grid, or one and the constant 'grid'")
    channels, *sizes = image(shapes[0])
    grid = weights["grid"].shape if weights else shapes[1]
    if len(grid) != 3 or grid[2] != 2:
        raise ShapeError(f"needs a grid (H', W', 2) of places (x, y), got shape {grid}")
    if not all(sizes):
        raise ShapeError(f"cannot sample an image of {tuple(sizes)} pixels")
    return (channels, *grid[:2]), attrs


def _anywhere(attrs: Attributes, weights: Weights, extent: Two, out: Shape) -> Window:
    """Each output may lie at any place."""
    return extent, (1, 1), out[1:]


def _pixel_shuffle(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(C * r * s, H, W) -> (C, H * r, W * s)."""
    channels, height, width = image(shapes[0])
    down, across = attrs["upscale_factor"]
    if channels % (down * across):
        raise ShapeError(f"{channels} channels are no multiple of upscale_factor {down}x{across}")
    return (channels // (down * across), height * down, width * across), attrs


def _pixel_unshuffle(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(C, H * r, W * s) -> (C * r * s, H, W)."""
    channels, height, width = image(shapes[0])
    down, across = attrs["downscale_factor"]
    if height % down or width % across:
        raise ShapeError(f"{height}x{width} pixels are no multiple of downscale_factor {down}x{across}")
    return (channels * down * across, height // down, width // across), attrs


def _channel_shuffle(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(groups * n, H, W), seen as (groups, n) -> (n, groups)."""
    shape = image(shapes[0])
    if shape[0] % attrs["groups"]:
        raise ShapeError(f"{shape[0]} channels do not divide into groups={attrs['groups']}")
    return shape, attrs


def _few_pixels(attrs: Attributes, weights: Weights, extent: Two, out: Shape) -> Window:
    """The four nearest pixels, or sixteen; an output is a fraction of one, for which no stride is counted."""
    high, wide = {"linear": (1, 2), "bilinear": (2, 2), "bicubic": (4, 4)}.get(attrs["mode"], (1, 1))
    return (high, wide), (1, 1), out[1:]


def nearest_pixels(size: int, out: int, scale: float | None, mode: str) -> NDArray[np.intp]:
    """Return the position along an axis that each of `out` takes in the modes "nearest" and "nearest-exact"."""
    places = np.arange(out)
    if mode == "nearest" and out in (size, 2 * size):  # whatever the scale
        return places * size // out
    step = np.float32(1 / scale if scale else size / out)  # PyTorch's is a float, which decides where it rounds
    at = np.floor((places.astype(np.float32) + np.float32(0.5 if mode == "nearest-exact" else 0)) * step)
    result: NDArray[np.intp] = np.minimum(at.astype(np.intp), size - 1)
    return result


SPECS = {
    "interpolate": OpSpec(
        _interpolate,
        {
            "size": (None, optional_size),
            "scale_factor": (None, optional_scale),
            "mode": ("nearest", one_of(MODES)),
            "align_corners": (False, boolean),
        },
        field=_few_pixels,
    ),
    "grid_sample": OpSpec(
        _grid_sample,
        {
            "mode": ("bilinear", one_of(GRID_MODES)),
            "padding_mode": ("zeros", one_of(PADDING_MODES)),
            "align_corners": (False, boolean),
        },
        optional={"grid": 3},
        arity=(1, 2),
        field=_anywhere,
    ),
    "pixel_shuffle": OpSpec(_pixel_shuffle, {"upscale_factor": (REQUIRED, pair(1))}),
    "pixel_unshuffle": OpSpec(_pixel_unshuffle, {"downscale_factor": (REQUIRED, pair(1))}),
    "channel_shuffle": OpSpec(_channel_shuffle, {"groups": (REQUIRED, positive)}),
}
