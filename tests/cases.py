"""Shapes and attributes worth testing, shared by the tests of the oracle and of the engine.

Sizes sit around the vector width and the register tile; channels are prime or one off a power of
two; some images are smaller than their kernel, some strides leave a remainder.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from fastconv.graph.ops.activation import ACTIVATIONS as TABLE

AROUND_VECTOR_WIDTH = (1, 7, 8, 9, 15, 16, 17, 31, 33)


@dataclass(frozen=True)
class Case:
    """One call of an operator: the shapes of its arrays, in the order of the arguments."""

    op: str
    shapes: tuple[tuple[int, ...], ...]
    attrs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the test's id, such as ``max_pool2d-2x3x7x7-kernel_size=2``."""
        shapes = ["x".join(map(str, shape)) for shape in self.shapes]
        attrs = [f"{name}={value}".replace(" ", "") for name, value in self.attrs.items()]
        return "-".join([self.op, *shapes, *attrs])

    def arrays(self, dtype: DTypeLike) -> list[NDArray[Any]]:
        """Return arrays of those shapes, the same ones in every run."""
        rng = np.random.default_rng(zlib.crc32(str(self).encode()))
        arrays = [rng.standard_normal(shape).astype(dtype) for shape in self.shapes]
        if self.op == "batch_norm":
            arrays[2] = np.abs(arrays[2]) + np.asarray(0.1, dtype)  # a variance is positive
        return arrays


def _conv(x: tuple[int, ...], w: tuple[int, ...], bias: bool = True, **attrs: Any) -> Case:
    return Case("conv2d", (x, w, (w[0],)) if bias else (x, w), attrs)


def _cases(op: str, *shapes: tuple[int, ...], attrs: list[dict[str, Any]]) -> list[Case]:
    return [Case(op, shapes, a) for a in attrs]


# --- convolution --------------------------------------------------------------------------------

CONV_SIZES = [
    case
    for n in AROUND_VECTOR_WIDTH
    for case in (
        _conv((2, 3, 5, n), (5, 3, 3, 3), padding=1),  # width
        _conv((1, 3, n, 4), (2, 3, 3, 3), padding=1, bias=False),  # height
        _conv((1, n, 5, 6), (4, n, 3, 3)),  # input channels
        _conv((1, 5, 5, 6), (n, 5, 3, 3)),  # output channels
        _conv((2, n, 5, 3), (n, n, 1, 1)),  # a plain matrix product
        _conv((1, n, 6, 9), (n, 1, 3, 3), padding=1, groups=n),  # depthwise
    )
]

CONV_ATTRIBUTES = [
    # Kernels of all sorts, one that covers the image and some that are larger than it.
    _conv((1, 2, 11, 13), (3, 2, 11, 13)),
    _conv((2, 3, 12, 12), (7, 3, 5, 5)),
    _conv((1, 3, 23, 23), (8, 3, 7, 7), stride=2, padding=3),
    _conv((1, 2, 30, 31), (3, 2, 11, 11), stride=4, padding=2),
    _conv((1, 3, 9, 9), (4, 3, 1, 7), padding=(0, 3)),
    _conv((1, 3, 9, 9), (4, 3, 7, 1), padding=(3, 0)),
    _conv((1, 3, 9, 8), (4, 3, 2, 4)),
    _conv((1, 3, 2, 2), (4, 3, 3, 3), padding=1),
    _conv((1, 3, 2, 3), (4, 3, 5, 5), padding=(2, 1)),
    _conv((2, 5, 1, 1), (3, 5, 3, 3), padding=1),
    _conv((2, 5, 1, 1), (3, 5, 1, 1)),
    # Padding beyond the kernel: whole windows see only zeros.
    _conv((1, 2, 3, 4), (3, 2, 2, 2), padding=4),
    _conv((1, 2, 3, 4), (3, 2, 1, 1), padding=(2, 1)),
    # Strides that leave a remainder, exceed the kernel, or differ between the axes.
    _conv((1, 3, 10, 11), (4, 3, 3, 3), stride=2),
    _conv((1, 3, 10, 11), (4, 3, 3, 3), stride=3, padding=1),
    _conv((1, 3, 10, 11), (4, 3, 1, 1), stride=2),
    _conv((1, 3, 10, 11), (4, 3, 2, 2), stride=5),
    _conv((1, 3, 10, 11), (4, 3, 3, 2), stride=(1, 2), padding=(0, 1)),
    _conv((1, 3, 10, 11), (4, 3, 2, 3), stride=(3, 1), padding=(2, 0), dilation=(1, 2)),
    _conv((1, 3, 10, 11), (4, 3, 3, 3), stride=[2, 1], padding=[1, 2]),
    _conv((1, 3, 10, 11), (4, 3, 3, 3), stride=(2,), padding=(1,), dilation=(2,)),
    _conv((1, 1, 3, 3), (1, 1, 2, 2), stride=2**31 - 1),
    # Dilation.
    _conv((2, 3, 13, 12), (5, 3, 3, 3), dilation=2),
    _conv((1, 3, 13, 12), (5, 3, 3, 3), dilation=(3, 2), padding=(3, 2), stride=2),
    _conv((1, 3, 5, 5), (5, 3, 3, 3), dilation=4, padding=4),
    _conv((1, 3, 5, 5), (5, 3, 1, 1), dilation=9),
    # Named padding.
    _conv((1, 3, 7, 8), (4, 3, 3, 3), padding="same"),
    _conv((1, 3, 7, 8), (4, 3, 2, 4), padding="same"),
    _conv((1, 3, 7, 8), (4, 3, 4, 2), padding="same", dilation=(2, 3)),
    _conv((1, 3, 4, 4), (4, 3, 9, 8), padding="same"),
    _conv((1, 3, 7, 8), (4, 3, 3, 3), padding="valid", stride=2),
    # Groups: few, prime, depthwise, depthwise with a multiplier, strided and dilated.
    _conv((2, 4, 7, 9), (16, 2, 3, 3), groups=2, padding=1),
    _conv((1, 21, 5, 5), (15, 7, 3, 3), groups=3),
    _conv((1, 34, 5, 5), (34, 17, 1, 1), groups=2, bias=False),
    _conv((1, 4, 9, 9), (12, 1, 3, 3), groups=4, stride=2, padding=1),
    _conv((1, 16, 9, 9), (32, 1, 5, 5), groups=16, padding=2),
    _conv((2, 17, 8, 8), (17, 1, 3, 3), groups=17, dilation=2, padding="same"),
    _conv((1, 19, 7, 7), (19, 1, 7, 7), groups=19),
    _conv((1, 33, 6, 6), (33, 1, 2, 3), groups=33, stride=(2, 1), padding=(1, 2)),
    # Groups of 4 and 2 channels, several in a vector; rows that end within a tile of pixels, and images that do.
    _conv((2, 32, 11, 9), (32, 4, 3, 3), groups=8, padding=1),
    _conv((1, 48, 7, 7), (48, 4, 5, 3), groups=12, stride=2, padding=(2, 1)),
    _conv((1, 32, 9, 8), (32, 2, 3, 3), groups=16, dilation=2, bias=False),
    _conv((3, 16, 1, 2), (16, 4, 1, 1), groups=4),
    # Batches: none, empty, odd.
    _conv((3, 9, 9), (4, 3, 3, 3), padding=1),
    _conv((3, 9, 9), (6, 1, 3, 3), groups=3, padding="same", bias=False),
    _conv((0, 3, 9, 9), (4, 3, 3, 3)),
    _conv((0, 4, 9, 9), (4, 1, 3, 3), groups=4, padding="same"),
    _conv((5, 3, 9, 9), (4, 3, 3, 3), stride=2),
]

CONV_LAYERS = [
    # Layers of real networks, among them sums and images longer than one cache block.
    _conv((1, 1, 28, 28), (6, 1, 5, 5)),
    _conv((1, 6, 12, 12), (16, 6, 5, 5)),
    _conv((1, 3, 32, 32), (32, 3, 3, 3), padding=1),
    _conv((1, 32, 16, 16), (64, 32, 3, 3), padding=1),
    _conv((1, 3, 64, 64), (64, 3, 7, 7), stride=2, padding=3, bias=False),
    _conv((1, 67, 33, 31), (29, 67, 3, 3), padding=1),
    _conv((1, 64, 56, 57), (65, 64, 1, 1), stride=2),
    _conv((1, 515, 7, 7), (13, 515, 3, 3), padding=1),
    _conv((1, 96, 15, 15), (96, 1, 3, 3), stride=2, padding=1, groups=96),
]

CONV = CONV_SIZES + CONV_ATTRIBUTES + CONV_LAYERS

CONV_ALGORITHMS = ["auto", "exact", "im2col", "packed", "direct"]  # "winograd" is for some convolutions
ONES = ("stride", "dilation", "groups")


def conv_algorithms(case: Case) -> list[str]:
    """Return the algorithms that can compute a convolution in float32."""
    plain = case.shapes[1][2:] == (3, 3) and all(case.attrs.get(name, 1) in (1, (1, 1)) for name in ONES)
    return [*CONV_ALGORITHMS, "winograd"] if plain else CONV_ALGORITHMS


def with_algorithms(convolutions: list[Case]) -> list[Any]:
    """Pair convolutions with the algorithms that can compute them, for `pytest.mark.parametrize`."""
    return [
        pytest.param(case, algorithm, id=f"{case}-{algorithm}")
        for case in convolutions
        for algorithm in conv_algorithms(case)
    ]


def _transposed(x: tuple[int, ...], w: tuple[int, ...], bias: bool = True, **attrs: Any) -> Case:
    channels = w[1] * attrs.get("groups", 1)
    return Case("conv_transpose2d", (x, w, (channels,)) if bias else (x, w), attrs)


CONV_TRANSPOSE = [
    case
    for n in AROUND_VECTOR_WIDTH
    for case in (
        _transposed((2, 3, 5, n), (3, 5, 4, 4), stride=2, padding=1),  # width
        _transposed((1, 3, n, 4), (3, 2, 3, 3), stride=2, padding=1, output_padding=1, bias=False),  # height
        _transposed((1, n, 5, 6), (n, 4, 2, 2), stride=2),  # input channels
        _transposed((1, 5, 5, 6), (5, n, 4, 4), stride=2, padding=1),  # output channels
        _transposed((1, 5, 5, 6), (5, n, 3, 3), padding=1),  # one convolution
        _transposed((1, n, 3, 4), (n, 1, 4, 4), stride=2, padding=1, groups=n),  # depthwise
    )
] + [
    # Strides that divide the kernel and that do not, exceed it, or differ between the axes.
    *(
        _transposed((1, 3, 4, 5), (3, channels, kernel, kernel), stride=stride, padding=kernel // 3)
        for channels, kernels in ((2, (1, 2, 3, 4, 5, 6)), (40, (2, 3, 4)))
        for kernel in kernels
        for stride in (1, 2, 3, 4, 7)
        if channels == 2 or stride < 4
    ),
    _transposed((2, 3, 4, 5), (3, 4, 3, 2), stride=(1, 2), padding=(0, 1), output_padding=(0, 1)),
    _transposed((2, 3, 4, 5), (3, 4, 2, 5), stride=(3, 1), padding=(1, 3)),
    _transposed((2, 3, 4, 5), (3, 4, 4, 4), stride=[2], padding=[1], output_padding=[1], dilation=[1]),
    _transposed((1, 3, 5, 4), (3, 3, 9, 7), stride=8, padding=2),
    _transposed((1, 2, 3, 4), (2, 3, 16, 16), stride=8, padding=4),
    _transposed((1, 2, 3, 2), (2, 1, 25, 25), stride=12, padding=3),  # more phases than are computed apart
    _transposed((1, 1, 1, 1), (1, 1, 2, 2), stride=2**31 - 1),
    # Dilation, with and without a divisor in common with the stride.
    *(
        _transposed((1, 3, 4, 5), (3, 4, kernel, 3), stride=stride, dilation=dilation, padding=padding)
        for kernel in (1, 2, 4)
        for stride in (1, 2, (4, 3), 6)
        for dilation in (2, 3, (4, 6))
        for padding in (kernel % 2,)
    ),
    _transposed((1, 3, 4, 5), (3, 4, 3, 3), stride=2, dilation=3, output_padding=2, padding=2),
    _transposed((1, 3, 4, 5), (3, 4, 3, 3), dilation=(3, 2), output_padding=(2, 1)),
    # Padding beyond the kernel cuts pixels off; output padding gives some that hold the bias alone.
    _transposed((1, 2, 4, 5), (2, 3, 1, 1), padding=1),
    _transposed((1, 2, 5, 6), (2, 3, 2, 3), padding=2),
    _transposed((1, 2, 9, 9), (2, 17, 3, 3), padding=4),
    _transposed((1, 2, 4, 5), (2, 3, 2, 2), stride=3, padding=4),
    _transposed((1, 1, 1, 1), (1, 2, 1, 1), stride=3, padding=1, output_padding=2),
    _transposed((1, 1, 1, 1), (1, 2, 1, 1), stride=3, padding=1, output_padding=2, bias=False),
    # Groups.
    _transposed((2, 4, 3, 5), (4, 3, 4, 4), stride=2, padding=1, groups=2),
    _transposed((1, 21, 3, 3), (21, 5, 3, 3), stride=2, groups=3),
    _transposed((1, 34, 5, 5), (34, 17, 2, 2), stride=2, groups=2, bias=False),
    _transposed((2, 4, 3, 5), (4, 3, 3, 3), groups=2, dilation=2, stride=3),
    _transposed((1, 4, 3, 5), (4, 2, 3, 3), groups=4, stride=(1, 2)),
    # Batches: none, empty, odd.
    _transposed((3, 4, 5), (3, 4, 4, 4), stride=2, padding=1),
    _transposed((0, 3, 4, 5), (3, 4, 4, 4), stride=2, padding=1),
    _transposed((5, 3, 4, 5), (3, 4, 2, 2), stride=2),
    # Layers of real networks.
    _transposed((1, 100, 1, 1), (100, 128, 4, 4), bias=False),
    _transposed((1, 128, 8, 8), (128, 64, 4, 4), stride=2, padding=1, bias=False),
    _transposed((1, 64, 32, 32), (64, 3, 4, 4), stride=2, padding=1, bias=False),
    _transposed((1, 64, 14, 15), (64, 32, 2, 2), stride=2),
    _transposed((1, 65, 17, 16), (65, 33, 3, 3), stride=2, padding=1, output_padding=1),
    _transposed((1, 21, 5, 5), (21, 1, 16, 16), stride=8, padding=4, groups=21, bias=False),
]

# --- pooling ------------------------------------------------------------------------------------

_WINDOWS: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": 3},
    {"kernel_size": 3, "stride": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 2, "stride": 1, "padding": 1},
    {"kernel_size": (3, 2), "stride": (1, 3), "padding": (1, 0)},
    {"kernel_size": [2, 4], "stride": [2, 1], "padding": [0, 2]},
    {"kernel_size": (3,), "stride": (2,), "padding": (1,)},
    {"kernel_size": 5, "stride": 3, "padding": 2},
    {"kernel_size": 2, "stride": []},  # an empty stride is no stride, as in PyTorch
    {"kernel_size": 2, "stride": 2**31 - 1},
]
_CEIL: list[dict[str, Any]] = [
    {"kernel_size": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": (2, 3), "stride": (3, 2), "padding": (0, 1), "ceil_mode": True},
    {"kernel_size": 4, "stride": 3, "padding": 2, "ceil_mode": True},
    # The next window would start in the padding (or beyond it), so it is dropped.
    {"kernel_size": 2, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 1, "stride": 4, "ceil_mode": True},
    {"kernel_size": 2, "stride": 5, "padding": 1, "ceil_mode": True},
    # The kernel is larger than the image: only ceil_mode finds a window.
    {"kernel_size": 11, "stride": 5, "ceil_mode": True},
    {"kernel_size": 12, "stride": 7, "padding": 1, "ceil_mode": True},
]
_DILATED: list[dict[str, Any]] = [
    {"kernel_size": 2, "stride": 1, "dilation": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2},
    {"kernel_size": (2, 3), "stride": 1, "padding": (1, 0), "dilation": (3, 1)},
    {"kernel_size": 2, "stride": 2, "padding": 1, "dilation": 3, "ceil_mode": True},
    {"kernel_size": 3, "stride": 3, "dilation": (1, 2), "ceil_mode": True},
    {"kernel_size": 1, "dilation": 9},
]
_DIVISORS: list[dict[str, Any]] = [
    {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    {"kernel_size": 4, "stride": 1, "padding": 2, "count_include_pad": False},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
    {"kernel_size": 4, "stride": 3, "padding": 2, "ceil_mode": True, "count_include_pad": False},
    {"kernel_size": 3, "stride": 2, "padding": 1, "divisor_override": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "divisor_override": 7},
    {"kernel_size": 2, "count_include_pad": False, "divisor_override": -3},
]

MAX_POOL = (
    _cases("max_pool2d", (2, 3, 10, 11), attrs=_WINDOWS + _CEIL + _DILATED)
    + _cases("max_pool2d", (3, 9, 8), attrs=_WINDOWS + _CEIL)
    + [Case("max_pool2d", ((1, n, 7, 9),), {"kernel_size": 3, "stride": 2, "padding": 1}) for n in AROUND_VECTOR_WIDTH]
    + [Case("max_pool2d", ((1, 2, 4, n),), {"kernel_size": 2, "ceil_mode": True}) for n in (7, 33)]
    + _cases("max_pool2d", (0, 3, 7, 7), attrs=_WINDOWS[:4] + _CEIL[:2])
)
AVG_POOL = (
    _cases("avg_pool2d", (2, 3, 10, 11), attrs=_WINDOWS + _CEIL + _DIVISORS)
    + _cases("avg_pool2d", (3, 9, 8), attrs=_WINDOWS + _CEIL + _DIVISORS)
    + [Case("avg_pool2d", ((1, n, 7, 9),), {"kernel_size": 3, "stride": 2, "padding": 1}) for n in AROUND_VECTOR_WIDTH]
    + [Case("avg_pool2d", ((1, 2, 4, n),), {"kernel_size": 2, "ceil_mode": True}) for n in (7, 33)]
    + _cases("avg_pool2d", (0, 3, 7, 7), attrs=_WINDOWS[:4] + _CEIL[:2])
)
_ADAPTIVE_SIZES: list[Any] = [
    1,
    3,
    7,
    12,
    0,
    (1, 5),
    (4, 3),
    (None, 2),
    [3, None],
    (None, None),
    (0, 3),
]
ADAPTIVE = [
    Case(op, (shape,), {"output_size": size})
    for op in ("adaptive_avg_pool2d", "adaptive_max_pool2d")
    for shape in ((2, 3, 7, 10), (5, 4, 3))
    for size in _ADAPTIVE_SIZES
] + [
    Case(op, (shape,), {"output_size": (2, 3)})
    for op in ("adaptive_avg_pool2d", "adaptive_max_pool2d")
    for shape in [(0, 3, 5, 5), *((1, n, 5, 7) for n in AROUND_VECTOR_WIDTH)]
]

# Max pooling in which every window has a pixel of the image.
COVERED_MAX_POOL = [case for case in MAX_POOL if "dilation" not in case.attrs] + [
    case for case in ADAPTIVE if case.op == "adaptive_max_pool2d"
]

# --- lowering and padding -----------------------------------------------------------------------

_BLOCKS: list[dict[str, Any]] = [
    {"kernel_size": 3},
    {"kernel_size": 1},
    {"kernel_size": (2, 3), "padding": (1, 2)},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": [3, 2], "dilation": [2, 1], "padding": 3, "stride": (1, 2)},
    {"kernel_size": 2, "dilation": 3, "padding": 1, "stride": 2},
    {"kernel_size": 2, "padding": 5, "stride": 4},
]
UNFOLD = (
    _cases("unfold", (2, 3, 7, 8), attrs=_BLOCKS)
    + _cases("unfold", (3, 5, 9), attrs=_BLOCKS)
    + [Case("unfold", ((0, 3, 7, 8),), {"kernel_size": 3})]
)
FOLD = [
    Case("fold", ((2, 27, 30),), {"output_size": (7, 8), "kernel_size": 3}),
    Case("fold", ((2, 3, 56),), {"output_size": (7, 8), "kernel_size": 1}),
    Case("fold", ((18, 88),), {"output_size": (7, 9), "kernel_size": (2, 3), "padding": (1, 2)}),
    Case("fold", ((2, 12, 6),), {"output_size": (7, 8), "kernel_size": 2, "stride": 3}),
    Case(
        "fold",
        ((1, 6, 63),),
        {
            "output_size": [7, 8],
            "kernel_size": [3, 2],
            "dilation": [2, 1],
            "padding": 3,
            "stride": (1, 2),
        },
    ),
    Case("fold", ((2, 8, 16),), {"output_size": 5, "kernel_size": 2, "padding": 5, "stride": 4}),
    Case("fold", ((0, 27, 25),), {"output_size": 7, "kernel_size": 3}),
    Case("fold", ((36, 25),), {"output_size": 7, "kernel_size": 3}),
]
PAD = (
    _cases(
        "pad",
        (2, 3, 5, 7),
        attrs=[
            {"pad": (1, 2)},
            {"pad": (1, 2, 3, 4), "value": -1.5},
            {"pad": (1, 0, 0, 2, 3, 1), "value": 2},
            {"pad": (0, 1, 1, 0, 2, 0, 0, 3)},
            {"pad": ()},
            {"pad": (0, 0, 0, 0)},
            {"pad": [-1, 2, 3, -2]},
            {"pad": (-3, -4)},
            {"pad": (9, -7), "value": float("-inf")},
        ],
    )
    + [
        Case("pad", (shape,), {"pad": amounts, "mode": mode})
        for mode in ("reflect", "replicate", "circular")
        for shape, amounts in [
            ((2, 3, 5, 7), (1, 2, 3, 4)),
            ((2, 3, 5, 7), (6, 6, 4, 4)),
            ((2, 3, 5, 7), (0, 0, 0, 0)),
            ((2, 3, 5, 7), (-1, 2, 3, -2)),
            ((2, 3, 5, 7), (-3, -3, -2, -2)),
            ((2, 3, 5, 7), (1, 2, 0, 4, 2, 1)),
            ((3, 5, 7), (2, 0, 0, 1)),
            ((3, 5, 7), (2, -3)),
            ((5, 7), (3, 1)),
            ((0, 3, 5, 7), (1, 1, 1, 1)),
            ((2, 2, 3, 4, 5), (1, 1, 2, 0, 0, 2)),
        ]
    ]
    + [Case("pad", ((),), {"pad": ()})]
    + [Case("pad", ((2, 1, 3, 3),), {"pad": (8, 9, 7, 6), "mode": "replicate"})]
    + [Case("pad", ((2, 1, 3, 3),), {"pad": (-4, 4, 5, -4), "mode": "replicate"})]
    + [Case("pad", ((2, 1, 3, 3),), {"pad": (3, 3, 3, 3), "mode": "circular"})]
    + [Case("pad", ((2, 1, 3, 3),), {"pad": (-4, 2, 2, -4), "mode": "reflect"})]
)

# --- matrix product, normalisation, element by element ------------------------------------------

LINEAR = [
    Case("linear", shapes)
    for n in AROUND_VECTOR_WIDTH
    for shapes in (
        ((3, n), (5, n), (5,)),
        ((3, 6), (n, 6), (n,)),
        ((n, 6), (11, 6)),
    )
] + [
    Case("linear", ((256,), (120, 256), (120,))),
    Case("linear", ((2, 3, 4, 7), (5, 7), (5,))),
    Case("linear", ((1, 1031), (67, 1031), (67,))),
    Case("linear", ((0, 7), (5, 7), (5,))),
    Case("linear", ((2, 0, 7), (5, 7))),
    Case("linear", ((3, 0), (5, 0), (5,))),
    Case("linear", ((3, 0), (5, 0))),
    Case("linear", ((3, 7), (0, 7))),
    Case("linear", ((2, 3, 7), (7,))),
    Case("linear", ((2, 3, 7), (7,), ())),
]

_SHAPES = [(), (0, 3), (2, 3, 5, 7), *((n,) for n in AROUND_VECTOR_WIDTH), (1, 67)]
# What each is called with: its parameters without a default.
GIVEN: dict[str, dict[str, Any]] = {"pow": {"exponent": 2.0}, "threshold": {"threshold": 0.1, "value": 20.0}}
TRUTHS = ("isnan", "logical_not")  # PyTorch's are of another type
ACTIVATIONS = [Case(op, (shape,), GIVEN.get(op, {})) for op in TABLE if op not in TRUTHS for shape in _SHAPES]
ACTIVATIONS += _cases(
    "pow", (3, 35), attrs=[{"exponent": e} for e in (0, 0.5, 1, 2, 3, -1, -2, 7, -3, 2.5, -0.75, 0.1)]
)
ACTIVATIONS += _cases("threshold", (3, 35), attrs=[{"threshold": -0.5, "value": -1}])
ACTIVATIONS += _cases("hardshrink", (3, 35), attrs=[{"lambd": lambd} for lambd in (0, 1.5, -0.5)])
ACTIVATIONS += _cases("softshrink", (3, 35), attrs=[{"lambd": lambd} for lambd in (0, 1.5)])
ACTIVATIONS += _cases("glu", (3, 36, 4), attrs=[{}, {"dim": 1}, {"dim": -2}])
ACTIVATIONS += [Case("relu6", ((3, 5),)), Case("hardtanh", ((3, 5),), {"min_val": 0, "max_val": 0})]
ACTIVATIONS += [Case(op, (shape,)) for op in ("softsign", "tanhshrink") for shape in _SHAPES]
ACTIVATIONS += _cases("gelu", (3, 35), attrs=[{"approximate": "none"}, {"approximate": "tanh"}])
ACTIVATIONS += _cases("elu", (3, 35), attrs=[{"alpha": alpha} for alpha in (0.5, 0, -1.5)])
ACTIVATIONS += _cases("celu", (3, 35), attrs=[{"alpha": alpha} for alpha in (0.5, 3)])
ACTIVATIONS += _cases("softplus", (3, 35), attrs=[{"beta": 2}, {"beta": 0.5, "threshold": 0.25}])
ACTIVATIONS += _cases("leaky_relu", (3, 5), attrs=[{"negative_slope": slope} for slope in (0.2, 0, 1, -0.5, 3.0)])

SOFTMAX = [
    Case(op, (shape,), {"dim": dim})
    for op in ("softmax", "log_softmax")
    for shape, dims in [
        ((), (0, -1)),
        ((10,), (0, -1)),
        ((3, 10), (0, 1, -1, -2)),
        ((2, 3, 5, 7), (0, 1, 2, 3, -1, -3)),
        ((0, 3), (0, 1)),
        ((3, 0), (0, 1)),
        *(((4, n), (1,)) for n in AROUND_VECTOR_WIDTH),
    ]
    for dim in dims
]


def _batch_norm(x: tuple[int, ...], parameters: int = 4, **attrs: Any) -> Case:
    return Case("batch_norm", (x, *[(x[1],)] * parameters), attrs)


BATCH_NORM = [
    _batch_norm((2, 5, 4, 7)),
    _batch_norm((2, 5, 4, 7), 2),  # neither weight nor bias
    _batch_norm((2, 5, 4, 7), 3, eps=0.1),  # no bias
    _batch_norm((2, 5), eps=0),
    _batch_norm((2, 5, 6)),
    _batch_norm((1, 3, 2, 3, 4), momentum=0.7),
    _batch_norm((0, 5, 4, 7)),
    *(_batch_norm((1, n, 3, 3)) for n in AROUND_VECTOR_WIDTH),
]

NORM = [
    Case(op, (shape,), {"normalized_shape": shape[-axes:]} | attrs)
    for op in ("layer_norm", "rms_norm")
    for shape, axes in [((3, 4), 1), ((2, 7, 33), 1), ((2, 3, 5, 7), 3), ((2, 3, 5, 7), 2), ((5,), 1), ((2, 1300), 1)]
    for attrs in ({"eps": 1e-5}, {"eps": 0.5})
]
NORM += [
    Case("group_norm", (shape,), {"num_groups": groups})
    for shape, groups in [((2, 6, 5, 7), 1), ((2, 6, 5, 7), 3), ((2, 6, 33), 6), ((3, 4), 2), ((1, 32, 9, 9), 8)]
]
RESIZE = [
    Case("interpolate", ((2, 3, 5, 7),), {"mode": mode} | attrs)
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic")
    for attrs in ({"size": (9, 4)}, {"size": (1, 14)}, {"scale_factor": (2.0, 2.0)}, {"scale_factor": (1.3, 0.6)})
]
RESIZE += [
    Case("interpolate", ((1, 17, 5, 7),), {"mode": mode, "size": size, "align_corners": True})
    for mode in ("bilinear", "bicubic")
    for size in ((9, 4), (1, 1), (15, 21))
]
NORM += [
    Case("local_response_norm", (shape,), {"size": size} | attrs)
    for shape in ((2, 7, 5, 6), (1, 33, 9), (2, 1, 3, 3), (1, 16, 2, 3, 2))
    for size in (1, 2, 5, 20)
    for attrs in ({}, {"alpha": 0.5, "beta": 0.5, "k": 2.0})
]
PRELU = [
    Case("prelu", (shape, weight))
    for shape in ((2, 7, 5, 6), (3, 9), (2, 33, 4), (1, 5, 2, 3, 2))
    for weight in ((1,), (shape[1],))
] + [Case("prelu", ((5,), (1,))), Case("prelu", ((0, 5, 2), (5,)))]
RESIZE += [
    Case("grid_sample", shapes, {"mode": mode, "padding_mode": padding, "align_corners": align})
    for mode in ("bilinear", "nearest", "bicubic")
    for padding in ("zeros", "border", "reflection")
    for align, shapes in [
        (None, ((2, 3, 5, 7), (2, 4, 6, 2))),
        (True, ((1, 17, 6, 4), (1, 3, 9, 2))),
        (False, ((3, 5, 3, 3), (3, 8, 1, 2))),
        (True, ((2, 8, 1, 1), (2, 2, 2, 2))),
        (False, ((0, 3, 5, 7), (0, 4, 6, 2))),
        (False, ((2, 3, 5, 7), (2, 0, 6, 2))),
    ]
]
ORDER = [
    Case("cumsum", (shape,), {"dim": dim})
    for shape in ((5,), (2, 3, 17), (1, 33, 4), (2, 3, 5, 7), (0, 3), (3, 0))
    for dim in (0, -1)
] + [Case("cumsum", ((2, 9, 5),), {"dim": 1})]
RESIZE += [Case("pixel_shuffle", ((2, 12, 3, 5),), {"upscale_factor": 2})]
RESIZE += [Case("pixel_unshuffle", ((2, 3, 6, 9),), {"downscale_factor": 3})]
RESIZE += [Case("channel_shuffle", ((2, 12, 3, 5),), {"groups": 3})]
POINTWISE = LINEAR + ACTIVATIONS + SOFTMAX + BATCH_NORM + NORM + PRELU + RESIZE + ORDER
ALL = CONV + CONV_TRANSPOSE + MAX_POOL + AVG_POOL + ADAPTIVE + UNFOLD + FOLD + PAD + POINTWISE
