"""Convolution, transposed or not, of images and of signals."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ....graph.ops.conv import SPECS, same_padding
from ..values import Value
from .shape import narrow, pad, permute
from .signal import lifted, over_signals
from .table import Functions, layer

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

_WEIGHTS = ("weight", "bias")
_OF_IMAGES = layer("conv2d", _WEIGHTS, ("stride", "padding", "dilation", "groups"))
_TRANSPOSED2D = layer("conv_transpose2d", _WEIGHTS, ("stride", "padding", "output_padding", "groups", "dilation"))

FUNCTIONS("conv_transpose2d.input")(_TRANSPOSED2D)


@FUNCTIONS("conv2d.default", "conv2d.padding")
def _conv2d(reader: Reader, x: Any, weight: Any, *args: Any, **kwargs: Any) -> Value:
    shared = isinstance(x, Value) and len(x.axes) == 4 and len(x.axes[0]) > 1 and 0 in x.axes[0]
    return (_of_windows if shared and not isinstance(weight, Value) else _OF_IMAGES)(reader, x, weight, *args, **kwargs)


def _of_windows(
    reader: Reader,
    x: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """Windows, or heads, which share an axis with the batch, as one tall image for each of the batch.

    Below each window stand as many rows of zeros as the kernel looks beyond an edge, or more, so that every window
    begins at a step of the stride, and the next one behind its last. What is computed of two windows is cut off.
    """
    given = {"stride": stride, "padding": padding, "dilation": dilation}
    settled = {name: SPECS["conv2d"].attributes[name][1](name, value) for name, value in given.items()}
    if settled["padding"] == "same":
        settled["padding"] = same_padding(settled, weight.shape[2:])
    (top, bottom, left, right), step = settled["padding"], settled["stride"][0]
    extent = settled["dilation"][0] * (weight.shape[2] - 1) + 1
    sizes, (_, channels, height, width) = reader.sizes(x, 0), x.shape
    count, at = len(sizes), x.axes[0].index(0)
    others = [i for i in range(count) if i != at]
    number = prod(sizes[i] for i in others)
    made = reader.shape[2]
    period = max(made, -(-(height + max(top, bottom)) // step)) * step
    rows = number * period // step
    last = {"padding": (top, max(0, extent - step - top), left, right)}

    y = permute(reader, reader.reshape(x, (*sizes, *x.shape[1:])), [at, count, *others, count + 1, count + 2])
    y = pad(reader, y, (0, 0, 0, period - height))
    y = reader.reshape(y, (sizes[at], channels, number * period, width))
    y = reader.emit("conv2d", y, weights={"weight": weight, "bias": bias}, attrs={**settled, **last, "groups": groups})
    y = narrow(reader, y, 2, 0, rows)
    y = reader.reshape(y, (sizes[at], y.shape[1], *(sizes[i] for i in others), period // step, y.shape[3]))
    y = narrow(reader, y, count + 1, 0, made)
    dims = [0 if i == at else 2 + others.index(i) for i in range(count)]
    return reader.reshape(permute(reader, y, [*dims, 1, count + 1, count + 2]), reader.shape)


@FUNCTIONS("conv1d.default", "conv1d.padding")
def _conv1d(
    reader: Reader,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    sizes = lifted(1, stride), lifted(0, padding), lifted(1, dilation)
    return over_signals(reader, _conv2d, x, _flat_kernel(weight), bias, *sizes, groups)


@FUNCTIONS("conv_transpose1d.default")
def _conv_transpose1d(
    reader: Reader,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    sizes = lifted(1, stride), lifted(0, padding), lifted(0, output_padding)
    return over_signals(reader, _TRANSPOSED2D, x, _flat_kernel(weight), bias, *sizes, groups, lifted(1, dilation))


@FUNCTIONS("convolution.default")
def _convolution(
    reader: Reader,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Value:
    if len(reader.shape) not in (3, 4):
        raise reader.unsupported(f"over {len(reader.shape) - 2} axes is not supported")
    if transposed:
        read = _conv_transpose1d if len(reader.shape) == 3 else _TRANSPOSED2D
        return read(reader, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return (_conv1d if len(reader.shape) == 3 else _conv2d)(reader, x, weight, bias, stride, padding, dilation, groups)


def _flat_kernel(weight: Any) -> Any:
    """(O, I, k) -> (O, I, 1, k); one that is computed from the image is refused by who reads it."""
    return weight.unsqueeze(2) if hasattr(weight, "unsqueeze") else weight
