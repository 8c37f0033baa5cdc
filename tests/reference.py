"""The oracle: one plain float64 NumPy function per operator, with PyTorch's semantics.

Every fast path of the engine is compared with these functions, and these functions are compared
with PyTorch in ``test_reference.py``. They favour the obvious over the fast, compute everything in
float64, return new arrays and do not validate: what is refused is PyTorch's to say, not theirs.

Images are NCHW, or CHW without a batch; the spatial axes are always the last two. An attribute that
PyTorch takes as an int or a pair is taken the same way here.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from reference_elementwise import *  # noqa: F403
from reference_recurrent import *  # noqa: F403
from reference_reduce import *  # noqa: F403

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Pair = int | Sequence[int]
Size = Sequence[int]  # of length 2


def _f64(values: ArrayLike) -> F64:
    return np.array(values, dtype=np.float64)


def _pair(value: Pair) -> tuple[int, int]:
    """``3 -> (3, 3)``, ``(3,) -> (3, 3)``, ``(3, 2) -> (3, 2)``."""
    values = [int(v) for v in value] if isinstance(value, Sequence) else [int(value)]
    return values[0], values[-1]


def _taps(out: int, kernel: int, stride: int, dilation: int) -> NDArray[np.intp]:
    """(out, kernel): the padded coordinate that tap k of window o reads along one axis."""
    return np.arange(out)[:, None] * stride + np.arange(kernel) * dilation


def _windows(x: F64, kernel: Size, stride: Size, dilation: Size) -> F64:
    """(..., H, W) -> (..., OH, OW, KH, KW): every window that fits into a padded image."""
    out = _conv_output(x.shape[-2:], kernel, stride, dilation)
    rows = _taps(out[0], kernel[0], stride[0], dilation[0])
    cols = _taps(out[1], kernel[1], stride[1], dilation[1])
    return x[..., rows[:, None, :, None], cols[None, :, None, :]]


def _pad_image(x: F64, rows: tuple[int, int], cols: tuple[int, int], value: float = 0.0) -> F64:
    """Surround the last two axes with ``value``."""
    width = [(0, 0)] * (x.ndim - 2) + [rows, cols]
    return np.pad(x, width, constant_values=value)


def _conv_output(padded: Size, kernel: Size, stride: Size, dilation: Size) -> tuple[int, int]:
    """Count the windows that fit wholly into a padded image."""
    height, width = (
        (size - d * (k - 1) - 1) // s + 1 for size, k, s, d in zip(padded, kernel, stride, dilation, strict=True)
    )
    return height, width


def _pool_output(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Count the pooling windows along one axis.

    ``ceil_mode`` admits one more window, overhanging the end, unless it would start in the padding
    after the image.
    """
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    out = -(-span // stride) + 1
    return out - 1 if (out - 1) * stride >= size + padding else out


# --- convolution and its lowering ---------------------------------------------------------------


def conv2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> F64:
    """(..., C, H, W) x (O, C / groups, KH, KW) -> (..., O, OH, OW)."""
    x, w = _f64(input), _f64(weight)
    kernel, stride, dilation = w.shape[2:], _pair(stride), _pair(dilation)
    if padding == "same":
        # An odd total puts the extra zero at the end.
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        rows, cols = ((t // 2, t - t // 2) for t in total)
    else:
        pad_h, pad_w = (0, 0) if isinstance(padding, str) else _pair(padding)
        rows, cols = (pad_h, pad_h), (pad_w, pad_w)
    x = _pad_image(x, rows, cols)

    results = []
    for x_group, w_group in zip(np.split(x, groups, axis=-3), np.split(w, groups), strict=True):
        windows = _windows(x_group, kernel, stride, dilation)
        results.append(np.einsum("...cyxij,ocij->...oyx", windows, w_group, optimize=True))
    y = np.concatenate(results, axis=-3)
    return y if bias is None else y + _f64(bias)[:, None, None]


def conv_transpose2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> F64:
    """(..., C, H, W) x (C, O / groups, KH, KW) -> (..., O, OH, OW): every pixel leaves a kernel in the result."""
    x, w = _f64(input), _f64(weight)
    (sh, sw), (pad_h, pad_w), (dh, dw) = _pair(stride), _pair(padding), _pair(dilation)
    more_h, more_w = _pair(output_padding)
    *batch, _, height, width = x.shape
    per_group, kh, kw = w.shape[1:]
    full_h, full_w = (height - 1) * sh + dh * (kh - 1) + 1 + more_h, (width - 1) * sw + dw * (kw - 1) + 1 + more_w
    y = np.zeros((*batch, groups * per_group, full_h, full_w))
    left = zip(np.split(x, groups, axis=-3), np.split(w, groups), np.split(y, groups, axis=-3), strict=True)
    for x_group, w_group, y_group in left:  # parts of y, not copies
        for i, j in np.ndindex(kh, kw):
            rows = builtins.slice(i * dh, i * dh + (height - 1) * sh + 1, sh)
            cols = builtins.slice(j * dw, j * dw + (width - 1) * sw + 1, sw)
            y_group[..., rows, cols] += np.einsum("...cyx,co->...oyx", x_group, w_group[:, :, i, j])
    y = y[..., pad_h : full_h - pad_h, pad_w : full_w - pad_w]
    return y if bias is None else y + _f64(bias)[:, None, None]


def unfold(input: ArrayLike, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1) -> F64:
    """(..., C, H, W) -> (..., C * KH * KW, OH * OW): each window as a column (im2col)."""
    kernel, (pad_h, pad_w) = _pair(kernel_size), _pair(padding)
    stride, dilation = _pair(stride), _pair(dilation)
    x = _pad_image(_f64(input), (pad_h, pad_h), (pad_w, pad_w))
    windows = _windows(x, kernel, stride, dilation)
    columns = np.moveaxis(windows, (-2, -1), (-4, -3))  # (..., C, KH, KW, OH, OW)
    *batch, channels, kh, kw, oh, ow = columns.shape
    return columns.reshape(*batch, channels * kh * kw, oh * ow)


def fold(
    input: ArrayLike,
    output_size: Pair,
    kernel_size: Pair,
    dilation: Pair = 1,
    padding: Pair = 0,
    stride: Pair = 1,
) -> F64:
    """(..., C * KH * KW, OH * OW) -> (..., C, H, W): sum each column into its window (col2im)."""
    columns = _f64(input)
    size, kernel, (pad_h, pad_w) = _pair(output_size), _pair(kernel_size), _pair(padding)
    stride, dilation = _pair(stride), _pair(dilation)
    padded = size[0] + 2 * pad_h, size[1] + 2 * pad_w
    out = _conv_output(padded, kernel, stride, dilation)
    channels = columns.shape[-2] // math.prod(kernel)
    columns = columns.reshape(*columns.shape[:-2], channels, *kernel, *out)
    image = np.zeros((*columns.shape[:-5], channels, *padded))
    rows = _taps(out[0], kernel[0], stride[0], dilation[0])
    cols = _taps(out[1], kernel[1], stride[1], dilation[1])
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            # One tap reads each pixel at most once, so += is safe here.
            image[..., rows[:, None, i], cols[None, :, j]] += columns[..., i, j, :, :]
    return image[..., pad_h : pad_h + size[0], pad_w : pad_w + size[1]]


# --- pooling ------------------------------------------------------------------------------------


def _first_max(values: F64, candidates: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Position along the last axis that PyTorch's scan ends on: the last NaN, or the first max."""
    nan = np.isnan(values) & candidates
    last_nan = values.shape[-1] - 1 - nan[..., ::-1].argmax(-1)
    largest = np.where(candidates, values, -np.inf).max(-1, keepdims=True)
    first_max = (candidates & (values == largest)).argmax(-1)
    result: NDArray[np.intp] = np.where(nan.any(-1), last_nan, first_max)
    return result


def max_pool2d(
    input: ArrayLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """(..., H, W) -> (..., OH, OW), and the int64 position ``row * W + column`` of each maximum.

    A NaN in a window is its maximum. A dilated window may have no tap inside the image; its maximum
    is -inf, and its position (which PyTorch takes from outside the image) means nothing.
    """
    x = _f64(input)
    height, width = x.shape[-2:]
    kernel, (pad_h, pad_w), dilation = _pair(kernel_size), _pair(padding), _pair(dilation)
    stride = _pair(stride) if stride else kernel
    out = [
        _pool_output(*args, ceil_mode)
        for args in zip((height, width), kernel, stride, (pad_h, pad_w), dilation, strict=True)
    ]
    shape = *out, *kernel
    rows = np.broadcast_to(_taps(out[0], kernel[0], stride[0], dilation[0])[:, None, :, None] - pad_h, shape)
    cols = np.broadcast_to(_taps(out[1], kernel[1], stride[1], dilation[1])[None, :, None, :] - pad_w, shape)
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    taps = np.where(inside, x[..., rows.clip(0, height - 1), cols.clip(0, width - 1)], -np.inf)

    flat = *out, math.prod(kernel)
    taps = taps.reshape(*x.shape[:-2], *flat)
    values = taps.max(-1)
    if not return_indices:
        return values
    best = _first_max(taps, np.broadcast_to(inside.reshape(flat), taps.shape))
    position = np.broadcast_to((rows * width + cols).reshape(flat), taps.shape)
    return values, np.take_along_axis(position, best[..., None], -1)[..., 0].astype(np.int64)


def avg_pool2d(
    input: ArrayLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> F64:
    """(..., H, W) -> (..., OH, OW).

    The divisor is ``divisor_override``; else, with ``count_include_pad``, the pixels of the window
    inside the padded image (what overhangs the padding in ``ceil_mode`` does not count); else the
    pixels inside the image.
    """
    x = _f64(input)
    height, width = x.shape[-2:]
    kernel, (pad_h, pad_w) = _pair(kernel_size), _pair(padding)
    stride = _pair(stride) if stride else kernel
    out_h = _pool_output(height, kernel[0], stride[0], pad_h, 1, ceil_mode)
    out_w = _pool_output(width, kernel[1], stride[1], pad_w, 1, ceil_mode)
    y = np.zeros((*x.shape[:-2], out_h, out_w))
    for i in range(out_h):
        for j in range(out_w):
            top, left = i * stride[0] - pad_h, j * stride[1] - pad_w
            bottom = min(top + kernel[0], height + pad_h)
            right = min(left + kernel[1], width + pad_w)
            padded_count = (bottom - top) * (right - left)
            window = x[..., max(top, 0) : bottom, max(left, 0) : right]
            image_count = math.prod(window.shape[-2:])
            count = padded_count if count_include_pad else image_count
            divisor = count if divisor_override is None else divisor_override
            y[..., i, j] = window.sum((-2, -1)) / divisor
    return y


def _adaptive_bins(size: int, out: int) -> list[slice]:
    """Cell i of ``out`` covers ``floor(i * size / out)`` to ``ceil((i + 1) * size / out)``."""
    return [builtins.slice(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]


def _adaptive_size(x: F64, output_size: int | Sequence[int | None]) -> tuple[int, int]:
    """``None`` keeps the size of the input along that axis."""
    sizes = [output_size] * 2 if isinstance(output_size, int) else output_size
    height, width = (n if s is None else s for n, s in zip(x.shape[-2:], sizes, strict=True))
    return height, width


def adaptive_avg_pool2d(input: ArrayLike, output_size: int | Sequence[int | None]) -> F64:
    """(..., H, W) -> (..., *output_size)."""
    x = _f64(input)
    out = _adaptive_size(x, output_size)
    y = np.zeros((*x.shape[:-2], *out))
    for i, rows in enumerate(_adaptive_bins(x.shape[-2], out[0])):
        for j, cols in enumerate(_adaptive_bins(x.shape[-1], out[1])):
            y[..., i, j] = x[..., rows, cols].mean((-2, -1))
    return y


def adaptive_max_pool2d(input: ArrayLike, output_size: int | Sequence[int | None], return_indices: bool = False) -> Any:
    """(..., H, W) -> (..., *output_size), and the positions as in :func:`max_pool2d`."""
    x = _f64(input)
    out = _adaptive_size(x, output_size)
    y = np.zeros((*x.shape[:-2], *out))
    indices = np.zeros(y.shape, dtype=np.int64)
    position = np.arange(math.prod(x.shape[-2:])).reshape(x.shape[-2:])
    for i, rows in enumerate(_adaptive_bins(x.shape[-2], out[0])):
        for j, cols in enumerate(_adaptive_bins(x.shape[-1], out[1])):
            cell = x[..., rows, cols]
            cell = cell.reshape(*cell.shape[:-2], math.prod(cell.shape[-2:]))
            y[..., i, j] = cell.max(-1)
            best = _first_max(cell, np.ones(cell.shape, dtype=bool))
            indices[..., i, j] = position[rows, cols].ravel()[best]
    return (y, indices) if return_indices else y


# --- padding ------------------------------------------------------------------------------------


def pad(
    input: ArrayLike,
    pad: Sequence[int],
    mode: Literal["constant", "reflect", "replicate", "circular"] = "constant",
    value: float | None = None,
) -> F64:
    """Pad the last ``len(pad) // 2`` axes, given as (before, after) from the last axis backwards.

    A negative amount crops. Reflection and replication see the whole input, the crop comes after;
    circular padding wraps around what the crop has left.
    """
    x = _f64(input)
    if not pad:
        return x  # np.pad knows no scalars
    amounts = [(0, 0)] * (x.ndim - len(pad) // 2)
    amounts += [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -2, -2)]
    grow = [(max(before, 0), max(after, 0)) for before, after in amounts]
    crop = [(max(-before, 0), max(-after, 0)) for before, after in amounts]
    if mode == "constant":
        return _crop(np.pad(x, grow, constant_values=value or 0.0), crop)
    if mode == "circular":
        return np.pad(_crop(x, crop), grow, mode="wrap")
    if mode == "reflect":
        return _crop(np.pad(x, grow, mode="reflect"), crop)
    return _crop(np.pad(x, grow, mode="edge"), crop)


def _crop(x: F64, amounts: Sequence[tuple[int, int]]) -> F64:
    cut = [builtins.slice(before, n - after) for n, (before, after) in zip(x.shape, amounts, strict=True)]
    return x[tuple(cut)]


# --- shapes ---------------------------------------------------------------------------------------


def flatten(input: ArrayLike, start_dim: int = 1, end_dim: int = -1) -> F64:
    """One axis for those from ``start_dim`` to ``end_dim``, both included."""
    x = _f64(input)
    end = end_dim % x.ndim + 1
    return x.reshape(*x.shape[:start_dim], math.prod(x.shape[start_dim:end]), *x.shape[end:])


def reshape(input: ArrayLike, shape: Sequence[int]) -> F64:
    """(N, ...) -> (N, *shape)."""
    x = _f64(input)
    return x.reshape(len(x), *shape)


def cat(*inputs: ArrayLike, dim: int = 1) -> F64:
    """All along one axis, one after the other."""
    return np.concatenate([_f64(x) for x in inputs], axis=dim)


def identity(input: ArrayLike) -> F64:
    """The input."""
    return _f64(input)


def dropout(input: ArrayLike, p: float = 0.5) -> F64:
    """The input: nothing is dropped when a trained network runs."""
    return _f64(input)


# --- matrix product, normalisation, element by element ------------------------------------------


def linear(input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> F64:
    """(..., I) x (O, I) -> (..., O)."""
    y: F64 = np.matmul(_f64(input), _f64(weight).T)
    return y if bias is None else y + _f64(bias)


def batch_norm(
    input: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> F64:
    """(N, C, ...) -> (N, C, ...), with the running statistics (evaluation mode)."""
    x = _f64(input)
    per_channel = (-1, *[1] * (x.ndim - 2))
    mean, var = (_f64(v).reshape(per_channel) for v in (running_mean, running_var))
    y = (x - mean) / np.sqrt(var + eps)
    if weight is not None:
        y = y * _f64(weight).reshape(per_channel)
    return y if bias is None else y + _f64(bias).reshape(per_channel)


def add(input: ArrayLike, other: ArrayLike, alpha: float = 1.0) -> F64:
    """``input + alpha * other``, broadcast."""
    return _f64(input) + alpha * _f64(other)


def relu(input: ArrayLike) -> F64:
    """``max(x, 0)``; NaN stays NaN."""
    return np.maximum(_f64(input), 0.0)


def leaky_relu(input: ArrayLike, negative_slope: float = 0.01) -> F64:
    """``x`` where positive, else ``negative_slope * x`` (so a slope of 0 turns -inf into NaN)."""
    x = _f64(input)
    return np.where(x > 0, x, x * negative_slope)


def hardtanh(input: ArrayLike, min_val: float = -1.0, max_val: float = 1.0) -> F64:
    """Clamp to ``[min_val, max_val]``; NaN stays NaN."""
    return np.clip(_f64(input), min_val, max_val)


def relu6(input: ArrayLike) -> F64:
    """Clamp to ``[0, 6]``; NaN stays NaN."""
    return hardtanh(input, 0.0, 6.0)


def sigmoid(input: ArrayLike) -> F64:
    """``1 / (1 + exp(-x))``, which is right even where the exponential overflows."""
    with np.errstate(over="ignore"):
        y: F64 = 1.0 / (1.0 + np.exp(-_f64(input)))
    return y


def silu(input: ArrayLike) -> F64:
    """``x * sigmoid(x)``."""
    return _f64(input) * sigmoid(input)


def tanh(input: ArrayLike) -> F64:
    """Hyperbolic tangent."""
    return np.tanh(_f64(input))


def softmax(input: ArrayLike, dim: int) -> F64:
    """``exp(x) / sum(exp(x))`` along ``dim``."""
    x = _f64(input)
    e: F64 = np.exp(x - x.max(axis=dim, keepdims=True, initial=-np.inf))
    total: F64 = e.sum(axis=dim, keepdims=True)
    return e / total


def log_softmax(input: ArrayLike, dim: int) -> F64:
    """``log(softmax(x))``, without its loss of small probabilities."""
    x = _f64(input)
    shifted: F64 = x - x.max(axis=dim, keepdims=True, initial=-np.inf)
    total: F64 = np.exp(shifted).sum(axis=dim, keepdims=True)
    return shifted - np.log(total)


def hardsigmoid(input: ArrayLike) -> F64:
    """``relu6(x + 3) / 6``."""
    return relu6(_f64(input) + 3) / 6


def hardswish(input: ArrayLike) -> F64:
    """``x * hardsigmoid(x)``."""
    return _f64(input) * hardsigmoid(input)


def erf(input: ArrayLike) -> F64:
    """The error function."""
    x = _f64(input)
    return np.array([math.erf(value) for value in x.ravel()]).reshape(x.shape)


def gelu(input: ArrayLike, approximate: str = "none") -> F64:
    """``x`` times the normal distribution function, or its approximation by a hyperbolic tangent."""
    x = _f64(input)
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def elu(input: ArrayLike, alpha: float = 1.0) -> F64:
    """``alpha * (exp(x) - 1)`` below 0."""
    x = _f64(input)
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def celu(input: ArrayLike, alpha: float = 1.0) -> F64:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``, for alpha > 0."""
    x = _f64(input)
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x / alpha, 0)))


def selu(input: ArrayLike) -> F64:
    """``scale * elu(x, alpha)`` with the constants of Klambauer et al. (2017)."""
    return 1.0507009873554804934193349852946 * elu(input, 1.6732632423543772848170429916717)


def softplus(input: ArrayLike, beta: float = 1.0, threshold: float = 20.0) -> F64:
    """``log(1 + exp(beta x)) / beta``; x itself above the threshold."""
    x = _f64(input)
    return np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta)


def softsign(input: ArrayLike) -> F64:
    """``x / (1 + |x|)``."""
    x = _f64(input)
    return x / (1 + np.abs(x))


def mish(input: ArrayLike) -> F64:
    """``x * tanh(softplus(x))``."""
    return _f64(input) * np.tanh(softplus(input))


def logsigmoid(input: ArrayLike) -> F64:
    """``log(sigmoid(x))``."""
    return -np.logaddexp(0, -_f64(input))


def exp(input: ArrayLike) -> F64:
    """``e ** x``."""
    return np.exp(_f64(input))


def log(input: ArrayLike) -> F64:
    """The natural logarithm."""
    with np.errstate(all="ignore"):
        return np.log(_f64(input))


def sqrt(input: ArrayLike) -> F64:
    """The square root."""
    with np.errstate(all="ignore"):
        return np.sqrt(_f64(input))


def rsqrt(input: ArrayLike) -> F64:
    """``1 / sqrt(x)``."""
    with np.errstate(all="ignore"):
        return 1 / sqrt(input)


def reciprocal(input: ArrayLike) -> F64:
    """``1 / x``."""
    with np.errstate(all="ignore"):
        return 1 / _f64(input)


def abs(input: ArrayLike) -> F64:
    """The magnitude."""
    return np.abs(_f64(input))


def sub(input: ArrayLike, other: ArrayLike) -> F64:
    """``x - other``."""
    return _f64(input) - _f64(other)


def mul(input: ArrayLike, other: ArrayLike) -> F64:
    """``x * other``."""
    return _f64(input) * _f64(other)


def div(input: ArrayLike, other: ArrayLike) -> F64:
    """``x / other``."""
    with np.errstate(all="ignore"):
        return _f64(input) / _f64(other)


def maximum(input: ArrayLike, other: ArrayLike) -> F64:
    """The larger one; NaN on either side wins."""
    return np.maximum(_f64(input), _f64(other))


def minimum(input: ArrayLike, other: ArrayLike) -> F64:
    """The smaller one; NaN on either side wins."""
    return np.minimum(_f64(input), _f64(other))


def permute(input: ArrayLike, dims: Sequence[int]) -> F64:
    """Axis i of the result is axis dims[i]."""
    return _f64(input).transpose(dims)


def slice(input: ArrayLike, dim: int, start: int, end: int, step: int) -> F64:
    """Indices start, start + step ... before end of one axis."""
    return _f64(input).take(range(start, end, step), axis=dim)


def constant(input: ArrayLike, value: ArrayLike) -> F64:
    """The same for every image of the input."""
    value = _f64(value)
    return np.broadcast_to(value, (len(_f64(input)), *value.shape)).copy()


def layer_norm(
    input: ArrayLike,
    normalized_shape: Sequence[int],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> F64:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last axes."""
    x = _f64(input)
    axes = tuple(range(-len(normalized_shape), 0))
    y: F64 = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    y = y if weight is None else y * _f64(weight)
    return y if bias is None else y + _f64(bias)


def rms_norm(
    input: ArrayLike, normalized_shape: Sequence[int], weight: ArrayLike | None = None, eps: float = 1e-5
) -> F64:
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last axes."""
    x = _f64(input)
    y: F64 = x / np.sqrt((x**2).mean(tuple(range(-len(normalized_shape), 0)), keepdims=True) + eps)
    return y if weight is None else y * _f64(weight)


def group_norm(
    input: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> F64:
    """`layer_norm` of the channels of each group with all their pixels; a weight for each channel."""
    x = _f64(input)
    rows = x.reshape(x.shape[0], num_groups, -1)
    y = layer_norm(rows, rows.shape[2:], eps=eps).reshape(x.shape)
    columns = (-1, *(1 for _ in x.shape[2:]))
    y = y if weight is None else y * _f64(weight).reshape(columns)
    return y if bias is None else y + _f64(bias).reshape(columns)


def matmul(input: ArrayLike, other: ArrayLike) -> F64:
    """Matrix products of the last two axes."""
    return _f64(input) @ _f64(other)


def interpolate(
    input: ArrayLike,
    size: Size | None = None,
    scale_factor: Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> F64:
    """Resample the last two axes, one after the other, position by position."""
    y = _f64(input)
    for axis in (-2, -1):
        n = y.shape[axis]
        scale = None if scale_factor is None else scale_factor[axis]
        out = int(n * scale) if size is None and scale is not None else (size or (0, 0))[axis]
        if axis == -2 and mode == "linear":
            continue
        y = np.stack([_resampled(y, axis, n, out, i, scale, mode, align_corners) for i in range(out)], axis)
    return y


def _resampled(x: F64, axis: int, n: int, out: int, i: int, scale: float | None, mode: str, align_corners: bool) -> F64:
    """One position of one axis: a weighted sum of the positions around it."""
    ratio = n / out if scale is None else 1 / scale
    if mode == "nearest" and out in (n, 2 * n):
        return x.take(i * n // out, axis)
    if mode.startswith("nearest"):
        middle = np.float32(i + 0.5) if mode == "nearest-exact" else np.float32(i)
        return x.take(min(int(middle * np.float32(ratio)), n - 1), axis)
    at = (i * (n - 1) / (out - 1) if out > 1 else 0.0) if align_corners else (i + 0.5) * ratio - 0.5
    if mode.endswith("linear"):
        at = max(at, 0.0)
    near = math.floor(at)
    total: F64 = np.zeros_like(x.take(0, axis))
    for k in range(near - 1, near + 3):
        distance = math.fabs(at - k)
        total = total + _weight(distance, mode) * x.take(min(max(k, 0), n - 1), axis)
    return total


def _weight(d: float, mode: str) -> float:
    if mode.endswith("linear"):
        return max(0.0, 1 - d)
    if d <= 1:
        return 1.25 * d**3 - 2.25 * d**2 + 1
    return -0.75 * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def grid_sample(
    input: ArrayLike,
    grid: ArrayLike,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
) -> F64:
    """Images at places (x, y) of -1..1, place by place; a grid without a batch is that of all images."""
    x, places = _f64(input), _f64(grid)
    places = np.broadcast_to(places, (len(x), *places.shape[-3:]))
    y = np.zeros((*x.shape[:2], *places.shape[1:3]))
    for image, row, column in np.ndindex(places.shape[:3]):
        across, down = places[image, row, column]
        columns = _grid_pixels(float(across), x.shape[3], mode, padding_mode, align_corners)
        rows = _grid_pixels(float(down), x.shape[2], mode, padding_mode, align_corners)
        if columns is None or rows is None:
            y[image, :, row, column] = np.nan
            continue
        for i, vertical in rows:
            for j, horizontal in columns:
                y[image, :, row, column] += vertical * horizontal * x[image, :, i, j]
    return y


def _grid_pixels(
    place: float, size: int, mode: str, padding: str, align_corners: bool
) -> list[tuple[int, float]] | None:
    """The pixels along one axis that a place is made of, with their weights; None where it is not a number."""

    def padded(at: float) -> float:
        if padding == "zeros":
            return at
        if padding == "reflection":
            low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
            at = math.fmod(abs(at - low), 2 * span) if span and math.isfinite(at) else math.nan
            at = min(at, 2 * span - at) + low
        return min(at, size - 1.0) if at > 0 else 0.0

    at = (place + 1) / 2 * (size - 1) if align_corners else ((place + 1) * size - 1) / 2
    if mode != "bicubic":
        at = padded(at)
    if mode == "nearest":
        taps = [(float(np.rint(at)), 1.0)]
    elif not math.isfinite(at):
        return None
    elif mode == "bilinear":
        near = math.floor(at)
        taps = [(near, near + 1 - at), (near + 1, at - near)]
    else:
        near = math.floor(at)
        taps = [(padded(near + k), _weight(abs(at - near - k), mode)) for k in range(-1, 3)]
    return [(int(at), weight) for at, weight in taps if 0 <= at < size]


def pixel_shuffle(input: ArrayLike, upscale_factor: Pair) -> F64:
    """(N, C * r * s, H, W) -> (N, C, H * r, W * s)."""
    x = _f64(input)
    r, s = _pair(upscale_factor)
    *lead, c, h, w = x.shape
    parts = x.reshape(*lead, c // (r * s), r, s, h, w)
    axes = [*range(len(lead) + 1), len(lead) + 3, len(lead) + 1, len(lead) + 4, len(lead) + 2]
    return parts.transpose(axes).reshape(*lead, c // (r * s), h * r, w * s)


def pixel_unshuffle(input: ArrayLike, downscale_factor: Pair) -> F64:
    """(N, C, H * r, W * s) -> (N, C * r * s, H, W)."""
    x = _f64(input)
    r, s = _pair(downscale_factor)
    *lead, c, h, w = x.shape
    parts = x.reshape(*lead, c, h // r, r, w // s, s)
    axes = [*range(len(lead) + 1), len(lead) + 2, len(lead) + 4, len(lead) + 1, len(lead) + 3]
    return parts.transpose(axes).reshape(*lead, c * r * s, h // r, w // s)


def channel_shuffle(input: ArrayLike, groups: int) -> F64:
    """Channels (groups, n) -> (n, groups)."""
    x = _f64(input)
    return x.reshape(len(x), groups, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape)
