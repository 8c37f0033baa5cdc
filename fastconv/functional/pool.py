"""Pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..machine.cpu import kernels
from .one_op import Array, Pair, Single, batched_images, compiled, one_node, one_op
from .signals import over_signals

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "max_pool1d",
    "max_pool2d",
]

_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_AVG_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


# Windows in regular steps keep the number of a tap in a lane of floats, where all integers up to here are exact.
_LANES_COUNT_TO = 1 << 24

Prepared = tuple[Callable[..., Any], int]
Two = tuple[int, int]


def _max_pool2d_indices(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    x, _ = batched_images("max_pool2d", arrays[0])
    graph = one_node("max_pool2d", x, dict(zip(_MAX_POOL, values, strict=True)))
    attrs, out = graph.nodes[0].attrs, graph.shapes["max_pool2d"]
    kernel, padding, dilation = attrs["kernel_size"], attrs["padding"], attrs["dilation"]
    stride = attrs["stride"]
    rows, cols = (
        kernels().pool_windows(x.shape[2 + i], kernel[i], stride[i], padding[i], dilation[i], out[1 + i], True)
        for i in (0, 1)
    )
    exact = prod(kernel) <= _LANES_COUNT_TO
    regular = _regular(x.shape[-1], kernel, stride[1], padding[1], dilation, out[2]) if exact else None
    return _with_indices(rows, cols, dilation, threads, regular)


def _regular(width: int, kernel: Two, stride: int, left: int, dilation: Two, out: int) -> Array:
    """Return what the kernel is told of windows in regular steps, whose columns it puts together by phase."""
    columns = (out - 1) * stride + (kernel[1] - 1) * dilation[1] + 1  # that windows see
    wide = (columns - 1) // stride + 1
    across = np.arange(kernel[1]) * dilation[1]
    behind = (np.arange(kernel[0]) * dilation[0] * width)[:, np.newaxis] + across
    numbers = (kernel[1], stride, left, min(stride, columns), wide)
    tables = (across % stride * wide + across // stride, behind.ravel())
    return np.concatenate([np.array(numbers, np.intp), *tables]).astype(np.intp)


def _adaptive_max_pool2d_indices(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    x, _ = batched_images("adaptive_max_pool2d", arrays[0])
    out = one_node("adaptive_max_pool2d", x, {"output_size": values[0]}).shapes["adaptive_max_pool2d"]
    rows, cols = (kernels().adaptive_windows(x.shape[2 + i], out[1 + i]) for i in (0, 1))
    return _with_indices(rows, cols, (1, 1), threads)


def _with_indices(rows: Array, cols: Array, dilation: Two, threads: int, regular: Array | None = None) -> Prepared:
    kernel = kernels().max_pool_indices
    return lambda x: kernel(x, rows, cols, *dilation, threads, regular), rows.nbytes + cols.nbytes


def _adaptive_avg_pool2d(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    x, _ = batched_images("adaptive_avg_pool2d", arrays[0])
    attrs = {"output_size": values[0]}
    out = one_node("adaptive_avg_pool2d", x, attrs).shapes["adaptive_avg_pool2d"]
    if out[1:] == (1, 1) and prod(x.shape[1:]):  # one window, the whole of each plane: no change of layout
        means = kernels().plane_means
        return lambda x: means(x, threads), 0
    return compiled("adaptive_avg_pool2d", ("output_size",))(arrays, values, threads)


_compiled_max = compiled("max_pool2d", _MAX_POOL)
_compiled_adaptive_max = compiled("adaptive_max_pool2d", ("output_size",))
_max = one_op("max_pool2d", _compiled_max)
_max_indices = one_op("max_pool2d", _max_pool2d_indices)
_avg = one_op("avg_pool2d", compiled("avg_pool2d", _AVG_POOL))
_adaptive_avg = one_op("adaptive_avg_pool2d", _adaptive_avg_pool2d)
_adaptive_max = one_op("adaptive_max_pool2d", _compiled_adaptive_max)
_adaptive_max_indices = one_op("adaptive_max_pool2d", _adaptive_max_pool2d_indices)

_MAX_SIZES = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "ceil_mode": None}
_AVG_SIZES = {"kernel_size": 1, "stride": 1, "padding": 0, "ceil_mode": None, "count_include_pad": None}
_max1d = over_signals("max_pool1d", "max_pool2d", _compiled_max, _MAX_SIZES)
_max1d_indices = over_signals("max_pool1d", "max_pool2d", _max_pool2d_indices, _MAX_SIZES)
_avg1d = over_signals("avg_pool1d", "avg_pool2d", compiled("avg_pool2d", _AVG_POOL), _AVG_SIZES)
_adaptive_avg1d = over_signals("adaptive_avg_pool1d", "adaptive_avg_pool2d", _adaptive_avg_pool2d, {"output_size": 1})
_adaptive_max1d, _adaptive_max1d_indices = (
    over_signals("adaptive_max_pool1d", "adaptive_max_pool2d", prepare, {"output_size": 1})
    for prepare in (_compiled_adaptive_max, _adaptive_max_pool2d_indices)
)


def max_pool2d(
    input: npt.ArrayLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Take the maximum of each window; NaN wins, padding never does.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    kernel_size, dilation : int or (vertical, horizontal)
    stride : int or pair, by default ``kernel_size``
    padding : int or pair
        At most half the kernel.
    ceil_mode : bool
        Keep a last window that hangs over the edge, unless it would start in the padding.
    return_indices : bool
        Return also where each maximum was found, as int64 ``row * W + column`` in its channel; -1 where a window sees
        only padding.

    Returns
    -------
    (N, C, H', W') or (C, H', W'), or a tuple of two such arrays
    """
    entry = _max_indices if return_indices else _max
    return entry.run((input,), (kernel_size, stride, padding, dilation, ceil_mode))


def avg_pool2d(
    input: npt.ArrayLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Take the mean of each window.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    kernel_size : int or (vertical, horizontal)
    stride : int or pair, by default ``kernel_size``
    padding : int or pair
        At most half the kernel.
    ceil_mode : bool
        Keep a last window that hangs over the edge, unless it would start in the padding.
    count_include_pad : bool
        Divide by the window's size with its padding (but never what hangs over it).
    divisor_override : int, optional
        Divide by this instead.

    Returns
    -------
    (N, C, H', W') or (C, H', W')
    """
    attributes = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    result: Array = _avg.run((input,), attributes)
    return result


def adaptive_avg_pool2d(input: npt.ArrayLike, output_size: int | Sequence[int | None] | None) -> Array:
    """Take the mean of windows that divide the image into ``output_size``.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    output_size : int or (H', W')
        An entry may be None: the input's own size.

    Returns
    -------
    (N, C, H', W') or (C, H', W')
    """
    result: Array = _adaptive_avg.run((input,), (output_size,))
    return result


def adaptive_max_pool2d(
    input: npt.ArrayLike,
    output_size: int | Sequence[int | None] | None,
    return_indices: bool = False,
) -> Any:
    """Take the maximum of windows that divide the image into ``output_size``.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    output_size : int or (H', W')
        An entry may be None: the input's own size.
    return_indices : bool
        Return also where each maximum was found, as int64 ``row * W + column`` in its channel.

    Returns
    -------
    (N, C, H', W') or (C, H', W'), or a tuple of two such arrays
    """
    return (_adaptive_max_indices if return_indices else _adaptive_max).run((input,), (output_size,))


def max_pool1d(
    input: npt.ArrayLike,
    kernel_size: Single,
    stride: Single | None = None,
    padding: Single = 0,
    dilation: Single = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Take the maximum of each window of signals: `max_pool2d` of images of height 1.

    Parameters
    ----------
    input : (N, C, L) or (C, L)
    kernel_size, dilation : int
    stride : int, by default ``kernel_size``
    padding : int
        At most half the kernel.
    ceil_mode : bool
        Keep a last window that hangs over the end, unless it would start in the padding.
    return_indices : bool
        Return also where each maximum was found, as int64.

    Returns
    -------
    (N, C, L') or (C, L'), or a tuple of two such arrays
    """
    entry = _max1d_indices if return_indices else _max1d
    return entry.run((input,), (kernel_size, stride, padding, dilation, ceil_mode))


def avg_pool1d(
    input: npt.ArrayLike,
    kernel_size: Single,
    stride: Single | None = None,
    padding: Single = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Take the mean of each window of signals: `avg_pool2d` of images of height 1.

    Parameters
    ----------
    input : (N, C, L) or (C, L)
    kernel_size : int
    stride : int, by default ``kernel_size``
    padding : int
        At most half the kernel.
    ceil_mode : bool
        Keep a last window that hangs over the end, unless it would start in the padding.
    count_include_pad : bool
        Divide by the window's size with its padding (but never what hangs over it).

    Returns
    -------
    (N, C, L') or (C, L')
    """
    result: Array = _avg1d.run((input,), (kernel_size, stride, padding, ceil_mode, count_include_pad))
    return result


def adaptive_avg_pool1d(input: npt.ArrayLike, output_size: Single) -> Array:
    """Take the mean of windows that divide signals, (N, C, L) or (C, L), into ``output_size``."""
    result: Array = _adaptive_avg1d.run((input,), (output_size,))
    return result


def adaptive_max_pool1d(input: npt.ArrayLike, output_size: Single, return_indices: bool = False) -> Any:
    """Take the maximum of windows that divide signals, (N, C, L) or (C, L), into ``output_size``.

    With `return_indices`, return also where each maximum was found, as int64.
    """
    return (_adaptive_max1d_indices if return_indices else _adaptive_max1d).run((input,), (output_size,))
