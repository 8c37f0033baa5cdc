"""Images of other sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....graph.ops.resize import GRID_MODES, PADDING_MODES
from ..values import Value
from .linear import matmul
from .shape import transpose
from .signal import over_signals
from .table import Functions, layer, spatial

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

FUNCTIONS("pixel_shuffle.default")(layer("pixel_shuffle", (), ("upscale_factor",)))
FUNCTIONS("pixel_unshuffle.default")(layer("pixel_unshuffle", (), ("downscale_factor",)))
_interpolate = spatial("interpolate", ("size", "scale_factor", "mode", "align_corners"))

FUNCTIONS("channel_shuffle.default", "native_channel_shuffle.default")(layer("channel_shuffle", (), ("groups",)))


def _upsample(reader: Reader, x: Value, mode: str, scales: Any, align_corners: bool = False) -> Value:
    size = reader.shape[2:]
    if len(size) == 2:
        return _interpolate(reader, x, size, scales, mode, align_corners)
    lifted = None if scales is None else (1.0, *scales)
    return over_signals(reader, _interpolate, x, (1, *size), lifted, mode, align_corners)


@FUNCTIONS("upsample_nearest1d.vec", "upsample_nearest2d.vec")
def _nearest(reader: Reader, x: Value, size: Any, scales: Any) -> Value:
    return _upsample(reader, x, "nearest", scales)


@FUNCTIONS("_upsample_nearest_exact1d.vec", "_upsample_nearest_exact2d.vec")
def _nearest_exact(reader: Reader, x: Value, size: Any, scales: Any) -> Value:
    return _upsample(reader, x, "nearest-exact", scales)


@FUNCTIONS("upsample_linear1d.vec", "upsample_bilinear2d.vec")
def _bilinear(reader: Reader, x: Value, size: Any, align_corners: bool, scales: Any) -> Value:
    return _upsample(reader, x, "bilinear" if len(reader.shape) == 4 else "linear", scales, align_corners)


@FUNCTIONS("upsample_bicubic2d.vec")
def _bicubic(reader: Reader, x: Value, size: Any, align_corners: bool, scales: Any) -> Value:
    return _upsample(reader, x, "bicubic", scales, align_corners)


@FUNCTIONS("grid_sampler.default", "grid_sampler_2d.default")
def _grid_sampler(reader: Reader, x: Any, grid: Any, mode: int, padding: int, align_corners: bool) -> Value:
    if len(x.shape) != 4:
        raise reader.unsupported("is supported of images only, (N, C, H, W)")
    attrs = {"mode": GRID_MODES[mode], "padding_mode": PADDING_MODES[padding], "align_corners": align_corners}
    if not isinstance(x, Value):
        x = reader.filled(x)
    if isinstance(grid, Value):
        return reader.emit("grid_sample", x, grid, attrs=attrs)
    if any(not image.equal(grid[0]) for image in grid[1:]):
        raise reader.mixed()
    return reader.emit("grid_sample", x, weights={"grid": grid[0]}, attrs=attrs)


@FUNCTIONS("affine_grid_generator.default")
def _affine_grid(reader: Reader, theta: Value, size: list[int], align_corners: bool) -> Value:
    """A constant grid of an image's pixels, times the network's matrix."""
    import torch

    if len(size) != 4:
        raise reader.unsupported("is supported for images only, (N, C, H, W)")
    whole = torch.eye(2, 3)[None]
    pixels = torch.nn.functional.affine_grid(whole, [1, *size[1:]], align_corners).reshape(-1, 2)
    pixels = torch.cat([pixels, torch.ones(len(pixels), 1)], 1)
    return reader.reshape(matmul(reader, pixels, transpose(reader, theta, -1, -2)), (*theta.shape[:1], *size[2:], 2))
