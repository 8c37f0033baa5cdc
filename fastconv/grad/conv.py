"""Convolution, and transposed convolution, of images and of signals.

The gradient by the input is a transposed convolution, or, of windows next to each other, a convolution with the kernels
flipped; that by the weights is a product of the gradient's pixels with those under each tap.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from .. import functional as F
from ..errors import ShapeError
from ..functional.conv import prepare_sides
from ..functional.one_op import Pair, Single, floats, one_node, one_op, threads
from ..graph import attributes as at
from ..machine.cpu import kernels
from .rule import Array, Backward, Rule, each

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["RULES", "bias_gradient", "conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight"]

Sizes = tuple[int, ...]

# Images are summed in so many pieces, which threads share, as long as their sums take no more memory than this.
_PIECES = 16
_PIECES_BYTES = 4 << 20

_entry_sides = one_op("conv2d_input", prepare_sides, ("grad_output", "weight"))
_conv_weight = kernels().conv_weight
_channel_sums = kernels().channel_sums


class _Window(NamedTuple):
    """A convolution's attributes, each for both axes."""

    kernel: Sizes
    stride: Sizes
    padding: Sizes  # top, bottom, left, right
    dilation: Sizes
    groups: int

    @property
    def extent(self) -> Sizes:
        """The pixels from a window's first to its last."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))


@lru_cache(256)
def _window(op: str, shape: Sizes, weight: Sizes, attributes: tuple[tuple[str, Any], ...]) -> tuple[_Window, Sizes]:
    """Settle and check a call: its window, and the shape of one image's output."""
    x, w = np.empty((0, *shape), np.float32), np.broadcast_to(np.float32(0), weight)
    graph = one_node(op, x, dict(attributes), {"weight": w})
    attrs = graph.nodes[0].attrs
    window = _Window(weight[2:], attrs["stride"], attrs["padding"], attrs["dilation"], attrs["groups"])
    return window, graph.shapes[op]


def _settled(op: str, shape: Sizes, weight: Sizes, **attributes: Any) -> tuple[_Window, Sizes]:
    given = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in attributes.items())
    return _window(op, shape[-3:], weight, given)


def bias_gradient(g: Array) -> Array:
    """Sum over images and pixels. g: (N, C, ...) -> (C,)"""
    n, c = g.shape[:2]
    result: Array = _channel_sums(g, None, None, None, n, c, threads())[:, 0].astype(g.dtype)
    return result


def _input_gradient(window: _Window, shape: Sizes, weight: Array, g: Array) -> Array:
    """Return the gradient by images of this shape. weight: (O, I / groups, kh, kw); g: (N, O, H', W')"""
    if not g.size or not prod(shape):
        return np.zeros(shape, g.dtype)
    inputs = weight.shape[1]
    if inputs <= _FEW_INPUTS and window.groups == 1 and window.padding[::2] == window.padding[1::2]:
        return _folded(window, shape, weight, g)
    top, bottom, left, right = window.padding
    reach = tuple(extent - 1 - before for extent, before in zip(window.extent, (top, left), strict=True))
    if window.stride == (1, 1) and min(reach) >= 0 and (top, left) == (bottom, right):
        flipped = _groups_swapped(weight, window.groups)[..., ::-1, ::-1]
        return F.conv2d(g, np.ascontiguousarray(flipped), None, 1, reach, window.dilation, window.groups)
    # What the division by the stride dropped at the bottom and right was not seen: output_padding has no tap there.
    seen = [
        (out - 1) * stride + extent - before - after
        for out, stride, extent, before, after in zip(
            g.shape[2:], window.stride, window.extent, (top, left), (bottom, right), strict=True
        )
    ]
    more = tuple(size - have for size, have in zip(shape[2:], seen, strict=True))
    result: Array = _entry_sides.run((g, weight), (window.stride, window.padding, more, window.groups, window.dilation))
    return result


# For so few input channels the convolution would fill a part of its vectors alone. us at v3: 64x1x28x28, 6 kernels of
# 5x5, 919 and by products 543; 64x3x32x32, 32 of 3x3, 7610 and 5399; 8x3x64x64, 64 of 7x7, stride 2, 7677 and 3584; but
# 64x6x12x12, 16 of 5x5, 760 and 961.
_FEW_INPUTS = 4
_COLUMNS_BYTES = 4 << 20  # of products at a time


def _folded(window: _Window, shape: Sizes, weight: Array, g: Array) -> Array:
    """Return the gradient by images as products of all kernels with each pixel, added where they belong (col2im)."""
    n, outputs, pixels = len(g), g.shape[1], prod(g.shape[2:])
    columns = np.ascontiguousarray(weight.reshape(outputs, -1).T)
    step = max(_COLUMNS_BYTES // (len(columns) * pixels * g.itemsize), 1)
    top, _, left, _ = window.padding
    y = np.empty(shape, g.dtype)
    for first in range(0, n, step):
        part = g[first : first + step].reshape(-1, outputs, pixels)
        products = F.matmul(columns, part)
        y[first : first + step] = F.fold(
            products, shape[2:], window.kernel, window.dilation, (top, left), window.stride
        )
    return y


def _groups_swapped(weight: Array, groups: int) -> Any:
    """Return kernels (O, I / groups, ...) as (I, O / groups, ...)."""
    outputs, inputs, *kernel = weight.shape
    split = weight.reshape(groups, outputs // groups, inputs, *kernel).swapaxes(1, 2)
    return split.reshape(groups * inputs, outputs // groups, *kernel)


def _weight_gradient(window: _Window, x: Array, shape: Sizes, g: Array) -> Array:
    """Return the gradient by weights of this shape, (O, I / groups, kh, kw). x: (N, I, H, W); g: (N, O, H', W')"""
    y = np.empty(shape, g.dtype)
    if not g.size or not x.size or not y.size:
        y[...] = 0
        return y
    if window.kernel == window.stride == (1, 1) and not any(window.padding) and x.shape[2:] == g.shape[2:]:
        x, g = (array.reshape(*array.shape[:2], 1, -1) for array in (x, g))  # a plane is one row
    pieces = max(min(_PIECES, len(x), _PIECES_BYTES // y.nbytes), 1)
    places, plan = _plan(window, x.shape[1:], g.shape[2:])
    _conv_weight(x, g, places, np.array([window.groups, *plan, pieces], np.int64), y, threads())
    return y


@lru_cache(64)
def _plan(window: _Window, shape: Sizes, out: Sizes) -> tuple[Array, tuple[int, ...]]:
    """Return where each tap stands behind a window's first pixel, and how planes are padded for `conv_weight`.

    They are read in place where no window hangs over an edge, and pixels next to each other are next in memory.
    """
    inputs, height, width = shape
    (sh, sw), (top, _, left, _) = window.stride, window.padding
    high, wide = ((count - 1) * s + e for count, s, e in zip(out, window.stride, window.extent, strict=True))
    if sw == 1 and not top and not left and high <= height and wide <= width:
        phases, row, plane, padded = 1, width, height * width, (0, 0, 0, 0)
    else:
        phases, wide = min(sw, wide), (wide - 1) // sw + 1
        row = phases * wide
        plane, padded = high * row, (high, wide, phases, sw)
    below, along = (np.arange(k) * d for k, d in zip(window.kernel, window.dilation, strict=True))
    across = along if not padded[0] else along % sw * wide + along // sw
    channels = np.arange(inputs // window.groups) * plane
    places = channels[:, None, None] + (below * row)[:, None] + across
    return np.ascontiguousarray(places, np.intp), (sh * row, top, left, *padded)


# --- functions of images and signals --------------------------------------------------------------


class _Axes(NamedTuple):
    """How arrays and sizes of signals, or of one image, become those of a batch of images."""

    signals: bool
    batched: bool

    def images(self, array: Array) -> Array:
        array = array if self.batched else array[np.newaxis]
        return array[..., np.newaxis, :] if self.signals else array

    def weights(self, array: Array) -> Array:
        return array[..., np.newaxis, :] if self.signals else array

    def back(self, array: Array) -> Array:
        array = array[..., 0, :] if self.signals else array
        return array if self.batched else array[0]

    def size(self, value: Any, height: int) -> Any:
        """Return a size, or a name, for both axes."""
        if not self.signals or isinstance(value, str):
            return value
        return (height, *value) if isinstance(value, (tuple, list)) else (height, value)


def _rule(function: str) -> Rule:
    signals = function.endswith("1d")
    transposed = "transpose" in function
    call = getattr(F, function)

    def rule(
        input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int, **more: Any
    ) -> tuple[Array, Backward]:
        y: Array = call(input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, **more)
        given = floats(function, input=input, weight=weight)
        axes = _Axes(signals, given["input"].ndim == (3 if signals else 4))
        x, w = axes.images(given["input"]), axes.weights(given["weight"])
        attributes = {
            "stride": axes.size(stride, 1),
            "padding": axes.size(padding, 0),
            "dilation": axes.size(dilation, 1),
            "groups": groups,
        }

        def of_input(g: Array) -> Array:
            window, _ = _settled("conv2d", x.shape, w.shape, **attributes)
            return axes.back(_input_gradient(window, x.shape, w, axes.images(g)))

        def of_weight(g: Array) -> Any:
            window, _ = _settled("conv2d", x.shape, w.shape, **attributes)
            return _weight_gradient(window, x, w.shape, axes.images(g)).reshape(given["weight"].shape)

        def of_input_transposed(g: Array) -> Array:
            found = F.conv2d(axes.images(g), w, None, **attributes)
            # A dilation lets output_padding exceed the stride: there is room for more windows then.
            return axes.back(np.ascontiguousarray(found[..., : x.shape[2], : x.shape[3]]))

        def of_weight_transposed(g: Array) -> Any:
            image = axes.images(g)
            window, _ = _settled("conv2d", image.shape, w.shape, **attributes)
            return _weight_gradient(window, image, w.shape, x).reshape(given["weight"].shape)

        return y, each(
            input=of_input_transposed if transposed else of_input,
            weight=of_weight_transposed if transposed else of_weight,
            bias=lambda g: bias_gradient(axes.images(g)),
        )

    return rule


RULES: dict[str, Rule] = {name: _rule(name) for name in ("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d")}


def _checked(function: str, shape: Sizes, weight: Sizes, g: Array, signals: bool, attributes: Any) -> _Window:
    """Return the window of a function of ``torch.nn.grad``, whose shapes its caller gives."""
    rank = 3 if signals else 4
    for name, sizes in (("input_size" if "input" in function else "input", shape), ("weight_size", weight)):
        if len(sizes) != rank:
            raise ShapeError(f"{function}: {name} must have {rank} axes, got {tuple(sizes)}")
    _check_sizes(function, shape, weight, g, attributes)
    axes = _Axes(signals, True)
    lifted = [(*sizes[:2], 1, sizes[2]) if signals else tuple(sizes) for sizes in (shape, weight)]
    lifted_attributes = {
        name: value if name == "groups" else axes.size(value, 0 if name == "padding" else 1)
        for name, value in attributes.items()
    }
    window, out = _settled("conv2d", lifted[0], lifted[1], **lifted_attributes)
    expected = (shape[0], out[0], *out[len(out) - (rank - 2) :])
    if g.shape != expected:
        raise ShapeError(f"{function}: grad_output must be {expected}, as the convolution's output, got {g.shape}")
    return window


def _check_sizes(function: str, shape: Sizes, weight: Sizes, g: Array, attributes: Any) -> None:
    """Refuse sizes that do not fit before there are weights of them."""
    groups = at.positive(f"{function}: groups", attributes["groups"])
    if g.ndim != len(weight) or g.shape[1] != weight[0]:
        raise ShapeError(
            f"{function}: grad_output must have as many channels as there are kernels, {weight[0]} of {weight}, got "
            f"shape {g.shape}"
        )
    if shape[1] != weight[1] * groups:
        raise ShapeError(f"{function}: kernels {weight} in {groups} groups do not fit an input {shape}")
    padding = attributes["padding"]
    if isinstance(padding, str):
        return
    widths = padding if isinstance(padding, (tuple, list)) and padding else (padding,)
    most = 2 * max(at.integer(f"{function}: padding", width) for width in widths)
    if any(kernel > size + most for kernel, size in zip(weight[2:], shape[2:], strict=True)):
        raise ShapeError(f"{function}: kernels {weight} are larger than the padded input, {shape} with {padding}")


def _sizes(name: str, value: Any) -> Sizes:
    """Check the shape of an array that is to be found."""
    sizes = at.integers(name, value if not isinstance(value, Sequence) or isinstance(value, str) else tuple(value))
    if min(sizes, default=0) < 0:
        raise ShapeError(f"{name} must hold no negative sizes, got {sizes}")
    return sizes


def _by_input(
    function: str, input_size: Sequence[int], weight: Any, grad_output: Any, signals: bool, **attributes: Any
) -> Array:
    given = floats(function, grad_output=grad_output, weight=weight)
    w, g, axes = given["weight"], given["grad_output"], _Axes(signals, True)
    shape = _sizes(f"{function}: input_size", input_size)
    window = _checked(function, shape, w.shape, g, signals, attributes)
    images = (*shape[:2], 1, shape[2]) if signals else shape
    return axes.back(_input_gradient(window, images, axes.weights(w), axes.images(g)))


def _by_weight(
    function: str, input: Any, weight_size: Sequence[int], grad_output: Any, signals: bool, **attributes: Any
) -> Array:
    given = floats(function, input=input, grad_output=grad_output)
    x, g, axes = given["input"], given["grad_output"], _Axes(signals, True)
    shape = _sizes(f"{function}: weight_size", weight_size)
    window = _checked(function, x.shape, shape, g, signals, attributes)
    kernels_ = (*shape[:2], 1, shape[2]) if signals else shape
    return _weight_gradient(window, axes.images(x), kernels_, axes.images(g)).reshape(shape)


def conv2d_input(
    input_size: Sequence[int],
    weight: npt.ArrayLike,
    grad_output: npt.ArrayLike,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Array:
    """Return the gradient of `fastconv.functional.conv2d` by its input, as ``torch.nn.grad`` does.

    Parameters
    ----------
    input_size : (N, I, H, W)
    weight : (O, I / groups, kh, kw)
    grad_output : (N, O, H', W')
        The gradient by the convolution's output.
    stride, padding, dilation, groups
        Those of the convolution.

    Returns
    -------
    (N, I, H, W)
    """
    attributes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _by_input("conv2d_input", input_size, weight, grad_output, False, **attributes)


def conv2d_weight(
    input: npt.ArrayLike,
    weight_size: Sequence[int],
    grad_output: npt.ArrayLike,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Array:
    """Return the gradient of `fastconv.functional.conv2d` by its weight, as ``torch.nn.grad`` does.

    Parameters
    ----------
    input : (N, I, H, W)
    weight_size : (O, I / groups, kh, kw)
    grad_output : (N, O, H', W')
        The gradient by the convolution's output.
    stride, padding, dilation, groups
        Those of the convolution.

    Returns
    -------
    (O, I / groups, kh, kw)
    """
    attributes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _by_weight("conv2d_weight", input, weight_size, grad_output, False, **attributes)


def conv1d_input(
    input_size: Sequence[int],
    weight: npt.ArrayLike,
    grad_output: npt.ArrayLike,
    stride: Single = 1,
    padding: Single | Literal["same", "valid"] = 0,
    dilation: Single = 1,
    groups: int = 1,
) -> Array:
    """Return the gradient of `fastconv.functional.conv1d` by its input, (N, I, L); as `conv2d_input`."""
    attributes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _by_input("conv1d_input", input_size, weight, grad_output, True, **attributes)


def conv1d_weight(
    input: npt.ArrayLike,
    weight_size: Sequence[int],
    grad_output: npt.ArrayLike,
    stride: Single = 1,
    padding: Single | Literal["same", "valid"] = 0,
    dilation: Single = 1,
    groups: int = 1,
) -> Array:
    """Return the gradient of `fastconv.functional.conv1d` by its weight, (O, I / groups, k); as `conv2d_weight`."""
    attributes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _by_weight("conv1d_weight", input, weight_size, grad_output, True, **attributes)
