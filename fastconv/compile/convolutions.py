"""Convolutions and linear layers as steps: weights packed for the kernel that `dispatch` names, units cut to size."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..graph import Node
from ..machine.cpu import kernels
from . import pack
from .dispatch import Conv, choose, monotonic, pixel_blocks
from .lowering import POOL_KINDS, SIGMOID, TANH, activation_code, emit_pool
from .plan import Ref, Step, Tensor, Value

if TYPE_CHECKING:
    from .program import Builder

__all__ = ["FINISH", "LOWER"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

# Sizes in elements (floats). They are bounds on what must stay in which cache, not tuned to a shape.
_BLOCK_BYTES = 192 * 1024  # input rows of a unit, which every panel of weights passes over: part of L2
_POOL_FLOATS = 8192  # unpooled rows of a unit: L1
_COLUMN_FLOATS = 32768  # an im2col block, 128 KB: it stays in L2 beside a panel of weights
_WINOGRAD_FLOATS = 163840  # both transforms of a block of tiles: L2 again, beside the weights
_WINOGRAD_TILES = 112  # a few portions of the products' rows (kernels/winograd.pxi)
_BLAS_FLOATS = 262144  # an im2col block for BLAS, which packs it once more and wants larger products


def _conv2d(b: Builder, node: Node) -> None:
    attrs, weight = node.attrs, node.weights["weight"]
    c, h, w = b.graph.shapes[node.inputs[0]]
    o, _, kh, kw = weight.shape
    top, bottom, left, right = attrs["padding"]
    (sh, sw), (dh, dw) = attrs["stride"], attrs["dilation"]
    oh = (h + top + bottom - dh * (kh - 1) - 1) // sh + 1
    ow = (w + left + right - dw * (kw - 1) - 1) // sw + 1
    value = b.values[node.inputs[0]]
    k = b.kernels
    conv = Conv(
        node,
        (c, h, w),
        (o, oh, ow),
        (kh, kw),
        attrs,
        value.planar is not None,
        k.VECTOR,
        k.PIXEL_VECTOR,
        k.PIXEL_CHANNELS,
        b.dtype == np.float64,
    )
    _emit_conv(b, node, choose(conv, b.algorithm), conv)


def _emit_conv(b: Builder, node: Node, chosen: str, conv: Conv) -> None:
    """Emit the convolution, and steps of their own for the epilogues that its kernel does not have."""
    attrs, weight = node.attrs, node.weights["weight"]
    o, per_group, kh, kw = weight.shape
    _, oh, ow = conv.out
    top, bottom, left, right = attrs["padding"]
    activation, pool = activation_code(attrs["activation"]), attrs["pool"]
    apart = activation[0] in (SIGMOID, TANH) and chosen != "conv_im2col"
    pool_apart = pool is not None and (apart or chosen not in _POOLED or not _POOLED[chosen](pool))
    y = b.output(node)
    target = Tensor(oh, ow, o) if pool_apart else y
    common: dict[str, Any] = {
        "kernel_size": (kh, kw),
        "stride": attrs["stride"],
        "dilation": attrs["dilation"],
        "groups": conv.groups,
        "out_channels": o,
        "oh": oh,
        "ow": ow,
        "work": o * oh * ow * per_group * kh * kw,
        "activation": (0, 0.0, 0.0, 0.0) if apart else activation,
    }
    if pool is not None and not pool_apart:
        common["pool"] = (POOL_KINDS[pool[0]], *pool[1:])
        common["pool_first"] = pool[0] == "max" and monotonic(attrs["activation"])
    border = (top, bottom, left, right)
    if chosen == "conv_pixels":
        x = Ref(b.bordered(node.inputs[0], border, planar=True), top, left)
    elif chosen in ("conv_im2col", "conv_packed"):
        x = Ref(b.last(node.inputs[0]))
        common["padding"] = (top, left)
    else:
        if chosen == "conv_winograd":  # the last tiles overhang
            stride = attrs["stride"][0]
            high, wide = (-(-size // 4) * 4 * stride + 3 - stride for size in (oh, ow))
            border = (top, max(bottom, high - top - conv.x[1]), left, max(right, wide - left - conv.x[2]))
        x = Ref(b.bordered(node.inputs[0], border), top, left)
    z = Ref(b.last(node.inputs[1])) if len(node.inputs) > 1 else None
    pack_weights = _PACK[chosen]
    label = (
        _LABELS[chosen]
        + (", stride 2" if chosen == "conv_winograd" and attrs["stride"][0] == 2 else "")
        + (f" + {pool[0]} pool" if "pool" in common else "")
    )
    b.emit(chosen, node.name, x, Ref(target), z=z, label=label, **common, **pack_weights(b, node, conv))
    if apart:
        b.emit("unary", node.name, Ref(target), Ref(target), activation=activation, label=attrs["activation"][0])
    if pool_apart:
        kind, pkh, pkw, psh, psw = pool
        emit_pool(b, node, target, y, kind, (pkh, pkw), (psh, psw))


_LABELS = {
    "conv_im2col": "im2col + BLAS",
    "conv_packed": "im2col + packed tile",
    "depthwise": "depthwise",
    "conv_pixels": "direct, pixels in lanes",
    "conv_direct": "direct tile",
    "conv_winograd": "Winograd F(4x4, 3x3)",
}

# Which kernels can fuse a pool, and which pools.
_POOLED: dict[str, Callable[[tuple[Any, ...]], bool]] = {
    "conv_direct": lambda pool: True,
    "conv_pixels": lambda pool: True,
    "conv_winograd": lambda pool: pool[1:] == (2, 2, 2, 2),
}


def _hwc(weight: Array) -> Array:
    """(O, I, kh, kw) -> (O, kh * kw * I): the order of the tile's segments."""
    rows: Array = weight.transpose(0, 2, 3, 1).reshape(weight.shape[0], -1)
    return rows


def _pack_tile(b: Builder, node: Node, conv: Conv) -> dict[str, Any]:
    weight = node.weights["weight"]
    matrix = _hwc(weight) if weight.ndim == 4 else weight
    groups, channels = conv.groups, weight.shape[0] // conv.groups
    padded = pack.padded_channels(channels, b.kernels.VECTOR, b.kernels.PANEL)
    return {
        "weight": pack.panels(matrix, groups, b.kernels.VECTOR, b.kernels.PANEL),
        "bias": pack.per_channel(node.weights.get("bias"), groups, channels, padded, b.dtype),
        "panels": groups * -(-channels // b.kernels.PANEL),
        "segments": (1, matrix.shape[1]),  # of an im2col row; _finish_direct sets what is read in place
    }


def _pack_blas(b: Builder, node: Node, conv: Conv) -> dict[str, Any]:
    weight = node.weights["weight"]
    matrix = _hwc(weight) if weight.ndim == 4 else weight
    groups, channels = conv.groups, weight.shape[0] // conv.groups
    packed = matrix.reshape(groups, channels, matrix.shape[1]).transpose(0, 2, 1)
    _bind_blas()
    return {
        "weight": np.ascontiguousarray(packed),
        "bias": pack.per_channel(node.weights.get("bias"), 1, weight.shape[0], weight.shape[0], b.dtype),
        "alone": True,
    }


@cache
def _bind_blas() -> None:
    """Give the kernels the BLAS that NumPy has loaded: at the first need, since finding it takes milliseconds."""
    from ..machine import blas

    found = blas.address()
    if found is not None:
        kernels().bind_blas(*found)


def _pack_depthwise(b: Builder, node: Node, conv: Conv) -> dict[str, Any]:
    weight = node.weights["weight"]
    channels, _, kh, kw = weight.shape
    padded = -(-channels // b.kernels.VECTOR) * b.kernels.VECTOR
    packed = pack.aligned((kh * kw, padded), b.dtype)
    packed[:, :channels] = weight.reshape(channels, kh * kw).T
    return {
        "weight": packed,
        "bias": pack.per_channel(node.weights.get("bias"), 1, channels, padded, b.dtype),
        "segments": (0, padded),
    }


def _pack_pixels(b: Builder, node: Node, conv: Conv) -> dict[str, Any]:
    weight = node.weights["weight"]
    block = b.kernels.PIXEL_CHANNELS
    padded = -(-weight.shape[0] // b.kernels.PIXEL_VECTOR) * b.kernels.PIXEL_VECTOR
    return {
        "weight": pack.pixel_blocks(weight.reshape(weight.shape[0], -1), block),
        "bias": pack.per_channel(node.weights.get("bias"), 1, weight.shape[0], padded, b.dtype),
        "panels": pixel_blocks(weight.shape[0], block),
    }


def _pack_winograd(b: Builder, node: Node, conv: Conv) -> dict[str, Any]:
    weight = node.weights["weight"]
    channels = weight.shape[0]
    padded = pack.padded_channels(channels, b.kernels.VECTOR, b.kernels.PANEL)
    return {
        "weight": pack.winograd(weight, conv.attrs["stride"][0], b.kernels.VECTOR, b.kernels.PANEL),
        "bias": pack.per_channel(node.weights.get("bias"), 1, channels, padded, b.dtype),
        "panels": -(-channels // b.kernels.PANEL),
        "segments": (-(-conv.out[2] // 4), padded),
        "rows": -(-conv.out[1] // 4),
    }


_PACK: dict[str, Callable[[Builder, Node, Conv], dict[str, Any]]] = {
    "conv_im2col": _pack_blas,
    "conv_packed": _pack_tile,
    "conv_direct": _pack_tile,
    "depthwise": _pack_depthwise,
    "conv_pixels": _pack_pixels,
    "conv_winograd": _pack_winograd,
}


def _linear(b: Builder, node: Node) -> None:
    """A linear layer is a 1x1 convolution of one pixel (or of a row of them, for a (T, F) input)."""
    weight = node.weights["weight"]
    x = b.last(node.inputs[0]) if len(b.graph.shapes[node.inputs[0]]) != 3 else b.planar(node.inputs[0])
    weight, x = _through_flatten(b, node, weight, x)
    activation = activation_code(node.attrs["activation"])
    if len(b.graph.shapes[node.name]) == 3:
        shape = b.graph.shapes[node.name]
        y = Tensor.plain(shape)
        b.values[node.name] = Value(shape, planar=Tensor(shape[1], shape[2], shape[0], True, compact=True, of=y))
        x = Tensor(1, x.c * x.h, x.w, of=x)
    else:
        y = b.output(node)
    conv = Conv(node, (x.c, x.h, x.w), (y.c, y.h, y.w), (1, 1), {"groups": 1}, False, b.kernels.VECTOR, 1, 1, False)
    double = b.dtype == np.float64
    apart = activation[0] in (SIGMOID, TANH) and not double
    pixels = y.w
    kernel = "conv_im2col" if double else "linear" if pixels == 1 and len(node.inputs) == 1 else "conv_direct"
    packed = (_pack_blas if double else _pack_tile)(b, node.replace(weights={**node.weights, "weight": weight}), conv)
    z = None
    if len(node.inputs) > 1:
        z = b.planar(node.inputs[1]) if len(b.graph.shapes[node.name]) == 3 else b.last(node.inputs[1])
        z = Tensor(pixels, 1, y.c, of=z)
    if pixels > 1:  # one above the other, not side by side: rows are what units are cut from
        x, y = Tensor(pixels, 1, x.c, of=x), Tensor(pixels, 1, y.c, of=y)
    b.emit(
        kernel,
        node.name,
        Ref(x),
        Ref(y),
        z=Ref(z) if z is not None else None,
        label="BLAS" if double else "linear tile",
        out_channels=weight.shape[0],
        ow=1,
        work=weight.size * pixels,
        activation=(0, 0.0, 0.0, 0.0) if apart else activation,
        **packed,
    )
    if apart:
        b.emit("unary", node.name, Ref(y), Ref(y), activation=activation, label=node.attrs["activation"][0])


def _through_flatten(b: Builder, node: Node, weight: Array, x: Tensor) -> tuple[Array, Tensor]:
    """Let a linear layer behind a flatten read the image channels last: permute its weights, not the image."""
    source = next((n for n in b.graph.nodes if n.name == node.inputs[0]), None)
    if source is None or source.op != "flatten" or len(b.graph.shapes[source.name]) != 1:
        return weight, x
    shape = b.graph.shapes[source.inputs[0]]
    if len(shape) != 3:
        return weight, x
    image = b.compact(source.inputs[0])
    permuted = weight.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(weight.shape)
    return permuted, Tensor(1, 1, prod(shape), of=image)


def _finish_direct(b: Builder, step: Step) -> None:
    """Offsets of the segments, now that borders are known, and blocks of rows."""
    p, x = step.parameters, step.x.tensor
    (kh, kw), (dh, dw) = p.get("kernel_size", (1, 1)), p.get("dilation", (1, 1))
    _, row, pixel, _ = x.strides
    c = x.c // p.get("groups", 1)
    if c == pixel and dw == 1:
        offsets, length = [ky * dh * row for ky in range(kh)], kw * c
    else:
        offsets, length = [ky * dh * row + kx * dw * pixel for ky in range(kh) for kx in range(kw)], c
    p["table"] = np.array(offsets, np.intp)
    p["segments"] = (len(offsets), length)
    p["unit_panels"] = p["panels"]
    tall = p["pool"][3] if "pool" in p else 1
    rows = step.y.tensor.h
    row_bytes = max(1, row * p.get("stride", (1, 1))[0] * tall * b.dtype.itemsize)
    block = max(1, _BLOCK_BYTES // row_bytes)
    if "pool" in p:
        unpooled = p["pool"][1] * p["ow"] * b.kernels.PANEL
        block = max(1, min(block, _POOL_FLOATS // unpooled))
        step.scratch = block * unpooled
    p["block"] = _share(block, rows * b.group, p["panels"], b.threads) if b.group == 1 else min(block, rows * b.group)
    step.scratch = step.scratch and p["block"] * p["pool"][1] * p["ow"] * b.kernels.PANEL


def _finish_linear(b: Builder, step: Step) -> None:
    p = step.parameters
    p["table"] = np.zeros(1, np.intp)
    p["block"] = max(1, b.group)
    p["unit_panels"] = -(-p["panels"] // b.kernels.PANELS_AT_ONCE)


def _finish_packed(b: Builder, step: Step) -> None:
    p = step.parameters
    per_row = p["ow"] * p["segments"][1]
    rows = step.y.tensor.h * b.group
    p["block"] = _share(max(1, _COLUMN_FLOATS // per_row), rows, 1, b.threads)
    step.scratch = p["block"] * per_row


def _finish_im2col(b: Builder, step: Step) -> None:
    p = step.parameters
    kh, kw = p.get("kernel_size", (1, 1))
    groups = p.get("groups", 1)
    per_row = p["ow"] * kh * kw * (step.x.tensor.c // groups)
    p["block"] = max(1, min(step.y.tensor.h, _BLAS_FLOATS // max(1, per_row)))
    step.scratch = p["block"] * (per_row + p["ow"] * (p["out_channels"] // groups))


def _finish_pixels(b: Builder, step: Step) -> None:
    p, x = step.parameters, step.x.tensor
    (kh, kw), (dh, dw) = p["kernel_size"], p["dilation"]
    _, row, _, plane = x.strides
    taps = [0] if dw == 1 else [kx * dw for kx in range(kw)]
    length = kw if dw == 1 else 1
    segments = [c * plane + ky * dh * row + t for c in range(x.c) for ky in range(kh) for t in taps]
    p["table"] = np.array(segments, np.intp)
    p["segments"] = (len(p["table"]), length)
    ld = -(-p["ow"] // b.kernels.PIXEL_VECTOR) * b.kernels.PIXEL_VECTOR
    tall = p["pool"][1] if "pool" in p else 1
    step.scratch = max(p["out_channels"], p["panels"] * b.kernels.PIXEL_CHANNELS) * (max(tall, 2) + 1) * ld


def _finish_winograd(b: Builder, step: Step) -> None:
    """Blocks of rows of tiles. Scratch: both transforms of a block, each point kept off its neighbours' cache sets."""
    p, k = step.parameters, b.kernels
    wide, padded = p["segments"]
    points = k.WINOGRAD_POINTS[p["stride"][0] - 1]
    channels = -(-step.x.tensor.c // k.VECTOR) * k.VECTOR
    tiles = min(_WINOGRAD_TILES, max(2 * k.TALLEST, _WINOGRAD_FLOATS // (points * (channels + padded))))
    p["block"] = _share(max(1, tiles // wide), p["rows"] * b.group, 1, b.threads)
    tiles = p["block"] * wide
    step.scratch = points * (tiles * channels + max(tiles * padded, k.FEW_TILES_AT_ONCE * k.VECTOR) + 4 * 16)


def _share(block: int, rows: int, panels: int, threads: int) -> int:
    """Shrink a block of rows until the units divide evenly among the threads."""
    blocks = -(-rows // block)
    if panels % threads:
        blocks = -(-blocks // threads) * threads
    return max(1, -(-rows // blocks))


LOWER: dict[str, Callable[[Builder, Node], None]] = {"conv2d": _conv2d, "linear": _linear}

# What waits until the borders are known: tables of offsets, blocks of rows, scratch.
FINISH: dict[str, Callable[[Builder, Step], None]] = {
    "conv_direct": _finish_direct,
    "linear": _finish_linear,
    "conv_packed": _finish_packed,
    "conv_im2col": _finish_im2col,
    "conv_pixels": _finish_pixels,
    "conv_winograd": _finish_winograd,
}
