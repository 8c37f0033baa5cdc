"""conv2d, with what rewriting may fuse into it: a residual, an activation, a pool; and conv_transpose2d."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ...errors import ArgumentError, ShapeError
from ..attributes import integer, pair, positive, shown
from ..geometry import conv_size, windows
from .activation import ACTIVATION
from .spec import OpSpec, check_residual, check_vector, image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import Attributes, Settled, Shape, Two, Weights, Window

__all__ = ["SPECS", "same_padding"]


# --- attributes -----------------------------------------------------------------------------------


def conv_padding(name: str, value: Any) -> tuple[int, int, int, int] | str:
    """Return ``(top, bottom, left, right)``, or 'same', which only the kernel's size settles."""
    if isinstance(value, str):
        if value == "valid":
            return (0, 0, 0, 0)
        if value != "same":
            raise ArgumentError(f"{name} must be 'same', 'valid' or ints, got {shown(value)}")
        return value
    return sides(name, value)


def sides(name: str, value: Any) -> tuple[int, int, int, int]:
    """Return ``(top, bottom, left, right)`` of these four, or of a pair for both ends of an axis."""
    if isinstance(value, (tuple, list)) and len(value) == 4:
        top, bottom, left, right = (integer(name, item) for item in value)
        if min(top, bottom, left, right) < 0:
            raise ArgumentError(f"{name} must not be negative, got {shown(value)}")
        return top, bottom, left, right
    vertical, horizontal = _padding(name, value)
    return vertical, vertical, horizontal, horizontal


_padding = pair(0)


def fused_pool(name: str, value: Any) -> tuple[str, int, int, int, int] | None:
    """Return a fused pooling ``('max'|'avg', kh, kw, sh, sw)`` without overlap, or None."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 5 or value[0] not in ("max", "avg"):
        raise ArgumentError(f"{name} must be None or ('max'|'avg', kh, kw, sh, sw), got {shown(value)}")
    kh, kw, sh, sw = (positive(name, item) for item in value[1:])
    if kh > sh or kw > sw:
        raise ArgumentError(f"{name} windows must not overlap (kernel <= stride), got {shown(value)}")
    return value[0], kh, kw, sh, sw


# --- shapes ---------------------------------------------------------------------------------------


def same_padding(attrs: Attributes, kernel: Two) -> tuple[int, int, int, int]:
    """Settle padding='same' by PyTorch's rule: the odd one goes to the bottom and the right."""
    if attrs["stride"] != (1, 1):
        raise ArgumentError(f"padding='same' needs stride 1, got stride {attrs['stride']}")
    vertical, horizontal = (d * (k - 1) for d, k in zip(attrs["dilation"], kernel, strict=True))
    top, left = vertical // 2, horizontal // 2
    return top, vertical - top, left, horizontal - left


def unpooled(shape: Shape, attrs: Attributes, weights: Weights) -> Shape:
    """(I, H, W) -> (O, H', W'), before a fused pooling; the padding is settled."""
    out, _, kh, kw = weights["weight"].shape
    height, width = conv_size(shape[1:], (kh, kw), attrs["stride"], attrs["padding"], attrs["dilation"])
    # PyTorch gives a convolution over no channels no channels, whatever its weight says.
    return (out if shape[0] else 0), height, width


def infer(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(I, H, W) -> (O, H', W')."""
    channels, height, width = shape = image(shapes[0])
    weight = weights["weight"].shape
    out, per_group, kh, kw = weight
    groups = attrs["groups"]
    if channels != per_group * groups:
        raise ShapeError(
            f"weight {weight} with groups={groups} needs {per_group * groups} input channels, "
            f"the input {shape} has {channels}"
        )
    if out < groups or out % groups:
        raise ShapeError(f"weight {weight} has {out} output channels, not a multiple of groups={groups}")
    if kh < 1 or kw < 1:
        raise ShapeError(f"weight {weight} has an empty kernel")
    check_vector(weights, "bias", out)
    if attrs["padding"] == "same":
        attrs = {**attrs, "padding": same_padding(attrs, (kh, kw))}
    if channels and not (height and width):
        raise ShapeError(f"the input {shape} is empty")
    result = unpooled(shape, attrs, weights)
    if result[1] < 1 or result[2] < 1:
        (top, bottom, left, right), (dh, dw) = attrs["padding"], attrs["dilation"]
        raise ShapeError(
            f"the kernel spans {dh * (kh - 1) + 1}x{dw * (kw - 1) + 1}, the padded input only "
            f"{height + top + bottom}x{width + left + right}; pass a larger image or more padding"
        )
    check_residual(shapes, result)
    return (_pooled(shapes, result, attrs["pool"]) if attrs["pool"] else result), attrs


def _infer_transposed(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """(I, H, W) -> (O, H', W')."""
    channels, height, width = shape = image(shapes[0])
    weight = weights["weight"].shape
    inputs, per_group, kh, kw = weight
    groups = attrs["groups"]
    if channels != inputs:
        raise ShapeError(f"weight {weight} needs {inputs} input channels, the input {shape} has {channels}")
    if inputs < groups or inputs % groups:
        raise ShapeError(f"weight {weight} has {inputs} input channels, not a multiple of groups={groups}")
    if not per_group or kh < 1 or kw < 1:
        raise ShapeError(f"weight {weight} is empty")
    check_vector(weights, "bias", per_group * groups)
    if not (height and width):
        raise ShapeError(f"the input {shape} is empty")
    (top, bottom, left, right), strides, dilations = attrs["padding"], attrs["stride"], attrs["dilation"]
    for more, stride, dilation in zip(attrs["output_padding"], strides, dilations, strict=True):
        if more >= max(stride, dilation):
            raise ArgumentError(
                f"output_padding must be smaller than stride or dilation, got {attrs['output_padding']} with stride "
                f"{strides} and dilation {dilations}"
            )
    full = [
        (size - 1) * stride + dilation * (kernel - 1) + 1 + more
        for size, stride, dilation, kernel, more in zip(
            (height, width), strides, dilations, (kh, kw), attrs["output_padding"], strict=True
        )
    ]
    result = per_group * groups, full[0] - top - bottom, full[1] - left - right
    if result[1] < 1 or result[2] < 1:
        raise ShapeError(
            f"padding {attrs['padding']} leaves nothing of {full[0]}x{full[1]} pixels; pass a larger image or less "
            "padding"
        )
    return result, attrs


def _pooled(shapes: Sequence[Shape], out: Shape, pool: tuple[str, int, int, int, int]) -> Shape:
    if len(shapes) == 2:
        raise ArgumentError("a fused pool and a fused residual exclude each other")
    _, kh, kw, sh, sw = pool
    channels, height, width = out
    if height < kh or width < kw:
        raise ShapeError(f"the fused pool's window {kh}x{kw} is larger than its input {height}x{width}")
    return channels, windows(height, kh, sh), windows(width, kw, sw)


# --- counts ---------------------------------------------------------------------------------------


def _macs(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> int:
    return prod(unpooled(shapes[0], attrs, weights)) * prod(weights["weight"].shape[1:])


def _field(attrs: Attributes, weights: Weights, extent: Two, out: Shape) -> Window:
    kernel = weights["weight"].shape[2:]
    reach = [d * (k - 1) + 1 for d, k in zip(attrs["dilation"], kernel, strict=True)]
    return reach, attrs["stride"], out[1:]


def _transposed_macs(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> int:
    """Every pixel of the input meets every tap."""
    return prod(shapes[0][1:]) * weights["weight"].size


def _transposed_field(attrs: Attributes, weights: Weights, extent: Two, out: Shape) -> Window:
    """The pixels that reach one output, which is a fraction of one, for which no stride is counted."""
    kernel = weights["weight"].shape[2:]
    axes = zip(attrs["dilation"], kernel, attrs["stride"], strict=True)
    return [d * (k - 1) // s + 1 for d, k, s in axes], (1, 1), out[1:]


SPECS = {
    "conv2d": OpSpec(
        infer,
        {
            "stride": ((1, 1), pair(1)),
            "padding": ((0, 0, 0, 0), conv_padding),
            "dilation": ((1, 1), pair(1)),
            "groups": (1, positive),
            **ACTIVATION,
            "pool": (None, fused_pool),
        },
        required={"weight": 4},
        optional={"bias": 1},
        arity=(1, 2),
        macs=_macs,
        field=_field,
    ),
    "conv_transpose2d": OpSpec(
        _infer_transposed,
        {
            "stride": ((1, 1), pair(1)),
            "padding": ((0, 0, 0, 0), sides),
            "output_padding": ((0, 0), pair(0)),
            "groups": (1, positive),
            "dilation": ((1, 1), pair(1)),
            **ACTIVATION,
        },
        required={"weight": 4},
        optional={"bias": 1},
        macs=_transposed_macs,
        field=_transposed_field,
    ),
}
