"""im2col in blocks that stay in cache, feeding the register tile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..tensors import NONE
from . import ConvKernel, share
from .direct import DIRECT, tile_record

if TYPE_CHECKING:
    from ...graph import Node
    from ...machine.description import Machine
    from ..lowering import Lowering
    from ..tensors import Border, Tensor
    from . import Layer

__all__ = ["PACKED", "window_record"]

_BLOCK_FLOATS = 32768  # 128 KB: it stays in L2 beside a panel of weights
# im2col costs so many cycles for each float that it writes; never less than nothing, so it is never chosen: even for 16
# groups of 2 channels, where the tile's runs are 2 floats long, it takes 415 us and the tile in place 92 (v4).
_CYCLES_PER_FLOAT = 0.2


def window_record(layer: Layer) -> dict[str, int]:
    """Return the fields of kernels/records.pxi's Window."""
    (kh, kw), (sh, sw), (dh, dw) = layer.kernel, layer.stride, layer.dilation
    top, _, left, _ = layer.padding
    sizes = {"kh": kh, "kw": kw, "sh": sh, "sw": sw, "dh": dh, "dw": dw, "top": top, "left": left}
    return {**sizes, "groups": layer.groups, "ow": layer.out[2]}


class Packed(ConvKernel):
    name, compiled, label, algorithm = "packed", "conv_packed", "im2col + packed tile", "packed"

    def can(self, layer: Layer, machine: Machine) -> bool:
        return not layer.double

    def cost(self, layer: Layer, machine: Machine) -> float:
        _, oh, ow = layer.out
        return DIRECT.cost(layer, machine) + _CYCLES_PER_FLOAT * oh * ow * layer.products * layer.groups

    def border(self, layer: Layer) -> Border:
        return NONE  # im2col writes the zeros

    def record(self, low: Lowering, node: Node, layer: Layer, x: Tensor, epilogue: dict[str, Any]) -> dict[str, Any]:
        shape = (layer.out[0], x.c // layer.groups, layer.taps)
        tile = tile_record(low, node, shape, layer.groups, [0], layer.products, (1, 1), layer.out[1:], epilogue)
        return {"window": window_record(layer), "tile": tile}

    def cut(
        self, low: Lowering, layer: Layer, x: Tensor, y: Tensor, pooled: bool, images: int
    ) -> tuple[int, int, int, int]:
        per_row = layer.out[2] * layer.products
        block = share(max(1, _BLOCK_FLOATS // per_row), y.h * images, 1, low.threads)
        return y.h, block, 1, block * per_row * 4


PACKED = Packed()
