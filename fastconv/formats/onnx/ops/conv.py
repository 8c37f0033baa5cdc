"""Convolutions, and the windows that they share with pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....graph.attributes import MAX_INTEGER
from .table import Functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ..reader import Reader
    from ..values import Value

__all__ = ["FUNCTIONS", "Windows", "image", "like_signal"]

FUNCTIONS = Functions()


def image(reader: Reader, x: Value) -> Value:
    """Return the images (C, H, W) of a value; a signal (C, L) is one of height 1."""
    x = reader.plain(x)
    if len(x.axes) not in (3, 4):
        raise reader.unsupported(f"over {max(len(x.axes) - 2, 0)} axes")
    return reader.value(reader.builder.image(x.name))


class Windows:
    """The windows of a convolution or a pooling over images, with ONNX's attributes for (H, W) or (L,).

    Attributes
    ----------
    kernel, strides, dilations, before, after : tuple of int
        For H and W.
    same : bool
        Whether the padding follows from the sizes, so that the output has a size for each stride.
    """

    def __init__(
        self,
        reader: Reader,
        x: Value,
        kernel: Sequence[int],
        strides: Sequence[int] | None,
        dilations: Sequence[int] | None,
        pads: Sequence[int] | None,
        auto_pad: str,
    ) -> None:
        rank = len(kernel)
        if rank != len(x.axes) - 2:
            raise reader.error(f"has a kernel of {rank} axes for a tensor of {len(x.axes)}")
        if rank not in (1, 2):
            raise reader.unsupported(f"over {rank} axes")
        lifted = 2 - rank
        self._lifted = lifted
        self.kernel = self.two(reader, "kernel_shape", kernel, 1)
        self.strides = self.two(reader, "strides", strides or [1] * rank, 1)
        self.dilations = self.two(reader, "dilations", dilations or [1] * rank, 1)
        pads = pads or [0] * 2 * rank
        if len(pads) != 2 * rank:
            raise reader.error(f"pads must hold {2 * rank} numbers, got {len(pads)}")
        self.before = self.two(reader, "pads", pads[:rank], 0)
        self.after = self.two(reader, "pads", pads[rank:], 0)
        self.same = auto_pad in ("SAME_UPPER", "SAME_LOWER")
        if self.same:
            total = [self._total(*axis) for axis in zip(reader.sizes(x)[-rank:], *self._axes(rank), strict=True)]
            less = (*[0] * lifted, *(size // 2 for size in total))
            more = (*[0] * lifted, *(size - size // 2 for size in total))
            self.before, self.after = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
        elif auto_pad == "VALID":
            self.before = self.after = (0, 0)
        elif auto_pad not in ("NOTSET", ""):
            raise reader.error(f"auto_pad must be NOTSET, SAME_UPPER, SAME_LOWER or VALID, got {auto_pad!r}")

    def two(self, reader: Reader, name: str, values: Sequence[int], least: int) -> tuple[int, ...]:
        """Return numbers for H and W: of a signal, `least` for the height; refuse less than `least`."""
        full = (*[least] * self._lifted, *values)
        if len(full) != 2:
            raise reader.error(f"{name} must hold {2 - self._lifted} numbers, got {len(values)}")
        if not all(least <= value <= MAX_INTEGER for value in full):
            raise reader.error(f"{name} must be at least {least}, got {list(values)}")
        return full

    def _axes(self, rank: int) -> list[tuple[int, ...]]:
        return [values[-rank:] for values in (self.kernel, self.strides, self.dilations)]

    @staticmethod
    def _total(size: int, kernel: int, stride: int, dilation: int) -> int:
        return max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)


def _checked_weight(reader: Reader, weight: Any, kernel_shape: list[int] | None) -> np.ndarray:
    """Return the kernels of images or signals, whose size an attribute may repeat."""
    array = reader.weight(weight)
    if array.ndim not in (3, 4):
        raise reader.unsupported(f"over {max(array.ndim - 2, 0)} axes")
    if kernel_shape not in (None, [], list(array.shape[2:])):
        raise reader.error(f"kernel_shape is {kernel_shape}, the weight has {list(array.shape[2:])}")
    return array


@FUNCTIONS("Conv")
def _conv(
    reader: Reader,
    x: Value,
    weight: Any,
    bias: Any = None,
    *,
    auto_pad: str,
    group: int,
    dilations: list[int] | None = None,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    x = reader.plain(x)
    weight = _checked_weight(reader, weight, kernel_shape)
    kernel = weight.shape[2:]
    windows = Windows(reader, x, kernel, strides, dilations, pads, auto_pad)
    (top, left), (bottom, right) = windows.before, windows.after
    y = reader.emit(
        "conv2d",
        image(reader, x),
        weights={
            "weight": weight.reshape(*weight.shape[:2], *windows.kernel),
            "bias": None if bias is None else reader.weight(bias),
        },
        stride=windows.strides,
        padding=(top, bottom, left, right),
        dilation=windows.dilations,
        groups=group,
    )
    return like_signal(reader, y, x)


@FUNCTIONS("ConvTranspose")
def _conv_transpose(
    reader: Reader,
    x: Value,
    weight: Any,
    bias: Any = None,
    *,
    auto_pad: str,
    group: int,
    dilations: list[int] | None = None,
    kernel_shape: list[int] | None = None,
    output_padding: list[int] | None = None,
    output_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    x = reader.plain(x)
    weight = _checked_weight(reader, weight, kernel_shape)
    kernel = weight.shape[2:]
    same = auto_pad in ("SAME_UPPER", "SAME_LOWER")
    # What pads mean here, and what auto_pad asks for, is not what they do for a convolution.
    windows = Windows(reader, x, kernel, strides, dilations, pads, "NOTSET" if same else auto_pad)
    pixels = image(reader, x)
    sizes = reader.sizes(pixels)[1:]
    more = windows.two(reader, "output_padding", output_padding or [0] * len(kernel), 0)
    if same or output_shape:
        wanted = [size * stride for size, stride in zip(sizes, windows.strides, strict=True)]
        if output_shape:
            wanted = list(windows.two(reader, "output_shape", output_shape[-len(kernel) :], 1))
        axes = zip(sizes, windows.kernel, windows.strides, windows.dilations, more, strict=True)
        total = [(size - 1) * s + d * (k - 1) + 1 + m for size, k, s, d, m in axes]
        cut = [max(0, full - want) for full, want in zip(total, wanted, strict=True)]
        more = tuple(m + max(0, want - full) for m, full, want in zip(more, total, wanted, strict=True))
        less, rest = tuple(c // 2 for c in cut), tuple(c - c // 2 for c in cut)
        windows.before, windows.after = (less, rest) if auto_pad == "SAME_UPPER" else (rest, less)
    (top, left), (bottom, right) = windows.before, windows.after
    y = reader.emit(
        "conv_transpose2d",
        pixels,
        weights={
            "weight": weight.reshape(*weight.shape[:2], *windows.kernel),
            "bias": None if bias is None else reader.weight(bias),
        },
        stride=windows.strides,
        padding=(top, bottom, left, right),
        output_padding=more,
        dilation=windows.dilations,
        groups=group,
    )
    return like_signal(reader, y, x)


def like_signal(reader: Reader, y: Value, x: Value) -> Value:
    """Give the images that were computed of `x` the number of axes that it has."""
    return y if len(x.axes) == 4 else reader.value(reader.builder.signal(y.name))
