"""Convolutions, and the windows that they share with pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....graph.attributes import MAX_INTEGER
from .table import Functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..reader import Reader
    from ..values import Value

__all__ = ["FUNCTIONS", "Windows", "image", "like_signal"]

FUNCTIONS = Functions()


def image(reader: Reader, x: Value) -> Value:
    """Return the images (C, H, W) of a value; a signal (C, L) is one of height 1."""
    sizes = reader.sizes(reader.plain(x))
    if len(sizes) not in (2, 3):
        raise reader.unsupported(f"over {max(len(sizes) - 1, 0)} axes")
    channels, *pixels = sizes
    full = (channels, *[1] * (2 - len(pixels)), *pixels)
    return reader.reshape(x, [(batch, *full) for batch in reader.batches])


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
        self.kernel = self._two(reader, "kernel_shape", kernel, 1, lifted)
        self.strides = self._two(reader, "strides", strides or [1] * rank, 1, lifted)
        self.dilations = self._two(reader, "dilations", dilations or [1] * rank, 1, lifted)
        pads = pads or [0] * 2 * rank
        if len(pads) != 2 * rank:
            raise reader.error(f"pads must hold {2 * rank} numbers, got {len(pads)}")
        self.before = self._two(reader, "pads", pads[:rank], 0, lifted)
        self.after = self._two(reader, "pads", pads[rank:], 0, lifted)
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

    def _two(self, reader: Reader, name: str, values: Sequence[int], least: int, lifted: int) -> tuple[int, ...]:
        full = (*[least] * lifted, *values)
        if len(full) != 2:
            raise reader.error(f"{name} must hold {2 - lifted} numbers, got {len(values)}")
        if not all(least <= value <= MAX_INTEGER for value in full):
            raise reader.error(f"{name} must be at least {least}, got {list(values)}")
        return full

    def _axes(self, rank: int) -> list[tuple[int, ...]]:
        return [values[-rank:] for values in (self.kernel, self.strides, self.dilations)]

    @staticmethod
    def _total(size: int, kernel: int, stride: int, dilation: int) -> int:
        return max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)


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
    weight = reader.weight(weight)
    if weight.ndim not in (3, 4):
        raise reader.unsupported(f"over {max(weight.ndim - 2, 0)} axes")
    kernel = weight.shape[2:]
    if kernel_shape not in (None, [], list(kernel)):
        raise reader.error(f"kernel_shape is {kernel_shape}, the weight has {list(kernel)}")
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


def like_signal(reader: Reader, y: Value, x: Value) -> Value:
    """Give the images that were computed of `x` the number of axes that it has."""
    if len(x.axes) == 4:
        return y
    channels, _, length = reader.sizes(y)
    return reader.reshape(y, [(batch, channels, length) for batch in reader.batches])
