"""Images of another size: interpolation, sampling at given places, and pixels out of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ArgumentError, ShapeError
from .one_op import Array, compiled, one_op, several
from .signals import prepare_signals

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["channel_shuffle", "grid_sample", "interpolate", "pixel_shuffle", "pixel_unshuffle"]

_compiled = compiled("interpolate", ("size", "scale_factor", "mode", "align_corners"))
_signals = prepare_signals(
    "interpolate", "interpolate", _compiled, {"size": 1, "scale_factor": 1.0, "mode": None, "align_corners": None}
)
_OF_SIGNALS = ("nearest", "nearest-exact", "linear")


def _prepare(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> tuple[Callable[..., Any], int]:
    size, scale_factor, mode, align_corners = values
    shape = arrays[0].shape
    if len(shape) == 3 and mode in _OF_SIGNALS:
        return _signals(arrays, (size, scale_factor, mode, align_corners), threads)
    if len(shape) == 3 and mode in ("bilinear", "bicubic"):
        raise ArgumentError(
            f"interpolate: mode {mode!r} is for images (N, C, H, W), got shape {shape}; pass one image as "
            "input[np.newaxis]"
        )
    if len(shape) == 4 and mode == "linear":
        raise ArgumentError(f"interpolate: mode 'linear' is for signals (N, C, L), got shape {shape}; use 'bilinear'")
    if len(shape) not in (3, 4):
        raise ShapeError(f"interpolate: input must be (N, C, H, W) or (N, C, L), got shape {shape}")
    return _compiled(arrays, values, threads)


def _sample(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> tuple[Callable[..., Any], int]:
    x, grid = arrays
    if x.ndim != 4:
        raise ShapeError(
            f"grid_sample: input must be (N, C, H, W), got shape {x.shape}; pass one image as input[np.newaxis]"
        )
    if grid.ndim != 4 or len(grid) != len(x):
        raise ShapeError(f"grid_sample: grid must be ({len(x)}, H', W', 2), as input is {x.shape}, got {grid.shape}")
    mode, padding_mode, align_corners = values
    attrs = {"mode": mode, "padding_mode": padding_mode, "align_corners": bool(align_corners)}
    return several("grid_sample", arrays, attrs, threads)


_interpolate = one_op("interpolate", _prepare)
_grid_sample = one_op("grid_sample", _sample, ("input", "grid"), images=False)
_pixel_shuffle = one_op("pixel_shuffle", compiled("pixel_shuffle", ("upscale_factor",)))
_pixel_unshuffle = one_op("pixel_unshuffle", compiled("pixel_unshuffle", ("downscale_factor",)))
_channel_shuffle = one_op("channel_shuffle", compiled("channel_shuffle", ("groups",)))


def interpolate(
    input: npt.ArrayLike,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: Literal["nearest", "nearest-exact", "linear", "bilinear", "bicubic"] = "nearest",
    align_corners: bool | None = None,
) -> Array:
    """Resize images, or signals. As in PyTorch, three axes are a batch of signals.

    Parameters
    ----------
    input : (N, C, H, W) or (N, C, L)
    size : int, (H', W') or (L',), optional
    scale_factor : float, (vertical, horizontal) or (along,), optional
        Instead of ``size``; the new size is rounded down.
    mode : {'nearest', 'nearest-exact', 'linear', 'bilinear', 'bicubic'}
        ``'nearest'`` rounds positions down, as PyTorch does, ``'nearest-exact'`` to the nearest pixel. ``'linear'`` is
        for signals, ``'bilinear'`` and ``'bicubic'`` are for images.
    align_corners : bool, optional
        Whether the outermost pixels are points that stay where they are, instead of areas.

    Returns
    -------
    (N, C, H', W') or (N, C, L')
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


def grid_sample(
    input: npt.ArrayLike,
    grid: npt.ArrayLike,
    mode: Literal["bilinear", "nearest", "bicubic"] = "bilinear",
    padding_mode: Literal["zeros", "border", "reflection"] = "zeros",
    align_corners: bool | None = None,
) -> Array:
    """Take images at the places of a grid (Jaderberg et al., "Spatial Transformer Networks", 2015).

    Parameters
    ----------
    input : (N, C, H, W)
    grid : (N, H', W', 2)
        Where each output lies in the image: (x, y), -1 and 1 being its edges.
    mode : {'bilinear', 'nearest', 'bicubic'}
        From the pixel that is nearest, the 4 around a place, or 16 (Keys, 1981).
    padding_mode : {'zeros', 'border', 'reflection'}
        What pixels outside are: zeros, those of the edge, or the image mirrored at its edges.
    align_corners : bool, optional
        -1 and 1 are the middles of the outermost pixels, and what is outside is mirrored there. None is False.

    Returns
    -------
    (N, C, H', W')
        NaN where a place is NaN or infinite, but where the mode is ``'nearest'``, or, if it is ``'bilinear'``, the
        padding is not ``'zeros'``: then NaN is the first pixel's place, as in PyTorch.
    """
    result: Array = _grid_sample.run((input, grid), (mode, padding_mode, align_corners))
    return result


def channel_shuffle(input: npt.ArrayLike, groups: int) -> Array:
    """Divide the channels of (N, C, H, W) into groups and take one of each in turn."""
    result: Array = _channel_shuffle.run((input,), (groups,))
    return result
