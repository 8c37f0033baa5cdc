"""im2col in blocks feeding BLAS: the plain path, the one for float64, and the baseline."""

from __future__ import annotations

from functools import cache
from math import inf
from typing import TYPE_CHECKING, Any

from ...machine.cpu import kernels
from ..tensors import NONE
from . import ConvKernel
from .packed import window_record

if TYPE_CHECKING:
    from ...graph import Node
    from ...machine.description import Machine
    from ..lowering import Lowering
    from ..tensors import Border, Tensor
    from . import Layer

__all__ = ["BLOCK_FLOATS", "IM2COL", "bind_blas"]

BLOCK_FLOATS = 262144  # BLAS packs the block once more and wants larger products than the tile


@cache
def bind_blas() -> None:
    """Give the kernels the BLAS that NumPy has loaded: at the first need, since finding it takes milliseconds."""
    from ...machine import blas

    found = blas.address()
    if found is not None:
        kernels().bind_blas(*found)


class Im2col(ConvKernel):
    name, compiled, label, algorithm = "im2col", "conv_im2col", "im2col + BLAS", "im2col"
    serial = True

    def can(self, layer: Layer, machine: Machine) -> bool:
        return True

    def cost(self, layer: Layer, machine: Machine) -> float:
        """Of float64 it is the only one. In float32 what BLAS costs is not known, and the tile reaches the peak."""
        return 0.0 if layer.double else inf

    def border(self, layer: Layer) -> Border:
        return NONE  # im2col writes the zeros

    def record(self, low: Lowering, node: Node, layer: Layer, x: Tensor, epilogue: dict[str, Any]) -> dict[str, Any]:
        channels, groups = layer.out[0], layer.groups
        bind_blas()
        return {
            "window": window_record(layer),
            "weight": low.packed(node, "weight", "columns", groups, (channels, x.c // groups, layer.taps)),
            "bias": low.packed(node, "bias", "columns", 1, (channels, 1, 1)),
            "channels": channels,
            "activation": epilogue["activation"],
        }

    def cut(
        self, low: Lowering, layer: Layer, x: Tensor, y: Tensor, pooled: bool, images: int
    ) -> tuple[int, int, int, int]:
        per_row = layer.out[2] * layer.products
        block = max(1, min(y.h, BLOCK_FLOATS // max(1, per_row)))
        return y.h, block, 1, block * (per_row + layer.out[2] * (layer.out[0] // layer.groups)) * x.dtype.itemsize


IM2COL = Im2col()
