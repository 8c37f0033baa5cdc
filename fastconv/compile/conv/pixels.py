"""First layers, whose few channels would leave the lanes empty: pixels in the lanes, read from NCHW."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..tensors import NCHW
from . import ConvKernel, whole
from .direct import POOLED

if TYPE_CHECKING:
    from ...graph import Node
    from ...kernels._kernels import Kernels
    from ...machine.description import Machine
    from ..lowering import Lowering
    from ..tensors import Tensor
    from . import Layer

__all__ = ["PIXELS"]

# Fitted to the first layers of `benchmarks/kernels.py rules`, v3 and v4.
_SINGLE = 1.7  # a channel beyond the blocks takes so many times what one in a block takes
_POOLED = 0.9 * POOLED  # with the pool in registers
_TRANSPOSED = {32: 6, 16: 3}  # without: a transposed result for every K products, by the number of registers


class Pixels(ConvKernel):
    """LeNet's first layer, 1 -> 6, 5x5, us at v4 and v3: 2.0 and 2.2, and 5.8 and 5.1 with channels in the lanes."""

    name, compiled, label, margin, layout = "pixels", "conv_pixels", "direct, pixels in lanes", 1.05, NCHW

    def can(self, layer: Layer, machine: Machine) -> bool:
        return (
            NCHW in layer.at_hand
            and not layer.double
            and layer.groups == 1
            and layer.stride[1] == 1
            and layer.out[2] >= machine.pixel_vector
            and not layer.residual
            and (layer.pool is None or layer.pools_first)
        )

    def cost(self, layer: Layer, machine: Machine) -> float:
        blocks = self.blocks(layer.out[0], machine.pixel_block) * machine.pixel_block
        channels = blocks + _SINGLE * max(0, layer.out[0] - blocks)
        more = _POOLED if layer.pool else 1 + _TRANSPOSED[machine.registers] / layer.products
        _, oh, ow = layer.out
        return oh * ow * layer.products * channels / machine.floats_per_cycle * more

    @staticmethod
    def blocks(channels: int, block: int) -> int:
        """Return how many blocks are computed whole: a last one more than half full is filled up with zeros."""
        full, left = divmod(channels, block)
        return full + (2 * left > block)

    def fuses_pool(self, layer: Layer, kernels: Kernels) -> bool:
        return True

    def record(self, low: Lowering, node: Node, layer: Layer, x: Tensor, epilogue: dict[str, Any]) -> dict[str, Any]:
        channels = layer.out[0]
        (kh, kw), (dh, dw) = layer.kernel, layer.dilation
        _, row, _, plane = x.strides
        taps = [0] if dw == 1 else [kx * dw for kx in range(kw)]
        offsets = [c * plane + ky * dh * row + tap for c in range(x.c) for ky in range(kh) for tap in taps]
        return {
            "weight": low.packed(node, "weight", "pixels", 1, (channels, x.c, layer.taps)),
            "bias": low.packed(node, "bias", "lanes", 1, (channels, 1, 1)),
            "offsets": low.constant(np.array(offsets, np.intp)),
            "segments": len(offsets),
            "length": kw if dw == 1 else 1,
            "blocks": self.blocks(channels, low.kernels.PIXEL_CHANNELS),
            "channels": channels,
            "sh": layer.stride[0],
            "ow": layer.out[2],
            **epilogue,
        }

    def cut(
        self, low: Lowering, layer: Layer, x: Tensor, y: Tensor, pooled: bool, images: int
    ) -> tuple[int, int, int, int]:
        block = low.kernels.PIXEL_CHANNELS
        channels = max(layer.out[0], self.blocks(layer.out[0], block) * block)
        tall = layer.pool[1] if pooled and layer.pool else 1
        line = whole(layer.out[2], low.kernels.PIXEL_VECTOR)
        return y.h, 1, 1, channels * (max(tall, 2) + 1) * line * 4


PIXELS = Pixels()
