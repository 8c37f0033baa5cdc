"""Winograd's algorithm: 3x3 convolutions with fewer multiplications, in several schemes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import ConvKernel, share, whole
from .direct import panels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...graph import Node
    from ...kernels._kernels import Kernels
    from ...machine.description import Machine
    from ..lowering import Lowering
    from ..tensors import Border, Tensor
    from . import Layer

__all__ = ["WINOGRAD_2X2", "WINOGRAD_4X4"]

_BLOCK_FLOATS = 163840  # both transforms of a block of tiles: part of L2, beside the weights
_BLOCK_TILES = 112  # a few portions of the products' rows (kernels/winograd.pxi)
_POINT_GAP = 4 * 16  # floats: up to two cache lines in each transform keep points off each other's cache sets

# Fitted to the layers of `benchmarks/kernels.py rules` at v3 and v4, in products that would take as long.
# The input's transform is shared by all output channels, the output's by all input channels.
_INPUT, _OUTPUT = {32: 3.0, 16: 7.0}, 7.5  # by the number of registers
_INPUT_FEW, _OUTPUT_FEW = 4.0, 5.2  # where the sums stay in L1: `few_channels` in kernels/winograd.pxi
# AVX2 and SSE store a part of a vector in pieces.
_PARTIAL = 1.25
# Rows of a product that are enough chains of FMAs to hide their latency, by the number of registers.
_ENOUGH_ROWS = {32: 2.4, 16: 4}
# Cycles, where weights come with the call: of a filter's transform, and of an output that is checked to be finite.
_FILTER, _CHECK = 24.0, 0.4
# Weights larger than this share of the last-level cache come from memory.
_CACHED_SHARE = 0.5


class Winograd(ConvKernel):
    """F(m x m, 3x3) for one m, at the strides for which kernels/winograd.h has a scheme.

    Parameters
    ----------
    step
        m, the side of an output tile.
    """

    compiled, algorithm, exact, margin = "conv_winograd", "winograd", False, 1.05

    def __init__(self, step: int) -> None:
        self.name = f"winograd_{step}x{step}"
        self.label = f"Winograd F({step}x{step}, 3x3)"
        self.step = step

    def scheme(self, table: Sequence[Mapping[str, int]], layer: Layer) -> int | None:
        """Return the row of the schemes' table for a layer, or None."""
        for index, row in enumerate(table):
            if row["step"] == self.step and (row["stride"], row["stride"]) == layer.stride:
                return index
        return None

    def _sizes(self, table: Sequence[Mapping[str, int]], layer: Layer) -> Mapping[str, int]:
        scheme = self.scheme(table, layer)
        assert scheme is not None  # `can` holds
        return table[scheme]

    def can(self, layer: Layer, machine: Machine) -> bool:
        return (
            not layer.double
            and (self.step == 2 or not layer.weights_in_call)  # 1e-5 is promised there; 9e-6 has been seen of F(4x4)
            and layer.kernel == (3, 3)
            and layer.groups == 1
            and self.scheme(machine.winograd, layer) is not None
            and layer.dilation == (1, 1)
        )

    def cost(self, layer: Layer, machine: Machine) -> float:
        """The products of all points and the transforms; at least the time that streaming the weights takes."""
        sizes = self._sizes(machine.winograd, layer)
        (c, _, _), (o, oh, ow) = layer.x, layer.out
        tiles = -(-oh // self.step) * -(-ow // self.step)
        few_rows = max(1.0, _ENOUGH_ROWS[machine.registers] / tiles)
        side, own = sizes["side"], sizes["own"]
        alone = side if side == own + 1 else own  # along an axis: points whose weights no other point shares
        points = side**2 + alone**2 * (few_rows - 1)
        padded_c, padded_o = whole(c, machine.vector), whole(o, machine.vector)
        products = tiles * points * c * padded_o / machine.floats_per_cycle
        weight_bytes = 4 * (own + 1) ** 2 * c * o
        if weight_bytes > _CACHED_SHARE * machine.llc_bytes:
            products = max(products, weight_bytes / machine.memory_bytes_per_cycle)
        few = c <= machine.vector
        before = _INPUT_FEW if few else _INPUT[machine.registers]
        after = _OUTPUT_FEW if few else _OUTPUT
        if o % machine.vector and machine.registers == 16:
            after *= _PARTIAL
        cost = products * (1 + before * padded_c / (padded_o * c) + after / c)
        if layer.weights_in_call:
            cost += o * (_FILTER * c + _CHECK * oh * ow)
        return cost

    def fuses_pool(self, layer: Layer, kernels: Kernels) -> bool:
        """2x2 windows, inside a tile. An activation before the pool must be one that stays in a register."""
        if layer.pool is None or layer.pool[1:] != (2, 2, 2, 2):
            return False
        return layer.pools_first or layer.activation is None or layer.activation[0] in kernels.INLINE_ACTIVATIONS

    def border(self, layer: Layer) -> Border:
        """The padding, and what the last tiles reach beyond it."""
        top, bottom, left, right = layer.padding
        stride = layer.stride[0]
        high, wide = (whole(size, self.step) * stride + 3 - stride for size in layer.out[1:])
        return top, max(bottom, high - top - layer.x[1]), left, max(right, wide - left - layer.x[2])

    def describe(self, layer: Layer) -> str:
        return self.label + (", stride 2" if layer.stride[0] == 2 else "")

    def record(self, low: Lowering, node: Node, layer: Layer, x: Tensor, epilogue: dict[str, Any]) -> dict[str, Any]:
        k, channels, scheme = low.kernels, layer.out[0], self.scheme(low.kernels.WINOGRAD, layer)
        assert scheme is not None  # `can` holds
        return {
            "weight": low.winograd_weight(node, scheme),
            "bias": low.packed(node, "bias", "panels", 1, (channels, 1, 1)),
            "scheme": scheme,
            "wide": -(-layer.out[2] // self.step),
            "padded": k.packed_size(k.PACK_ORDERS["panels"], 1, channels, 1),
            "panels": panels(k, channels, 1),
            "channels": channels,
            "oh": layer.out[1],
            "ow": layer.out[2],
            **epilogue,
        }

    def cut(
        self, low: Lowering, layer: Layer, x: Tensor, y: Tensor, pooled: bool, images: int
    ) -> tuple[int, int, int, int]:
        """Scratch: both transforms of a block, each point kept off its neighbours' cache sets."""
        k, sizes = low.kernels, self._sizes(low.kernels.WINOGRAD, layer)
        rows, wide = (-(-size // self.step) for size in layer.out[1:])
        points = sizes["side"] ** 2
        channels = whole(x.c, k.VECTOR)
        padded = k.packed_size(k.PACK_ORDERS["panels"], 1, layer.out[0], 1)
        tiles = min(_BLOCK_TILES, max(2 * k.MR, _BLOCK_FLOATS // (points * (channels + padded))))
        parts = 1
        if 4 * (sizes["own"] + 1) ** 2 * x.c * padded > low.machine.l2_bytes:
            # Weights from afar are fetched once for as many tiles as possible, and no two threads fetch the same.
            tiles = _BLOCK_TILES
            parts = min(low.threads, panels(k, layer.out[0], 1)) if images == 1 else 1
        block = max(1, tiles // wide)
        block = share(block, rows * images, parts, low.threads if images == 1 else 1)
        tiles = block * wide
        floats = points * (tiles * channels + max(tiles * padded, k.FEW_TILES_AT_ONCE * k.VECTOR) + _POINT_GAP)
        return rows, block, parts, floats * 4


# us at v4, direct tile against this: 16->16 32x32 45/16, 64->64 7x7 33/13, 512->512 7x7 2100/930; 3->32 32x32
# 18.5/14.8; stride 2, 16->32 32x32 21.6/16.1, 64->128 56x56 998/668.
WINOGRAD_4X4 = Winograd(4)
WINOGRAD_2X2 = Winograd(2)
