"""Shape inference: one function per operator, ``(input shapes, attributes, weights) -> shape``.

Shapes never include the batch axis, but attributes that name an axis (``dim``, ``start_dim``) count
it, as PyTorch does. Attributes come from their normalisers; whatever depends on the shapes ('same'
padding, negative axes, sizes given as -1 or None) is settled here, in the dict itself. What is
accepted and refused follows PyTorch 2.13. Messages do not name the node; Graph adds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from .attributes import check_limits, shown

__all__ = ["Attributes", "FeatureMismatchError", "Shape", "Weights"]

Shape = tuple[int, ...]
Attributes = dict[str, Any]
Weights = Mapping[str, np.ndarray]


class FeatureMismatchError(ShapeError):
    """A linear layer's weight does not fit its input; Graph looks for the image size that would."""

    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"expects {expected} features, the input has {got}")
        self.expected = expected
        self.got = got


# --- helpers ------------------------------------------------------------------------------------


def _image(shape: Shape) -> Shape:
    """Return `shape` if it is (C, H, W)."""
    if len(shape) != 3:
        raise ShapeError(f"needs an image (C, H, W), got shape {shape}")
    return shape


def _axis(name: str, value: int, rank: int) -> int:
    """Return a non-negative axis of the batched tensor of `rank` axes; refuse the batch itself."""
    if not -rank <= value < rank:
        raise ArgumentError(f"{name}={value} is not an axis of the batched input, {-rank}..{rank - 1}")
    axis = value + rank if value < 0 else value
    if axis == 0:
        raise ArgumentError(f"{name}={value} is the batch axis; images of a batch are computed apart")
    return axis


def _vector(weights: Weights, role: str, size: int) -> None:
    """Check that an optional 1-d weight has `size` elements."""
    array = weights.get(role)
    if array is not None and array.shape[0] != size:
        raise ShapeError(f"{role} must have {size} elements, got {array.shape[0]}")


# --- convolution and linear ---------------------------------------------------------------------


def _same_padding(attrs: Attributes, kernel: Shape) -> tuple[int, int, int, int]:
    """Settle padding='same' by PyTorch's rule: the odd one goes to the bottom and the right."""
    if attrs["stride"] != (1, 1):
        raise ArgumentError(f"padding='same' needs stride 1, got stride {attrs['stride']}")
    vertical, horizontal = (d * (k - 1) for d, k in zip(attrs["dilation"], kernel, strict=True))
    top, left = vertical // 2, horizontal // 2
    return top, vertical - top, left, horizontal - left


def conv_shape(shape: Shape, attrs: Attributes, weights: Weights) -> Shape:
    """(I, H, W) -> (O, H', W'), before a fused pooling."""
    channels, height, width = _image(shape)
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
    _vector(weights, "bias", out)
    if attrs["padding"] == "same":
        attrs["padding"] = _same_padding(attrs, (kh, kw))
    if channels and not (height and width):
        raise ShapeError(f"the input {shape} is empty")
    top, bottom, left, right = attrs["padding"]
    (sh, sw), (dh, dw) = attrs["stride"], attrs["dilation"]
    room_h = height + top + bottom - dh * (kh - 1) - 1
    room_w = width + left + right - dw * (kw - 1) - 1
    if room_h < 0 or room_w < 0:
        raise ShapeError(
            f"the kernel spans {dh * (kh - 1) + 1}x{dw * (kw - 1) + 1}, the padded input only "
            f"{height + top + bottom}x{width + left + right}; pass a larger image or more padding"
        )
    # PyTorch gives a convolution over no channels no channels, whatever its weight says.
    return (out if channels else 0), room_h // sh + 1, room_w // sw + 1


def _check_residual(shapes: Sequence[Shape], out: Shape) -> None:
    if len(shapes) == 2 and shapes[1] != out:
        raise ShapeError(f"the residual must have the output's shape {out}, got {shapes[1]}")


def conv2d(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    out = conv_shape(shapes[0], attrs, weights)
    _check_residual(shapes, out)
    pool = attrs["pool"]
    if pool is None:
        return out
    if len(shapes) == 2:
        raise ArgumentError("a fused pool and a fused residual exclude each other")
    _, kh, kw, sh, sw = pool
    channels, height, width = out
    if height < kh or width < kw:
        raise ShapeError(f"the fused pool's window {kh}x{kw} is larger than its input {height}x{width}")
    return channels, (height - kh) // sh + 1, (width - kw) // sw + 1


def linear(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """(..., F) -> (..., O)."""
    shape = shapes[0]
    out, features = weights["weight"].shape
    if not shape:
        raise ShapeError("needs at least one axis of features besides the batch")
    if shape[-1] != features:
        raise FeatureMismatchError(features, shape[-1])
    _vector(weights, "bias", out)
    result = (*shape[:-1], out)
    _check_residual(shapes, result)
    return result


# --- pooling ------------------------------------------------------------------------------------


def _pooled(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Return the number of windows along one axis.

    In ceil mode a last window that would start in the padding after the image is dropped.
    """
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    windows = -(-room // stride) + 1
    return windows - 1 if (windows - 1) * stride >= size + padding else windows


def pool2d(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """(C, H, W) -> (C, H', W')."""
    channels, height, width = shape = _image(shapes[0])
    if not (channels and height and width):
        raise ShapeError(f"the input {shape} is empty")
    kernel = kh, kw = attrs["kernel_size"]
    if attrs["stride"] is None:
        attrs["stride"] = kernel
    (sh, sw), (ph, pw) = attrs["stride"], attrs["padding"]
    dh, dw = attrs.get("dilation", (1, 1))
    if 2 * ph > kh or 2 * pw > kw:
        raise ArgumentError(f"padding must be at most half the kernel, got padding {ph, pw} and kernel {kernel}")
    ceil_mode = attrs["ceil_mode"]
    out_h = _pooled(height, kh, sh, ph, dh, ceil_mode)
    out_w = _pooled(width, kw, sw, pw, dw, ceil_mode)
    if out_h < 1 or out_w < 1:
        raise ShapeError(
            f"the window spans {dh * (kh - 1) + 1}x{dw * (kw - 1) + 1}, the padded input only "
            f"{height + 2 * ph}x{width + 2 * pw}; the output would be empty; pass a larger image"
        )
    return channels, out_h, out_w


def _adaptive(shape: Shape, attrs: Attributes) -> Shape:
    channels, height, width = _image(shape)
    if not (height and width):
        raise ShapeError(f"the input {shape} is empty")
    out_h, out_w = attrs["output_size"]
    out_h = height if out_h is None else out_h
    out_w = width if out_w is None else out_w
    attrs["output_size"] = (out_h, out_w)
    return channels, out_h, out_w


def adaptive_avg(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """(C, H, W) -> (C, *output_size)."""
    return _adaptive(shapes[0], attrs)


def adaptive_max(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """(C, H, W) -> (C, *output_size)."""
    shape = _adaptive(shapes[0], attrs)
    if not shape[0]:  # PyTorch's average takes no channels, its maximum does not
        raise ShapeError(f"the input {shapes[0]} is empty")
    return shape


# --- elementwise and normalisation --------------------------------------------------------------


def same_shape(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """Any shape, unchanged."""
    return shapes[0]


def hardtanh(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    check_limits(attrs["min_val"], attrs["max_val"])
    return shapes[0]


def softmax(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    attrs["dim"] = _axis("dim", attrs["dim"], len(shapes[0]) + 1)
    return shapes[0]


def batch_norm(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """(C, ...) unchanged; every weight is (C,)."""
    shape = shapes[0]
    if not shape:
        raise ShapeError("needs a channel axis besides the batch")
    for role in weights:
        _vector(weights, role, shape[0])
    return shape


def add(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    first, second = shapes
    if first != second:
        raise ShapeError(f"both inputs must have the same shape, got {first} and {second}")
    return first


# --- layout -------------------------------------------------------------------------------------


def pad(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """Pad (or, where negative, crop) the last axes; the first pair belongs to the last axis."""
    shape, padding, mode = shapes[0], attrs["padding"], attrs["mode"]
    axes = len(padding) // 2
    rank = len(shape) + 1
    if mode == "constant":
        if axes == rank and padding[-2:] == (0, 0):  # the batch's own pair says nothing
            attrs["padding"] = padding = padding[:-2]
            axes -= 1
    else:
        if attrs["value"] != 0:
            raise ArgumentError(f"mode {mode!r} takes no value, got {attrs['value']}")
        if axes not in (1, 2, 3) or rank not in (axes + 1, axes + 2):
            raise ArgumentError(
                f"mode {mode!r} pads the last 1, 2 or 3 axes of a batched input of one or two axes "
                f"more; got {axes} pairs and {rank} axes"
            )
        if mode != "circular" and 0 in shape:
            raise ShapeError(f"mode {mode!r} needs a non-empty input, got {shape}")
    if axes > len(shape):
        raise ArgumentError(f"padding has {axes} pairs, the input {shape} has {len(shape)} axes besides the batch")
    out = list(shape)
    for i in range(axes):
        out[-1 - i] = _padded(shape[-1 - i], padding[2 * i], padding[2 * i + 1], mode)
    if mode in ("reflect", "replicate") and not any(out[-axes:]):
        raise ShapeError(f"mode {mode!r} with padding {padding} leaves nothing of {shape}")
    return tuple(out)


def _padded(size: int, before: int, after: int, mode: str) -> int:
    """Return the padded size of one axis."""
    kept = size + min(before, 0) + min(after, 0)
    total = size + before + after
    if mode == "constant":
        allowed = kept >= 0
    elif mode == "replicate":
        allowed = total >= 0
    elif mode == "reflect":
        allowed = total >= 0 and before < size and after < size
    else:
        # PyTorch crops, then wraps; wrapping more than was kept it reads memory never written.
        allowed = kept >= 0 and before <= kept and after <= kept
    if not allowed:
        raise ShapeError(f"mode {mode!r} cannot pad an axis of {size} by ({before}, {after})")
    return total


def flatten(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    shape = shapes[0]
    rank = len(shape) + 1
    start = attrs["start_dim"] = _axis("start_dim", attrs["start_dim"], rank)
    end = attrs["end_dim"] = _axis("end_dim", attrs["end_dim"], rank)
    if start > end:
        raise ArgumentError(f"start_dim={start} comes after end_dim={end}")
    return (*shape[: start - 1], prod(shape[start - 1 : end]), *shape[end:])


def reshape(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    shape, target = shapes[0], attrs["shape"]
    total, unknown = prod(shape), target.count(-1)
    if unknown > 1 or any(size < -1 for size in target):
        raise ArgumentError(f"shape must hold sizes and at most one -1, got {shown(target)}")
    known = prod(size for size in target if size != -1)
    if unknown and known and total % known == 0:
        target = tuple(total // known if size == -1 else size for size in target)
    elif unknown or known != total:
        raise ShapeError(f"cannot reshape {shape} ({total} elements) to {shown(target)}")
    attrs["shape"] = target
    return tuple(target)


def cat(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    first = shapes[0]
    dim = attrs["dim"] = _axis("dim", attrs["dim"], len(first) + 1)
    before, after = first[: dim - 1], first[dim:]
    for shape in shapes:
        if len(shape) != len(first) or shape[: dim - 1] != before or shape[dim:] != after:
            raise ShapeError(f"inputs must agree on every axis but dim={dim}, got {first} and {shape}")
    return (*before, sum(shape[dim - 1] for shape in shapes), *after)
