"""Grouped convolution with few channels to a group: the groups of a vector are computed together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import ConvKernel, share

if TYPE_CHECKING:
    from ...graph import Node
    from ...machine.description import Machine
    from ..lowering import Lowering
    from ..tensors import Tensor
    from . import Layer

__all__ = ["GROUPED"]

_SIZES = (2, 4)  # with 8 the tile is as fast
_SPREAD = 1.7  # an input is spread over its group's lanes for each product: so many times what the tile needs for one
_ROWS = 64  # pixels of a unit, at least: of its last tile, some are done twice


class Grouped(ConvKernel):
    """us at v3, direct tile against this: 32 groups of 4, 56x56 1 500/620, 28x28 with 16 groups 353/64."""

    name = compiled = "grouped"
    label = "grouped, several groups in a vector"

    def can(self, layer: Layer, machine: Machine) -> bool:
        channels = layer.out[0]
        size = channels // layer.groups
        return (
            not layer.double
            and layer.groups > 1
            and channels == layer.x[0]
            and channels % machine.vector == 0
            and size in _SIZES
        )

    def cost(self, layer: Layer, machine: Machine) -> float:
        c, oh, ow = layer.out
        return _SPREAD * oh * ow * layer.products * c / machine.floats_per_cycle

    def record(self, low: Lowering, node: Node, layer: Layer, x: Tensor, epilogue: dict[str, Any]) -> dict[str, Any]:
        channels = layer.out[0]
        size = channels // layer.groups
        (kh, kw), (sh, sw), (dh, dw) = layer.kernel, layer.stride, layer.dilation
        return {
            "weight": low.packed(node, "weight", "lanes", 1, (channels, size, layer.taps)),
            "bias": low.packed(node, "bias", "lanes", 1, (channels, 1, 1)),
            "size": size,
            "padded": channels,
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
        block = -(-_ROWS // max(1, y.w))
        return y.h, share(block, y.h * images, 1, low.threads if images == 1 else 1), 1, 0


GROUPED = Grouped()
