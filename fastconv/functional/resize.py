"""Images of another size: interpolation, and pixels out of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from .one_op import Array, compiled, one_op

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["channel_shuffle", "interpolate", "pixel_shuffle", "pixel_unshuffle"]

_interpolate = one_op("interpolate", compiled("interpolate", ("size", "scale_factor", "mode", "align_corners")))
_pixel_shuffle = one_op("pixel_shuffle", compiled("pixel_shuffle", ("upscale_factor",)))
_pixel_unshuffle = one_op("pixel_unshuffle", compiled("pixel_unshuffle", ("downscale_factor",)))
_channel_shuffle = one_op("channel_shuffle", compiled("channel_shuffle", ("groups",)))


def interpolate(
    input: npt.ArrayLike,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: Literal["nearest", "nearest-exact", "bilinear", "bicubic"] = "nearest",
    align_corners: bool | None = None,
) -> Array:
    """Resize images.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    size : int or (H', W'), optional
    scale_factor : float or (vertical, horizontal), optional
        Instead of ``size``; the new size is rounded down.
    mode : {'nearest', 'nearest-exact', 'bilinear', 'bicubic'}
        ``'nearest'`` rounds positions down, as PyTorch does, ``'nearest-exact'`` to the nearest pixel.
    align_corners : bool, optional
        Whether the outermost pixels are points that stay where they are, instead of areas.

    Returns
    -------
    (N, C, H', W') or (C, H', W')
    """
    result: Array = _interpolate.run((input,), (size, scale_factor, mode, bool(align_corners)))
    return result


def pixel_shuffle(input: npt.ArrayLike, upscale_factor: int) -> Array:
    """Turn channels into pixels: (N, C * r * r, H, W) -> (N, C, H * r, W * r), or without N."""
    result: Array = _pixel_shuffle.run((input,), (upscale_factor,))
    return result


def pixel_unshuffle(input: npt.ArrayLike, downscale_factor: int) -> Array:
    """Turn pixels into channels: (N, C, H * r, W * r) -> (N, C * r * r, H, W), or without N."""
    result: Array = _pixel_unshuffle.run((input,), (downscale_factor,))
    return result


def channel_shuffle(input: npt.ArrayLike, groups: int) -> Array:
    """Divide the channels of (N, C, H, W) into groups and take one of each in turn."""
    result: Array = _channel_shuffle.run((input,), (groups,))
    return result
