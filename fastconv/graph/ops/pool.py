"""Pooling over windows, and over a given number of parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import ArgumentError, ShapeError
from ..attributes import boolean, integer, pair, shown
from ..geometry import windows
from .spec import REQUIRED, OpSpec, image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import Attributes, Settled, Shape, Two, Weights, Window

__all__ = ["SPECS"]


# --- attributes -----------------------------------------------------------------------------------

# divisor_override is only ever converted to a float; PyTorch takes any 64-bit integer.
MAX_DIVISOR = 2**63

_stride = pair(1)


def pool_stride(name: str, value: Any) -> Two | None:
    """Return a pair, or None (also for an empty list) where the stride is the kernel's size."""
    if value is None or (isinstance(value, (tuple, list)) and not value):
        return None
    result: Two = _stride(name, value)
    return result


def divisor(name: str, value: Any) -> int | None:
    """Return an int other than zero, or None."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and -MAX_DIVISOR <= value < MAX_DIVISOR:
        result = int(value)
    else:
        result = integer(name, value)
    if result == 0:
        raise ArgumentError(f"{name} must not be zero; pass None to divide by the window's size")
    return result


def output_size(name: str, value: Any) -> tuple[int | None, int | None]:
    """Return a pair whose entries may be None (keep the input's size) for adaptive pooling."""
    items = value if isinstance(value, (tuple, list)) else (value, value)
    if value is None or len(items) != 2:
        raise ArgumentError(f"{name} must be an int or a pair (each may be None), got {shown(value)}")
    height, width = (None if item is None else integer(name, item) for item in items)
    if (height is not None and height < 0) or (width is not None and width < 0):
        raise ArgumentError(f"{name} must not be negative, got {shown(value)}")
    return height, width


# --- shapes ---------------------------------------------------------------------------------------


def _pool2d(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(C, H, W) -> (C, H', W')."""
    channels, height, width = shape = image(shapes[0])
    if not (channels and height and width):
        raise ShapeError(f"the input {shape} is empty")
    kernel = kh, kw = attrs["kernel_size"]
    if attrs["stride"] is None:
        attrs = {**attrs, "stride": kernel}
    (sh, sw), (ph, pw) = attrs["stride"], attrs["padding"]
    dh, dw = attrs.get("dilation", (1, 1))
    if 2 * ph > kh or 2 * pw > kw:
        raise ArgumentError(f"padding must be at most half the kernel, got padding {ph, pw} and kernel {kernel}")
    ceil_mode = attrs["ceil_mode"]
    out_h = windows(height, kh, sh, ph, ph, dh, ceil_mode)
    out_w = windows(width, kw, sw, pw, pw, dw, ceil_mode)
    if out_h < 1 or out_w < 1:
        raise ShapeError(
            f"the window spans {dh * (kh - 1) + 1}x{dw * (kw - 1) + 1}, the padded input only "
            f"{height + 2 * ph}x{width + 2 * pw}; the output would be empty; pass a larger image"
        )
    return (channels, out_h, out_w), attrs


def _adaptive_avg(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(C, H, W) -> (C, *output_size)."""
    channels, height, width = shape = image(shapes[0])
    if not (height and width):
        raise ShapeError(f"the input {shape} is empty")
    out_h, out_w = attrs["output_size"]
    out_h = height if out_h is None else out_h
    out_w = width if out_w is None else out_w
    return (channels, out_h, out_w), {**attrs, "output_size": (out_h, out_w)}


def _adaptive_max(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(C, H, W) -> (C, *output_size)."""
    result = _adaptive_avg(shapes, attrs, weights)
    if not shapes[0][0]:  # PyTorch's average takes no channels, its maximum does not
        raise ShapeError(f"the input {shapes[0]} is empty")
    return result


# --- receptive fields -----------------------------------------------------------------------------


def _field(attrs: Attributes, weights: Weights, extent: Two, out: Shape) -> Window:
    dilation = attrs.get("dilation", (1, 1))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, attrs["kernel_size"], strict=True)]
    return reach, attrs["stride"], out[1:]


def _adaptive_field(attrs: Attributes, weights: Weights, extent: Two, out: Shape) -> Window:
    """Window i of n over an axis of s positions spans floor(i s / n) .. ceil((i + 1) s / n)."""
    pairs = list(zip(extent, out[1:], strict=True))
    reach = [max((-(-(i + 1) * s // n) - i * s // n for i in range(n)), default=1) for s, n in pairs]
    return reach, [max(s // max(n, 1), 1) for s, n in pairs], out[1:]


_WINDOW = {
    "kernel_size": (REQUIRED, pair(1)),
    "stride": (None, pool_stride),
    "padding": ((0, 0), pair(0)),
}
_CEIL = {"ceil_mode": (False, boolean)}
_AVERAGE = {"count_include_pad": (True, boolean), "divisor_override": (None, divisor)}
_OUTPUT_SIZE = {"output_size": (REQUIRED, output_size)}

SPECS = {
    "max_pool2d": OpSpec(_pool2d, {**_WINDOW, "dilation": ((1, 1), pair(1)), **_CEIL}, field=_field),
    "avg_pool2d": OpSpec(_pool2d, {**_WINDOW, **_CEIL, **_AVERAGE}, field=_field),
    "adaptive_avg_pool2d": OpSpec(_adaptive_avg, _OUTPUT_SIZE, field=_adaptive_field),
    "adaptive_max_pool2d": OpSpec(_adaptive_max, _OUTPUT_SIZE, field=_adaptive_field),
}
