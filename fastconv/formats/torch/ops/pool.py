"""Pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .signal import lifted, over_signals
from .table import Functions, spatial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..reader import Reader
    from ..values import Value

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

_WINDOW = ("kernel_size", "stride", "padding")
_AVERAGE = ("ceil_mode", "count_include_pad", "divisor_override")
_MAX_POOL2D = spatial("max_pool2d", (*_WINDOW, "dilation", "ceil_mode"))

_AVG_POOL2D = spatial("avg_pool2d", (*_WINDOW, *_AVERAGE))
_ADAPTIVE_AVG_POOL2D = spatial("adaptive_avg_pool2d", ("output_size",))
_ADAPTIVE_MAX_POOL2D = spatial("adaptive_max_pool2d", ("output_size",))

FUNCTIONS("max_pool2d.default")(_MAX_POOL2D)
FUNCTIONS("avg_pool2d.default")(_AVG_POOL2D)
FUNCTIONS("adaptive_avg_pool2d.default")(_ADAPTIVE_AVG_POOL2D)


@FUNCTIONS("max_pool1d.default")
def _max_pool1d(
    reader: Reader,
    x: Any,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Value:
    sizes = lifted(1, kernel_size), lifted(1, stride), lifted(0, padding), lifted(1, dilation)
    return over_signals(reader, _MAX_POOL2D, x, *sizes, ceil_mode)


@FUNCTIONS("avg_pool1d.default")
def _avg_pool1d(
    reader: Reader,
    x: Any,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Value:
    sizes = lifted(1, kernel_size), lifted(1, stride), lifted(0, padding)
    return over_signals(reader, _AVG_POOL2D, x, *sizes, ceil_mode, count_include_pad)


@FUNCTIONS("adaptive_avg_pool1d.default")
def _adaptive_avg_pool1d(reader: Reader, x: Any, output_size: Any) -> Value:
    return over_signals(reader, _ADAPTIVE_AVG_POOL2D, x, lifted(1, output_size))


@FUNCTIONS("avg_pool3d.default")
def _avg_pool3d(
    reader: Reader,
    x: Any,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """Over rows and columns, then over planes: the mean of means of as many."""
    kernel, stride, padding = (tuple(each) * (3 // len(each)) for each in (kernel, stride or kernel, padding))
    override = divisor_override
    if kernel[1:] != (1, 1) or stride[1:] != (1, 1) or any(padding[1:]):
        x = _AVG_POOL2D(reader, x, kernel[1:], stride[1:], padding[1:], ceil_mode, count_include_pad, override and 1)
    *front, depth, height, width = reader.checked(x).shape
    x = reader.reshape(x, (*front, depth, height * width))
    x = _AVG_POOL2D(reader, x, (kernel[0], 1), (stride[0], 1), (padding[0], 0), ceil_mode, count_include_pad, override)
    return reader.reshape(x, reader.shape)


# These give the indices too, which are not computed: None stands for them.


@FUNCTIONS("max_pool2d_with_indices.default")
def _max_pool2d_with_indices(reader: Reader, *args: Any, **kwargs: Any) -> Any:
    return _MAX_POOL2D(reader, *args, **kwargs), None


@FUNCTIONS("max_pool1d_with_indices.default")
def _max_pool1d_with_indices(reader: Reader, *args: Any, **kwargs: Any) -> Any:
    return _max_pool1d(reader, *args, **kwargs), None


@FUNCTIONS("adaptive_max_pool2d.default")
def _adaptive_max_pool2d(reader: Reader, *args: Any, **kwargs: Any) -> Any:
    return _ADAPTIVE_MAX_POOL2D(reader, *args, **kwargs), None


@FUNCTIONS("adaptive_max_pool1d.default")
def _adaptive_max_pool1d(reader: Reader, x: Any, output_size: Any) -> Any:
    return over_signals(reader, _ADAPTIVE_MAX_POOL2D, x, lifted(1, output_size)), None
