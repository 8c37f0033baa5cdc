"""The register tile, reading its input in place: convolution as an implicit matrix product. It can do everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import ConvKernel, share

if TYPE_CHECKING:
    from ...graph import Node
    from ...kernels._kernels import Kernels
    from ...machine.description import Machine
    from ..lowering import Lowering
    from ..tensors import Tensor
    from . import Layer

__all__ = ["DIRECT", "POOLED", "cut_rows", "panels", "tile_channels", "tile_record"]

_BLOCK_SHARE = 3 / 16  # of L2: input rows of a unit, which every panel of weights passes over
_WHOLE_SHARE = 1 / 2  # of L2: all rows together, so that the weights come from memory once
_POOL_FLOATS = 8192  # unpooled rows of a unit stay in L1

# A lone vector of channels is bound by loads where there are 16 registers; so many vectors' time more.
_LONE_VECTOR = 0.35
# A 2x2 pool costs so much of the layer it is fused to (3->32 and 32->64 at 32x32, v3 and v4).
POOLED = 1.15


def tile_channels(layer: Layer, machine: Machine) -> float:
    """Return the channels whose time the tile takes: whole vectors, in each group."""
    vectors = -(-(layer.out[0] // layer.groups) // machine.vector)
    lone = _LONE_VECTOR if machine.registers == 16 and vectors % 2 else 0
    return layer.groups * machine.vector * (vectors + lone)


def panels(kernels: Kernels, channels: int, groups: int) -> int:
    """Return how many panels of weights there are, of all groups together."""
    return groups * -(-(channels // groups) // kernels.NR)


def tile_record(
    low: Lowering,
    node: Node,
    shape: tuple[int, int, int],
    groups: int,
    offsets: list[int],
    length: int,
    stride: tuple[int, int],
    out: tuple[int, int],
    epilogue: dict[str, Any],
) -> dict[str, Any]:
    """Return the fields of kernels/records.pxi's TileRecord; shape: the weight as (O, I, taps)."""
    channels = shape[0]
    return {
        "weight": low.packed(node, "weight", "panels", groups, shape),
        "bias": low.packed(node, "bias", "panels", groups, (channels, 1, 1)),
        "offsets": low.constant(np.array(offsets, np.intp)),
        "segments": len(offsets),
        "length": length,
        "panels": panels(low.kernels, channels, groups),
        "groups": groups,
        "channels": channels,
        "sh": stride[0],
        "sw": stride[1],
        "oh": out[0],
        "ow": out[1],
        **epilogue,
    }


def cut_rows(
    low: Lowering,
    x: Tensor,
    rows: int,
    parts: int,
    images: int,
    weights: int,
    stride: int = 1,
    most: int | None = None,
) -> tuple[int, int, int, int]:
    """Return units for `rows` output rows, `stride` input rows apart, of at most `most` rows.

    A block of input rows, which every panel of weights passes over, stays in a part of L2; in a larger one where these
    are all rows, or where so many bytes of weights come from afar for each block.
    """
    row = max(1, x.strides[1] * stride * x.dtype.itemsize)
    l2 = low.machine.l2_bytes
    part = _WHOLE_SHARE if weights > l2 or rows * images * row <= _WHOLE_SHARE * l2 else _BLOCK_SHARE
    block = max(1, int(part * l2) // row)
    if most is not None:
        block = min(block, most)
    total = rows * images
    block = share(block, total, parts, low.threads) if images == 1 else min(block, total)
    return rows, block, parts, 0


class Direct(ConvKernel):
    """Measured: 98 % of the FMA peak at 56x56x64."""

    name, compiled, label = "direct", "conv_direct", "direct tile"

    def can(self, layer: Layer, machine: Machine) -> bool:
        return not layer.double

    def cost(self, layer: Layer, machine: Machine) -> float:
        _, oh, ow = layer.out
        pooled = POOLED if layer.pool else 1
        return oh * ow * layer.products * tile_channels(layer, machine) / machine.floats_per_cycle * pooled

    def fuses_pool(self, layer: Layer, kernels: Kernels) -> bool:
        return True

    def record(self, low: Lowering, node: Node, layer: Layer, x: Tensor, epilogue: dict[str, Any]) -> dict[str, Any]:
        (kh, kw), (dh, dw) = layer.kernel, layer.dilation
        _, row, pixel, _ = x.strides
        c = x.c // layer.groups
        if c == pixel and dw == 1:  # the window's pixels of one row are one run of memory
            offsets, length = [ky * dh * row for ky in range(kh)], kw * c
        else:
            offsets, length = [ky * dh * row + kx * dw * pixel for ky in range(kh) for kx in range(kw)], c
        shape = (layer.out[0], c, layer.taps)
        return tile_record(low, node, shape, layer.groups, offsets, length, layer.stride, layer.out[1:], epilogue)

    def cut(
        self, low: Lowering, layer: Layer, x: Tensor, y: Tensor, pooled: bool, images: int
    ) -> tuple[int, int, int, int]:
        parts = panels(low.kernels, layer.out[0], layer.groups)
        weights = layer.out[0] * layer.products * 4
        if not pooled or layer.pool is None:
            return cut_rows(low, x, y.h, parts, images, weights, layer.stride[0])
        kh = layer.pool[1]
        unpooled = kh * layer.out[2] * low.kernels.NR
        most = max(1, _POOL_FLOATS // unpooled)
        rows, block, parts, _ = cut_rows(low, x, y.h, parts, images, weights, layer.stride[0] * kh, most)
        return rows, block, parts, block * unpooled * 4


DIRECT = Direct()
