"""1x1 convolution from the caller's planes to the caller's planes: no layout is changed, no weight packed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..tensors import NCHW, NONE
from . import ConvKernel, Layer, share, whole

if TYPE_CHECKING:
    from ...graph import Node
    from ...machine.description import Machine
    from ..lowering import Lowering
    from ..tensors import Tensor

__all__ = ["POINTWISE"]

# Rows of the tile, here output channels, that are enough chains of FMAs to hide their latency.
_ENOUGH_ROWS = 4
_GAP = 2 * 16  # floats: up to two cache lines keep panels off each other's cache sets


class Pointwise(ConvKernel):
    """us at v4 in `functional`, direct tile against this: 64->32 112x112 660/602, 16->8 12x12 2.1/1.0."""

    name, compiled, label, layout, planes = "pointwise", "conv_pointwise", "1x1, pixels in lanes", NCHW, True
    # The others' two transpositions and packing are not in their estimates: 512->512 7x7, where 15 of 64 lanes are
    # empty here, 313/300 us; 2048->32 14x14 430/304.
    margin = 0.75

    def can(self, layer: Layer, machine: Machine) -> bool:
        return (
            NCHW in layer.at_hand
            and layer.returned
            and not layer.double
            and layer.kernel == layer.stride == (1, 1)
            and layer.padding == NONE
            and layer.groups == 1
            and layer.pool is None
            and not layer.residual
        )

    def cost(self, layer: Layer, machine: Machine) -> float:
        channels, oh, ow = layer.out
        return layer.products * max(channels, _ENOUGH_ROWS) * whole(oh * ow, machine.vector) / machine.floats_per_cycle

    def record(self, low: Lowering, node: Node, layer: Layer, x: Tensor, epilogue: dict[str, Any]) -> dict[str, Any]:
        channels = layer.out[0]
        return {
            "weight": low.given(node, "weight", channels * x.c),
            "bias": low.given(node, "bias", channels),
            "inputs": x.c,
            "channels": channels,
            "activation": epilogue["activation"],
        }

    def cut(
        self, low: Lowering, layer: Layer, x: Tensor, y: Tensor, pooled: bool, images: int
    ) -> tuple[int, int, int, int]:
        k = low.kernels
        panels = -(-y.h * y.w // k.NR)
        most = max(1, k.POINTWISE_AT_ONCE // (x.c * k.NR))
        block = share(most, panels * images, 1, low.threads)
        return panels, block, 1, (layer.out[0] * k.NR + most * (x.c * k.NR + _GAP)) * 4


POINTWISE = Pointwise()
