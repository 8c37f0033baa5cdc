"""Convolution, transposed or not, of images and of signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .signal import lifted, over_signals
from .table import Functions, layer

if TYPE_CHECKING:
    from ..reader import Reader
    from ..values import Value

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

_WEIGHTS = ("weight", "bias")
_CONV2D = layer("conv2d", _WEIGHTS, ("stride", "padding", "dilation", "groups"))
_TRANSPOSED2D = layer("conv_transpose2d", _WEIGHTS, ("stride", "padding", "output_padding", "groups", "dilation"))

FUNCTIONS("conv2d.default", "conv2d.padding")(_CONV2D)
FUNCTIONS("conv_transpose2d.input")(_TRANSPOSED2D)


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
    return over_signals(reader, _CONV2D, x, _flat_kernel(weight), bias, *sizes, groups)


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
    return (_conv1d if len(reader.shape) == 3 else _CONV2D)(reader, x, weight, bias, stride, padding, dilation, groups)


def _flat_kernel(weight: Any) -> Any:
    """(O, I, k) -> (O, I, 1, k); one that is computed from the image is refused by who reads it."""
    return weight.unsqueeze(2) if hasattr(weight, "unsqueeze") else weight
