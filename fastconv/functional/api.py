"""torch.nn.functional on NumPy arrays: the same names, argument order, defaults and results.

Arrays are laid out as in PyTorch: images are (N, C, H, W), or (C, H, W) unbatched. They are float32
or float64, computed in that precision, and of any strides; all arguments of one call share the
dtype. Inputs are never modified and every result is a new array. Calls use fastconv's default
number of threads and release the GIL.

Every function raises `fastconv.ShapeError` for shapes that do not fit,
`fastconv.errors.ArgumentError` for values that are not allowed and `fastconv.errors.DTypeError` for
other element types, each naming the function, the argument and the remedy. What PyTorch 2.13
refuses is refused.

A call checks its arguments, compiles a network of one node and runs it. To run several layers, or
one layer many times, build a model (`fastconv.load`, `fastconv.from_torch`): it is compiled once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import INPUT, Graph, Node
from ..graph.checks import check_size
from ..graph.geometry import count_blocks, padded, pair, window
from ..machine.cpu import default_threads, kernels
from .one_op import Array, batched_images, elementwise, floats, on_images, one_node, over_axis, run

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "fold",
    "hardtanh",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "pad",
    "relu",
    "relu6",
    "sigmoid",
    "softmax",
    "tanh",
    "unfold",
]

Pair: TypeAlias = int | Sequence[int]
Algorithm: TypeAlias = Literal["exact", "im2col", "packed", "direct"]

_ALGORITHMS = ("exact", "im2col", "packed", "direct")


# --- layers with weights --------------------------------------------------------------------------


def conv2d(
    input: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    algorithm: Algorithm = "exact",
) -> Array:
    """Convolve (cross-correlate) images with a bank of kernels.

    Parameters
    ----------
    input : (N, I, H, W) or (I, H, W)
    weight : (O, I / groups, kh, kw)
    bias : (O,), optional
    stride, dilation : int or (vertical, horizontal)
    padding : int, pair, ``'same'`` (needs stride 1; an odd one goes to the bottom and right) or
        ``'valid'``
    groups : int
        Channels are split into this many groups that do not see each other.
    algorithm : {'exact', 'im2col', 'packed', 'direct'}
        Which kernel computes it, to test or time one: im2col + BLAS, im2col + the packed tile,
        direct; by default what was measured to be fastest. One that cannot do this convolution
        raises `fastconv.UnsupportedOperatorError`.

    Returns
    -------
    (N, O, H', W') or (O, H', W')
    """
    arrays = floats("conv2d", input=input, weight=weight, bias=bias)
    if isinstance(padding, (tuple, list)) and len(padding) == 4:
        raise ArgumentError(
            f"conv2d: padding must be an int, a pair, 'same' or 'valid', got {tuple(padding)}; "
            "pad unequal sides with fastconv.functional.pad"
        )
    if algorithm not in _ALGORITHMS:
        raise ArgumentError(f"conv2d: algorithm must be one of {', '.join(_ALGORITHMS)}, got {algorithm!r}")
    if arrays["weight"].ndim == 4 and not arrays["weight"].shape[1]:
        # PyTorch gives a result without channels here, whatever the weight says.
        raise ShapeError(f"conv2d: weight {arrays['weight'].shape} has no input channels")
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return on_images("conv2d", arrays, attrs, algorithm)


def linear(input: npt.ArrayLike, weight: npt.ArrayLike, bias: npt.ArrayLike | None = None) -> Array:
    """Apply ``input @ weight.T + bias`` to the last axis.

    Parameters
    ----------
    input : (..., I)
    weight : (O, I) or (I,)
    bias : (O,) or (), optional

    Returns
    -------
    (..., O), or (...) where ``weight`` is (I,)
    """
    arrays = floats("linear", input=input, weight=weight, bias=bias)
    x, w = arrays.pop("input"), arrays["weight"]
    if x.ndim == 0:
        raise ShapeError("linear: input needs at least one axis, (..., in_features), got a scalar")
    if w.ndim == 1:
        arrays["weight"] = w[np.newaxis]
        if "bias" in arrays:
            if arrays["bias"].ndim:
                raise ShapeError(
                    f"linear: bias must be a scalar, as weight is {w.shape}, got shape {arrays['bias'].shape}"
                )
            arrays["bias"] = arrays["bias"].reshape(1)
    # The rows may be none, so their count is not left to reshape's -1.
    rows = x.reshape(prod(x.shape[:-1]), x.shape[-1])
    y = run(one_node("linear", rows, {}, arrays), rows)
    return y.reshape(x.shape[:-1] if w.ndim == 1 else (*x.shape[:-1], w.shape[0]))


def batch_norm(
    input: npt.ArrayLike,
    running_mean: npt.ArrayLike,
    running_var: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Normalise each channel: ``(input - running_mean) / sqrt(running_var + eps) * weight + bias``.

    Parameters
    ----------
    input : (N, C, ...)
    running_mean, running_var : (C,)
    weight, bias : (C,), optional
    training : bool
        Must be False: the statistics are those given, and stay as they are.
    momentum : float
        Unused, as in PyTorch where ``training`` is False.
    eps : float

    Returns
    -------
    The input's shape.
    """
    if training:
        raise ArgumentError(
            "batch_norm: training=True is not supported, fastconv runs trained networks; pass "
            "training=False and the running statistics"
        )
    if running_mean is None or running_var is None:
        raise ArgumentError("batch_norm: running_mean and running_var must be given")
    arrays = floats(
        "batch_norm",
        input=input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias,
    )  # fmt: skip
    x = arrays.pop("input")
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: input must be (N, C, ...), got shape {x.shape}")
    flat = x.reshape(*x.shape[:2], prod(x.shape[2:]), 1) if x.ndim > 2 else x
    y: Array = run(one_node("batch_norm", flat, {"eps": eps}, arrays), flat).reshape(x.shape)
    return y


# --- pooling --------------------------------------------------------------------------------------


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
        Return also where each maximum was found, as int64 ``row * W + column`` in its channel.

    Returns
    -------
    (N, C, H', W') or (C, H', W'), or a tuple of two such arrays
    """
    arrays = floats("max_pool2d", input=input)
    attrs = {
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": ceil_mode,
    }
    if not return_indices:
        return on_images("max_pool2d", arrays, attrs)
    x, batched = batched_images("max_pool2d", arrays["input"])
    graph = one_node("max_pool2d", x, attrs)
    settled, out = graph.nodes[0].attrs, graph.shapes["max_pool2d"]
    found = kernels().max_pool2d_indices(
        x, settled["kernel_size"], settled["stride"], settled["padding"], settled["dilation"],
        out[1:], default_threads(),
    )  # fmt: skip
    return found if batched else (found[0][0], found[1][0])


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
    attrs = {
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
        "divisor_override": divisor_override,
    }
    return on_images("avg_pool2d", floats("avg_pool2d", input=input), attrs)


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
    arrays = floats("adaptive_avg_pool2d", input=input)
    return on_images("adaptive_avg_pool2d", arrays, {"output_size": output_size})


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
    arrays = floats("adaptive_max_pool2d", input=input)
    attrs = {"output_size": output_size}
    if not return_indices:
        return on_images("adaptive_max_pool2d", arrays, attrs)
    x, batched = batched_images("adaptive_max_pool2d", arrays["input"])
    out = one_node("adaptive_max_pool2d", x, attrs).shapes["adaptive_max_pool2d"]
    found = kernels().adaptive_max_pool2d_indices(x, out[1:], default_threads())
    return found if batched else (found[0][0], found[1][0])


# --- sliding blocks -------------------------------------------------------------------------------


def unfold(
    input: npt.ArrayLike,
    kernel_size: Pair,
    dilation: Pair = 1,
    padding: Pair = 0,
    stride: Pair = 1,
) -> Array:
    """Copy each sliding block into a column (im2col).

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    kernel_size, dilation, padding, stride : int or (vertical, horizontal)

    Returns
    -------
    (N, C * kh * kw, L) or (C * kh * kw, L), L the number of blocks, row by row
    """
    x, batched = batched_images("unfold", floats("unfold", input=input)["input"])
    frame = window("unfold", kernel_size, dilation, padding, stride)
    if not all(x.shape[1:]):
        raise ShapeError(f"unfold: input has an empty axis, {x.shape}; only the batch may be empty")
    blocks = count_blocks("unfold", "input", x.shape[2:], *frame)
    _check_output("unfold", (len(x), x.shape[1] * prod(frame[0]), prod(blocks)))
    columns: Array = kernels().unfold(x, *frame, blocks, default_threads())
    return columns if batched else columns[0]


def fold(
    input: npt.ArrayLike,
    output_size: Pair,
    kernel_size: Pair,
    dilation: Pair = 1,
    padding: Pair = 0,
    stride: Pair = 1,
) -> Array:
    """Add each column to the sliding block it stands for (col2im), the adjoint of `unfold`.

    Parameters
    ----------
    input : (N, C * kh * kw, L) or (C * kh * kw, L)
    output_size : int or (H, W)
    kernel_size, dilation, padding, stride : int or (vertical, horizontal)

    Returns
    -------
    (N, C, H, W) or (C, H, W)
    """
    x = floats("fold", input=input)["input"]
    if x.ndim not in (2, 3):
        raise ShapeError(f"fold: input must be (N, C * kh * kw, L) or (C * kh * kw, L), got shape {x.shape}")
    batched = x.ndim == 3
    x = x if batched else x[np.newaxis]
    size = pair("fold", "output_size", output_size, 1)
    frame = window("fold", kernel_size, dilation, padding, stride)
    _, rows, columns = x.shape
    kh, kw = frame[0]
    if not rows or not columns:
        raise ShapeError(f"fold: input has an empty axis, {x.shape}; only the batch may be empty")
    if rows % (kh * kw):
        raise ShapeError(f"fold: input has {rows} rows, not a multiple of the kernel's {kh}x{kw} = {kh * kw}")
    high, wide = count_blocks("fold", "output_size", size, *frame)
    if columns != high * wide:
        raise ShapeError(
            f"fold: input has {columns} columns; output_size {size} with this kernel, dilation, "
            f"padding and stride has {high}x{wide} = {high * wide} blocks"
        )
    _check_output("fold", (len(x), rows // (kh * kw), *size))
    images: Array = kernels().fold(x, size, *frame, (high, wide), default_threads())
    return images if batched else images[0]


def _check_output(function: str, shape: tuple[int, ...]) -> None:
    """Refuse an output larger than any memory, before sizes overflow."""
    try:
        check_size(shape)
    except ShapeError as error:
        raise ShapeError(f"{function}: {error}") from None


# --- elementwise ----------------------------------------------------------------------------------


def relu(input: npt.ArrayLike) -> Array:
    """Return ``max(input, 0)``, of any shape; NaN stays NaN."""
    return elementwise("relu", input)


def leaky_relu(input: npt.ArrayLike, negative_slope: float = 0.01) -> Array:
    """Return ``input``, of any shape, times ``negative_slope`` where it is negative."""
    return elementwise("leaky_relu", input, negative_slope=negative_slope)


def hardtanh(input: npt.ArrayLike, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """Clip ``input``, of any shape, to ``min_val .. max_val``."""
    return elementwise("hardtanh", input, min_val=min_val, max_val=max_val)


def relu6(input: npt.ArrayLike) -> Array:
    """Clip ``input``, of any shape, to 0 .. 6."""
    return hardtanh(input, 0.0, 6.0)


def sigmoid(input: npt.ArrayLike) -> Array:
    """Return ``1 / (1 + exp(-input))``, of any shape."""
    return elementwise("sigmoid", input)


def tanh(input: npt.ArrayLike) -> Array:
    """Return the hyperbolic tangent of ``input``, of any shape."""
    return elementwise("tanh", input)


def softmax(input: npt.ArrayLike, dim: int, *, dtype: npt.DTypeLike | None = None) -> Array:
    """Exponentiate and scale so that the sum over the axis ``dim`` is 1.

    Parameters
    ----------
    input : any shape
    dim : int
        Must be given: PyTorch's choice of an axis for its caller is deprecated there.
    dtype : float32 or float64, optional
        Convert the input, which may then hold integers, before computing.

    Returns
    -------
    The input's shape.
    """
    return over_axis("softmax", input, dim, dtype)


def log_softmax(input: npt.ArrayLike, dim: int, *, dtype: npt.DTypeLike | None = None) -> Array:
    """Return the logarithm of `softmax`, computed without its rounding to 0; same parameters."""
    return over_axis("log_softmax", input, dim, dtype)


# --- padding --------------------------------------------------------------------------------------


def pad(
    input: npt.ArrayLike,
    pad: Sequence[int],
    mode: Literal["constant", "reflect", "replicate", "circular"] = "constant",
    value: float | None = None,
) -> Array:
    """Pad the last axes; negative widths crop.

    Parameters
    ----------
    input : any shape
    pad : (before, after) of the last axis, then of the one before it, and so on, in one flat list
    mode : {'constant', 'reflect', 'replicate', 'circular'}
        All but ``'constant'`` pad the last 1, 2 or 3 axes of an array with one or two axes more.
    value : float, optional
        What ``'constant'`` fills with, by default 0.

    Returns
    -------
    The input's shape, each padded axis longer by before + after.
    """
    x = floats("pad", input=input)["input"]
    # Graph checks shapes without batch. To 'constant' all axes are alike; the other modes have a
    # batch, which may be empty, where there are two axes more than are padded.
    whole = mode == "constant" or (isinstance(pad, (tuple, list)) and x.ndim == len(pad) // 2 + 1)
    node = Node("pad", "pad", (INPUT,), {"padding": pad, "mode": mode, "value": value})
    shape = x.shape if whole else x.shape[1:]
    settled = Graph(shape, (node,), ("pad",), dtype=x.dtype).nodes[0].attrs
    return padded(x, settled["padding"], settled["mode"], settled["value"])
