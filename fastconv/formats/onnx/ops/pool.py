"""Pooling over windows, and over all pixels."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from ....errors import ShapeError
from ....graph import geometry
from ..values import Value
from .conv import Windows, image, like_signal
from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()


class _Pool(Windows):
    """The windows of a pooling, with the size of its output for H and W."""

    def __init__(self, reader: Reader, x: Value, ceil_mode: int, *args: Any) -> None:
        super().__init__(reader, x, *args)
        self.size = reader.sizes(image(reader, x))[1:]
        if self.same:
            self.out = tuple(-(-size // stride) for size, stride in zip(self.size, self.strides, strict=True))
        else:
            self.out = self.count(self.before, self.after, bool(ceil_mode))
        if min(self.out) < 1:
            raise ShapeError(f"has no windows over {self.size} pixels")

    def count(self, before: tuple[int, ...], after: tuple[int, ...], ceil_mode: bool) -> tuple[int, ...]:
        axes = zip(self.size, self.kernel, self.strides, before, after, self.dilations, (ceil_mode,) * 2, strict=True)
        return tuple(geometry.windows(*axis) for axis in axes)

    def ceil_mode(self) -> bool | None:
        """How to round so that equal padding of both ends gives this output; None if neither does or it is too wide."""
        if any(2 * width > kernel for width, kernel in zip(self.before, self.kernel, strict=True)):
            return None
        return next((mode for mode in (False, True) if self.count(self.before, self.before, mode) == self.out), None)

    def padded(self, reader: Reader, x: Value, value: float) -> Value:
        """Pad (or crop) so that the windows of the output fit exactly."""
        axes = zip(self.size, self.kernel, self.strides, self.dilations, self.before, self.out, strict=True)
        after = [
            (out - 1) * stride + (kernel - 1) * dilation + 1 - size - before
            for size, kernel, stride, dilation, before, out in axes
        ]
        (top, left), (bottom, right) = self.before, after
        return reader.emit("pad", x, padding=(left, right, top, bottom), value=value)


@FUNCTIONS("MaxPool")
def _max_pool(
    reader: Reader,
    x: Value,
    *,
    kernel_shape: list[int],
    auto_pad: str,
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    storage_order: int = 0,
    strides: list[int] | None = None,
) -> Value:
    x = reader.plain(x)
    pool = _Pool(reader, x, ceil_mode, kernel_shape, strides, dilations, pads, auto_pad)
    mode = pool.ceil_mode()
    pixels, padding = image(reader, x), pool.before
    # Padding is the same at both ends in the Graph; elements that only it has would not change a maximum.
    if mode is None:
        pixels, padding, mode = pool.padded(reader, pixels, -inf), (0, 0), False
    attrs: dict[str, Any] = {"kernel_size": pool.kernel, "stride": pool.strides, "dilation": pool.dilations}
    return like_signal(reader, reader.emit("max_pool2d", pixels, **attrs, padding=padding, ceil_mode=mode), x)


@FUNCTIONS("AveragePool")
def _average_pool(
    reader: Reader,
    x: Value,
    *,
    kernel_shape: list[int],
    auto_pad: str,
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    x = reader.plain(x)
    pool = _Pool(reader, x, ceil_mode, kernel_shape, strides, dilations, pads, auto_pad)
    if pool.dilations != (1, 1):
        raise reader.unsupported(f"with dilations={dilations}")
    mode = pool.ceil_mode()
    pixels, padding = image(reader, x), pool.before
    if count_include_pad and any((*pool.before, *pool.after)):
        # The divisor is the part of the window that lies in the padded image.
        (top, left), (bottom, right) = pool.before, pool.after
        pixels = reader.emit("pad", pixels, padding=(left, right, top, bottom))
        padding, mode = (0, 0), pool.count(pool.before, pool.after, False) != pool.out
    elif mode is None:
        raise reader.unsupported("that averages over uneven padding")
    attrs: dict[str, Any] = {"kernel_size": pool.kernel, "stride": pool.strides, "padding": padding, "ceil_mode": mode}
    y = reader.emit("avg_pool2d", pixels, **attrs, count_include_pad=False)
    if reader.sizes(y)[1:] != pool.out:
        raise reader.unsupported("whose last window starts in the padding")
    return like_signal(reader, y, x)


def _over_pixels(
    reader: Reader, recipe: Callable[..., str], x: Value, axes: list[int] | None, keepdims: int, noop: int = 0
) -> Value:
    """Reduce the axes of the pixels, wherever ONNX sees them."""
    rank = len(x.axes)
    if not axes:
        axes = [] if noop == 1 else list(range(rank))
    reduced = {reader.axis(x, axis) for axis in axes}
    if not reduced:
        return x
    if rank not in (3, 4) or reduced != set(range(2, rank)):
        raise reader.unsupported(f"over the axes {sorted(axes)}, not over all pixels")
    y = recipe(x.name, True)
    if keepdims:
        return reader.like(x, y)
    return Value(
        reader.builder.reshape(y, reader.builder.shape(y)[:1]), tuple(parts for parts in x.axes if parts[0] < 2)
    )


def _global(name: str, recipe: str) -> None:
    @FUNCTIONS(name)
    def convert(reader: Reader, x: Value) -> Value:
        plain = reader.plain(x)
        axes = list(range(2, len(plain.axes)))
        return _over_pixels(reader, getattr(reader.builder, recipe), plain, axes, 1) if axes else plain


def _reduce(name: str, recipe: str) -> None:
    @FUNCTIONS(name)
    def convert(reader: Reader, x: Value, axes: Any = None, *, keepdims: int, noop_with_empty_axes: int = 0) -> Value:
        chosen = None if axes is None else reader.ints("axes", axes)
        return _over_pixels(reader, getattr(reader.builder, recipe), x, chosen, keepdims, noop_with_empty_axes)


for _name, _recipe in (("Average", "mean"), ("Max", "amax")):
    _global(f"Global{_name}Pool", _recipe)
for _name, _recipe in (("Mean", "mean"), ("Max", "amax")):
    _reduce(f"Reduce{_name}", _recipe)
