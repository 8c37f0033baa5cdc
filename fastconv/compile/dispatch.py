"""Which kernel a convolution gets: one table, with the measurement behind each rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from ..errors import UnsupportedOperatorError
from ..graph import Node

__all__ = ["ALGORITHMS", "CONVOLUTIONS", "FASTEST", "Conv", "choose", "pixel_blocks"]

ALGORITHMS = ("auto", "im2col", "packed", "direct", "winograd")
FASTEST = "fastest"  # what a model gets where no algorithm is asked for: "auto" and Winograd

# Products of a 4x4 tile by stride, and how many of them share their weights with no other (kernels/transforms.pxi).
_WINOGRAD_PRODUCTS = {1: (36, 36), 2: (81, 25)}
_CACHED_BYTES = 2**24  # weights that a last-level cache may hold


@dataclass(frozen=True)
class Conv:
    """What the rules of `CONVOLUTIONS` look at."""

    node: Node
    x: tuple[int, int, int]  # (c, h, w)
    out: tuple[int, int, int]  # unpooled
    kernel: tuple[int, int]
    attrs: Mapping[str, Any]
    planar: bool  # the input is at hand in PyTorch's order
    vector: int  # the kernels' widths, in floats
    pixel_vector: int
    pixel_block: int  # channels of the pixel kernel's block
    double: bool

    @property
    def groups(self) -> int:
        groups: int = self.attrs["groups"]
        return groups

    @property
    def depthwise(self) -> bool:
        return self.groups == self.x[0] == self.out[0] and self.groups > 1

    @property
    def pixels(self) -> bool:
        """Whether the pixel kernel can do it."""
        pool = self.attrs["pool"]
        return (
            self.planar
            and not self.double
            and self.groups == 1
            and self.attrs["stride"][1] == 1
            and self.out[2] >= self.pixel_vector
            and len(self.node.inputs) == 1
            and (pool is None or (pool[0] == "max" and monotonic(self.attrs["activation"])))
        )

    @property
    def _wide(self) -> bool:
        """Whether vectors are 16 wide: then there are 32 registers, and one FMA a cycle rather than two."""
        return self.vector == 16

    @property
    def _tile(self) -> float:
        """Channels whose time the direct tile takes: whole vectors; with 16 registers a lone one is bound by loads."""
        vectors = -(-self.out[0] // self.vector)
        return self.vector * (vectors + (0 if self._wide or vectors % 2 == 0 else 0.35))

    @property
    def pixels_gain(self) -> float:
        """Time of the direct tile over the pixel kernel's, estimated; 0 where that cannot do it.

        This one computes blocks of channels, and single ones in 1.7 of a block channel's time; without a pool it has
        a result to transpose for every K products.
        """
        if not self.pixels:
            return 0.0
        blocks = pixel_blocks(self.out[0], self.pixel_block) * self.pixel_block
        channels = blocks + 1.7 * max(0, self.out[0] - blocks)
        products = self.x[0] * prod(self.kernel)
        return self._tile / channels / (0.9 if self.attrs["pool"] else 1 + (6 if self._wide else 3) / products)

    @property
    def winograd(self) -> bool:
        """Whether Winograd's algorithm can do it."""
        return (
            not self.double
            and self.kernel == (3, 3)
            and self.groups == 1
            and self.attrs["stride"] in ((1, 1), (2, 2))
            and self.attrs["dilation"] == (1, 1)
        )

    @property
    def winograd_gain(self) -> float:
        """Time of the direct tile over Winograd's, estimated; 0 where that cannot do it.

        The products take points / (144 x used) of the direct way's; the transforms add to that a part in 1/o for the
        input's and a part in 1/c for the output's, less where sums stay in L1 (few_channels in kernels/winograd.pxi)
        or there are more registers. A tile is a row of the points' products: too few of them are too few chains of
        FMAs to hide their latency.
        """
        if not self.winograd:
            return 0.0
        (c, _, _), (o, oh, ow) = self.x, self.out
        tiles = -(-oh // 4) * -(-ow // 4)
        products, alone = _WINOGRAD_PRODUCTS[self.attrs["stride"][0]]
        points = products + alone * (max(1.0, (2 if self._wide else 4) / tiles) - 1)
        if 144 * c * o > _CACHED_BYTES:  # read from memory, at some 10 bytes a cycle
            points = max(points, 230 / tiles)
        used = oh * ow / (16 * tiles)
        padded_c, padded_o = (-(-n // self.vector) * self.vector for n in (c, o))
        before, after = (4, 5.2) if c <= self.vector else (3, 7.5) if self._wide else (7, 7.5)
        transforms = before * padded_c / (padded_o * c) + after / c
        pool = 1.15 if self.attrs["pool"] else 1  # of 2x2, it costs Winograd nothing
        return 144 * used / points / (1 + transforms) * self._tile / padded_o * pool


def pixel_blocks(channels: int, block: int) -> int:
    """Return how many blocks the pixel kernel computes: a last one more than half full is filled up with zeros."""
    full, left = divmod(channels, block)
    return full + (2 * left > block)


def monotonic(activation: tuple[Any, ...] | None) -> bool:
    """Whether max-pooling may come before bias and activation: none of them, nor rounding, changes an order."""
    return (
        activation is None
        or activation[0] in ("relu", "hardtanh")
        or (activation[0] == "leaky_relu" and activation[1] >= 0)
    )


Rule: TypeAlias = tuple[str, tuple[str, ...], Callable[[Conv], bool]]

# The kernel of a convolution: the first row whose algorithm is asked for and whose condition holds. The estimated
# gains were fitted to the 66 layers of `benchmarks/kernels.py rules`, at v3 and v4: three in four lie within 15 %, and
# where a pick is not the fastest, it takes 14 % longer at most but for one layer (docs/performance.md).
CONVOLUTIONS: tuple[Rule, ...] = (
    # float64 has no tile; BLAS serves the functional API
    ("conv_im2col", ("auto", "im2col"), lambda c: c.double),
    ("conv_im2col", ("im2col",), lambda c: True),
    ("conv_packed", ("packed",), lambda c: not c.double),
    # us at v4, 32 channels 28x28, 3x3: 15 with channels in the lanes, 126 with a tile for each channel
    ("depthwise", ("auto", "direct"), lambda c: c.depthwise and not c.double),
    ("conv_winograd", ("winograd",), lambda c: c.winograd),
    # us at v4, direct tile against Winograd: 16->16 32x32 45/16, 64->64 7x7 33/13, 512->512 7x7 2100/930; stride 2,
    # 16->32 32x32 21.6/16.1, 64->128 56x56 998/668; 3->32 32x32 18.5/14.8. Not in "auto": the functional API keeps
    # PyTorch's NaN and inf apart.
    ("conv_winograd", (FASTEST,), lambda c: c.winograd_gain > max(1.05, c.pixels_gain)),
    # LeNet's first layer, 1 -> 6, 5x5, us at v4 and v3: 2.0 and 2.2 with pixels in the lanes, 5.8 and 5.1 with channels
    ("conv_pixels", ("auto", "direct"), lambda c: c.pixels_gain > 1.08),
    # everything else: the tile reads x in place, 98 % of the FMA peak at 56x56x64. im2col + tile is never chosen: even
    # for 16 groups of 2 channels, where a segment is 2 floats long, it takes 415 us and the tile in place 92
    ("conv_direct", ("auto", "direct"), lambda c: not c.double),
)


def choose(conv: Conv, algorithm: str) -> str:
    """Return the kernel for a convolution under one of `ALGORITHMS`, or `FASTEST`."""
    asked = {algorithm, "auto"} if algorithm == FASTEST else {algorithm}
    for kernel, algorithms, holds in CONVOLUTIONS:
        if asked & {*algorithms} and holds(conv):
            return kernel
    raise UnsupportedOperatorError(
        f"{conv.node.name}: algorithm={algorithm!r} cannot do this convolution in "
        f"{'float64' if conv.double else 'float32'}; use algorithm='auto' or 'im2col'"
    )
