"""Images of other sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .signal import over_signals
from .table import Functions, layer

if TYPE_CHECKING:
    from ..reader import Reader
    from ..values import Value

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

FUNCTIONS("pixel_shuffle.default")(layer("pixel_shuffle", (), ("upscale_factor",)))
FUNCTIONS("pixel_unshuffle.default")(layer("pixel_unshuffle", (), ("downscale_factor",)))
_interpolate = layer("interpolate", (), ("size", "scale_factor", "mode", "align_corners"))

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
    return _upsample(reader, x, "bilinear", scales, align_corners)


@FUNCTIONS("upsample_bicubic2d.vec")
def _bicubic(reader: Reader, x: Value, size: Any, align_corners: bool, scales: Any) -> Value:
    return _upsample(reader, x, "bicubic", scales, align_corners)
