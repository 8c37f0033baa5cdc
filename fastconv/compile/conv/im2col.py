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

__all__ = ["IM2COL", "bind_blas", "blas_record", "cut_blocks"]

_BLOCK_FLOATS = 262144  # BLAS packs the block once more and wants larger products than the tile


@cache
def bind_blas() -> None:
    """Give the kernels the BLAS that NumPy has loaded: at the first need, since finding it takes milliseconds."""
    from ...machine import blas

    found = blas.address()
    if found is not None:
        kernels().bind_blas(*found)


def blas_record(
    low: Lowering, node: Node, window: dict[str, int], shape: tuple[int, int, int], activation: dict[str, Any]
) -> dict[str, Any]:
    """Return the fields of kernels/records.pxi's BlasRecord; shape: the weight as (O, I, taps)."""
    bind_blas()
    return {
        "window": window,
        "weight": low.packed(node, "weight", "columns", window["groups"], shape),
        "bias": low.packed(node, "bias", "columns", 1, (shape[0], 1, 1)),
        "channels": shape[0],
        "activation": activation,
    }


def cut_blocks(rows: int, inputs: int, outputs: int, itemsize: int) -> tuple[int, int, int, int]:
    """Return units for `rows` rows that take so many elements of columns each, and give so many outputs."""
    block = max(1, min(rows, _BLOCK_FLOATS // max(1, inputs)))
    return rows, block, 1, block * (inputs + outputs) * itemsize


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
        shape = (layer.out[0], x.c // layer.groups, layer.taps)
        return blas_record(low, node, window_record(layer), shape, epilogue["activation"])

    def cut(
        self, low: Lowering, layer: Layer, x: Tensor, y: Tensor, pooled: bool, images: int
    ) -> tuple[int, int, int, int]:
        wide = layer.out[2]
        return cut_blocks(y.h, wide * layer.products, wide * (layer.out[0] // layer.groups), x.dtype.itemsize)


IM2COL = Im2col()
