"""Depthwise convolution: every channel under a window of its own, channels in the lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import ConvKernel, whole

if TYPE_CHECKING:
    from ...graph import Node
    from ...machine.description import Machine
    from ..lowering import Lowering
    from ..tensors import Tensor
    from . import Layer

__all__ = ["DEPTHWISE"]

_LOADS = 2  # a product takes a load of its own: so many times what the tile needs for one


class Depthwise(ConvKernel):
    """Measured at v4, 32 channels 28x28, 3x3: 15 us, and 126 with a tile for each channel."""

    name = compiled = label = "depthwise"

    def can(self, layer: Layer, machine: Machine) -> bool:
        return not layer.double and layer.groups == layer.x[0] == layer.out[0] > 1

    def cost(self, layer: Layer, machine: Machine) -> float:
        c, oh, ow = layer.out
        return _LOADS * oh * ow * layer.taps * whole(c, machine.vector) / machine.floats_per_cycle

    def record(self, low: Lowering, node: Node, layer: Layer, x: Tensor, epilogue: dict[str, Any]) -> dict[str, Any]:
        channels = layer.out[0]
        (kh, kw), (sh, sw), (dh, dw) = layer.kernel, layer.stride, layer.dilation
        return {
            "weight": low.packed(node, "weight", "lanes", 1, (channels, 1, layer.taps)),
            "bias": low.packed(node, "bias", "lanes", 1, (channels, 1, 1)),
            "padded": whole(channels, low.kernels.VECTOR),
            "kh": kh,
            "kw": kw,
            "sh": sh,
            "sw": sw,
            "dh": dh,
            "dw": dw,
            "activation": epilogue["activation"],
        }

    def cut(
        self, low: Lowering, layer: Layer, x: Tensor, y: Tensor, pooled: bool, images: int
    ) -> tuple[int, int, int, int]:
        return y.h, 1, 1, 0


DEPTHWISE = Depthwise()
