"""Images of another size: interpolation, and pixels out of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ArgumentError, ShapeError
from .one_op import Array, compiled, one_op
from .signals import prepare_signals

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["channel_shuffle", "interpolate", "pixel_shuffle", "pixel_unshuffle"]

_compiled = compiled("interpolate", ("size", "scale_factor", "mode", "align_corners"))
_signals = prepare_signals(
    "interpolate", "interpolate", _compiled, {"size": 1, "scale_factor": 1.0, "mode": None, "align_corners": None}
)
_OF_SIGNALS = {"nearest": "nearest", "nearest-exact": "nearest-exact", "linear": "bilinear"}


def _prepare(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> tuple[Callable[..., Any], int]:
    size, scale_factor, mode, align_corners = values
    shape = arrays[0].shape
    if len(shape) == 3 and mode in _OF_SIGNALS:
        return _signals(arrays, (size, scale_factor, _OF_SIGNALS[mode], align_corners), threads)
    if len(shape) == 3 and mode in ("bilinear", "bicubic"):
        raise ArgumentError(
            f"interpolate: mode {mode!r} is for images (N, C, H, W), got shape {shape}; pass one image as "
            "input[np.newaxis]"
        )
    if len(shape) not in (3, 4):
        raise ShapeError(f"interpolate: input must be (N, C, H, W) or (N, C, L), got shape {shape}")
    return _compiled(arrays, values, threads)


_interpolate = one_op("interpolate", _prepare)
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


def channel_shuffle(input: npt.ArrayLike, groups: int) -> Array:
    """Divide the channels of (N, C, H, W) into groups and take one of each in turn."""
    result: Array = _channel_shuffle.run((input,), (groups,))
    return result
