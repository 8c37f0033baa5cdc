"""The operators of a Graph: attributes, weights and shape inference of each, in one table.

Shapes here never include the batch axis, but attributes that name an axis (``dim``, ``start_dim``) count it, as
PyTorch does. What is accepted and refused follows PyTorch 2.13. Messages do not name the node; Graph adds it.

    OPS[op].attributes   name -> (default or REQUIRED, normaliser)
    OPS[op].infer        (input shapes, attributes, weights) -> output shape; settles in the attributes whatever
                         depends on the shapes ('same' padding, negative axes, -1 and None sizes)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from . import attributes as at
from .errors import ArgumentError, ShapeError

__all__ = ["MAX_ELEMENTS", "OPS", "REQUIRED", "FeatureMismatch", "OpSpec", "unfused_shape"]

Shape = tuple[int, ...]
Attributes = dict[str, Any]
Weights = Mapping[str, np.ndarray]
Infer = Callable[[Sequence[Shape], Attributes, Weights], Shape]

# No tensor of one image may have more elements: 4 TB of float32, far beyond use, far below 64-bit overflow.
MAX_ELEMENTS = 2**40

REQUIRED: Any = object()  # the default of an attribute that has none


class FeatureMismatch(ShapeError):
    """A linear layer's weight does not fit its input; kept apart so that Graph can look for the right input size."""

    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"expects {expected} features, the input has {got}")
        self.expected = expected
        self.got = got


@dataclass(frozen=True, slots=True)
class OpSpec:
    """What an operator takes.

    Attributes
    ----------
    infer
        Shape inference, see the module's docstring.
    attributes
        Name -> (default, normaliser).
    required, optional
        The weights' roles -> their rank.
    arity
        The least and the greatest number of inputs.
    """

    infer: Infer
    attributes: Mapping[str, tuple[Any, at.Normaliser]] = field(default_factory=dict)
    required: Mapping[str, int] = field(default_factory=dict)
    optional: Mapping[str, int] = field(default_factory=dict)
    arity: tuple[int, int] = (1, 1)


# --- helpers ------------------------------------------------------------------------------------


def _image(shape: Shape) -> Shape:
    """Return `shape` if it is (C, H, W)."""
    if len(shape) != 3:
        raise ShapeError(f"needs an image (C, H, W), got shape {shape}")
    return shape


def _axis(name: str, value: int, rank: int) -> int:
    """Return a non-negative axis of the batched tensor of `rank` axes; the batch itself is refused."""
    if not -rank <= value < rank:
        raise ArgumentError(
            f"{name}={value} is out of range: the batched input has {rank} axes ({-rank}..{rank - 1})"
        )
    axis = value + rank if value < 0 else value
    if axis == 0:
        raise ArgumentError(
            f"{name}={value} is the batch axis; images of a batch are computed apart"
        )
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


def _conv_shape(shape: Shape, attrs: Attributes, weights: Weights) -> Shape:
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
        raise ShapeError(
            f"weight {weight} has {out} output channels, not a multiple of groups={groups}"
        )
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


def _conv2d(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    out = _conv_shape(shapes[0], attrs, weights)
    _check_residual(shapes, out)
    pool = attrs["pool"]
    if pool is None:
        return out
    if len(shapes) == 2:
        raise ArgumentError("a fused pool and a fused residual exclude each other")
    _, kh, kw, sh, sw = pool
    channels, height, width = out
    if height < kh or width < kw:
        raise ShapeError(
            f"the fused pool's window {kh}x{kw} is larger than its input {height}x{width}"
        )
    return channels, (height - kh) // sh + 1, (width - kw) // sw + 1


def _linear(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """(..., F) -> (..., O)."""
    shape = shapes[0]
    out, features = weights["weight"].shape
    if not shape:
        raise ShapeError("needs at least one axis of features besides the batch")
    if shape[-1] != features:
        raise FeatureMismatch(features, shape[-1])
    _vector(weights, "bias", out)
    result = (*shape[:-1], out)
    _check_residual(shapes, result)
    return result


def unfused_shape(shape: Shape, op: str, attrs: Mapping[str, Any], weights: Weights) -> Shape:
    """Return the shape a conv2d has before its fused pooling (its accumulators); of other ops the output's shape.

    Parameters
    ----------
    shape : the first input's shape, without batch.
    op, attrs, weights : of a node whose attributes are normalised.
    """
    if op == "conv2d":
        return _conv_shape(shape, dict(attrs), weights)
    return OPS[op].infer([shape], dict(attrs), weights)


# --- pooling ------------------------------------------------------------------------------------


def _pooled(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    """Return the number of windows along one axis; in ceil mode a last one that starts past the image is dropped."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    windows = -(-room // stride) + 1
    return windows - 1 if (windows - 1) * stride >= size + padding else windows


def _pool2d(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
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
        raise ArgumentError(
            f"padding must be at most half the kernel, got padding {ph, pw} and kernel_size {kernel}"
        )
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


def _adaptive_avg(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """(C, H, W) -> (C, *output_size)."""
    return _adaptive(shapes[0], attrs)


def _adaptive_max(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """(C, H, W) -> (C, *output_size)."""
    shape = _adaptive(shapes[0], attrs)
    if not shape[0]:  # PyTorch's average takes no channels, its maximum does not
        raise ShapeError(f"the input {shapes[0]} is empty")
    return shape


# --- elementwise and normalisation --------------------------------------------------------------


def _same_shape(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """Any shape, unchanged."""
    return shapes[0]


def _hardtanh(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    at.check_limits(attrs["min_val"], attrs["max_val"])
    return shapes[0]


def _softmax(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    attrs["dim"] = _axis("dim", attrs["dim"], len(shapes[0]) + 1)
    return shapes[0]


def _batch_norm(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """(C, ...) unchanged; every weight is (C,)."""
    shape = shapes[0]
    if not shape:
        raise ShapeError("needs a channel axis besides the batch")
    for role in weights:
        _vector(weights, role, shape[0])
    return shape


def _add(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    first, second = shapes
    if first != second:
        raise ShapeError(f"both inputs must have the same shape, got {first} and {second}")
    return first


# --- layout -------------------------------------------------------------------------------------


def _pad(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    """Pad (or, where negative, crop) the last axes; the first pair belongs to the last axis."""
    shape, padding, mode = shapes[0], attrs["padding"], attrs["mode"]
    axes = len(padding) // 2
    rank = len(shape) + 1
    if mode == "constant":
        while axes > len(shape) and axes <= rank and padding[-2:] == (0, 0):
            padding, axes = padding[:-2], axes - 1  # the batch's own pair, if it says nothing
        attrs["padding"] = padding
    else:
        if attrs["value"] != 0:
            raise ArgumentError(f"mode {mode!r} takes no value, got {attrs['value']}")
        if axes not in (1, 2, 3) or rank not in (axes + 1, axes + 2):
            raise ArgumentError(
                f"mode {mode!r} pads the last 1, 2 or 3 axes of a batched input of one or two axes more; "
                f"got {axes} pairs and {rank} axes"
            )
        if mode != "circular" and 0 in shape:
            raise ShapeError(f"mode {mode!r} needs a non-empty input, got {shape}")
    if axes > len(shape):
        raise ArgumentError(
            f"padding has {axes} pairs, the input {shape} has {len(shape)} axes besides the batch"
        )
    out = list(shape)
    for i in range(axes):
        out[-1 - i] = _padded(shape[-1 - i], padding[2 * i], padding[2 * i + 1], mode)
    return tuple(out)


def _padded(size: int, before: int, after: int, mode: str) -> int:
    """Return the padded size of one axis."""
    kept = size + min(before, 0) + min(after, 0)
    total = size + before + after
    if mode == "constant":
        allowed = kept >= 0
    elif mode == "replicate":
        allowed = total >= 1
    elif mode == "reflect":
        allowed = total >= 1 and before < size and after < size
    else:
        # PyTorch crops before it wraps, and reads memory never written where more is wrapped than was kept.
        allowed = kept >= 0 and before <= kept and after <= kept
    if not allowed:
        raise ShapeError(f"mode {mode!r} cannot pad an axis of {size} by ({before}, {after})")
    return total


def _flatten(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    shape = shapes[0]
    rank = len(shape) + 1
    start = attrs["start_dim"] = _axis("start_dim", attrs["start_dim"], rank)
    end = attrs["end_dim"] = _axis("end_dim", attrs["end_dim"], rank)
    if start > end:
        raise ArgumentError(f"start_dim={start} comes after end_dim={end}")
    return (*shape[: start - 1], prod(shape[start - 1 : end]), *shape[end:])


def _reshape(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    shape, target = shapes[0], attrs["shape"]
    total, unknown = prod(shape), target.count(-1)
    if unknown > 1 or any(size < -1 for size in target):
        raise ArgumentError(f"shape must hold sizes and at most one -1, got {at.shown(target)}")
    known = prod(size for size in target if size != -1)
    if unknown and known and total % known == 0:
        target = tuple(total // known if size == -1 else size for size in target)
    elif unknown or known != total:
        raise ShapeError(f"cannot reshape {shape} ({total} elements) to {at.shown(target)}")
    attrs["shape"] = target
    return tuple(target)


def _cat(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Shape:
    first = shapes[0]
    dim = attrs["dim"] = _axis("dim", attrs["dim"], len(first) + 1)
    before, after = first[: dim - 1], first[dim:]
    for shape in shapes:
        if len(shape) != len(first) or shape[: dim - 1] != before or shape[dim:] != after:
            raise ShapeError(
                f"inputs must agree on every axis but dim={dim}, got {first} and {shape}"
            )
    return (*before, sum(shape[dim - 1] for shape in shapes), *after)


# --- the table ----------------------------------------------------------------------------------

_ACTIVATION = {"activation": (None, at.activation)}
_CONV = {
    "stride": (1, at.pair(1)),
    "padding": (0, at.conv_padding),
    "dilation": (1, at.pair(1)),
    "groups": (1, at.positive),
    **_ACTIVATION,
    "pool": (None, at.fused_pool),
}
_POOL = {
    "kernel_size": (REQUIRED, at.pair(1)),
    "stride": (None, at.pool_stride),
    "padding": (0, at.pair(0)),
}
_CEIL = {"ceil_mode": (False, at.boolean)}
_AVERAGE = {"count_include_pad": (True, at.boolean), "divisor_override": (None, at.divisor)}
_OUTPUT_SIZE = {"output_size": (REQUIRED, at.output_size)}
_DIM = {"dim": (REQUIRED, at.integer)}
_MANY = 2**31

OPS: Mapping[str, OpSpec] = {
    "conv2d": OpSpec(_conv2d, _CONV, {"weight": 4}, {"bias": 1}, (1, 2)),
    "linear": OpSpec(_linear, _ACTIVATION, {"weight": 2}, {"bias": 1}, (1, 2)),
    "max_pool2d": OpSpec(_pool2d, {**_POOL, "dilation": (1, at.pair(1)), **_CEIL}),
    "avg_pool2d": OpSpec(_pool2d, {**_POOL, **_CEIL, **_AVERAGE}),
    "adaptive_avg_pool2d": OpSpec(_adaptive_avg, _OUTPUT_SIZE),
    "adaptive_max_pool2d": OpSpec(_adaptive_max, _OUTPUT_SIZE),
    "relu": OpSpec(_same_shape),
    "leaky_relu": OpSpec(_same_shape, {"negative_slope": (0.01, at.number)}),
    "hardtanh": OpSpec(_hardtanh, {"min_val": (-1.0, at.number), "max_val": (1.0, at.number)}),
    "sigmoid": OpSpec(_same_shape),
    "tanh": OpSpec(_same_shape),
    "softmax": OpSpec(_softmax, _DIM),
    "log_softmax": OpSpec(_softmax, _DIM),
    "batch_norm": OpSpec(
        _batch_norm,
        {"eps": (1e-5, at.non_negative), **_ACTIVATION},
        {"running_mean": 1, "running_var": 1},
        {"weight": 1, "bias": 1},
    ),
    "pad": OpSpec(
        _pad,
        {
            "padding": (REQUIRED, at.pad_widths),
            "mode": ("constant", at.pad_mode),
            "value": (None, at.pad_value),
        },
    ),
    "flatten": OpSpec(_flatten, {"start_dim": (1, at.integer), "end_dim": (-1, at.integer)}),
    "reshape": OpSpec(_reshape, {"shape": (REQUIRED, at.integers)}),
    "identity": OpSpec(_same_shape),
    "dropout": OpSpec(_same_shape, {"p": (0.5, at.probability)}),
    "add": OpSpec(_add, _ACTIVATION, arity=(2, 2)),
    "cat": OpSpec(_cat, {"dim": (1, at.integer)}, arity=(1, _MANY)),
}
