"""Convolution, and transposed convolution, of images and of signals."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..machine.cpu import kernels
from .one_op import Array, Pair, Single, batched_images, compiled, one_node, one_op
from .signals import over_signals

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..graph import Graph
    from ..kernels._kernels import Program

__all__ = ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"]  # and `prepare_sides`, for `fastconv.grad`

Algorithm: TypeAlias = Literal["auto", "exact", "im2col", "packed", "direct", "winograd"]

_ALGORITHMS = ("auto", "exact", "im2col", "packed", "direct", "winograd")
_ATTRIBUTES = ("stride", "padding", "dilation", "groups")


def _checked(program: Program, values: tuple[Any, ...], threads: int) -> Callable[..., Any]:
    """Return what runs a program, and once more without Winograd the images of which that leaves something not finite.

    That finds all that Winograd's algorithm may get wrong. Its formula, Y = A^T [(G g G^T) * (B^T d B)] A, equals the
    convolution for all numbers, so each product d[k] g[j] that belongs to an output comes to it along some path of
    coefficients other than zero. On that path are additions and multiplications alone, and none of these makes a NaN
    or an infinity finite. So an output whose window or filter holds one is not finite; it may be NaN where an
    infinity is right. The same goes for sums that overflow on the way and would not have without the transforms.
    """
    if all(step["kernel"] != "conv_winograd" for step in program.steps):
        return program
    not_finite = kernels().not_finite

    def run(x: Array, *weights: Array) -> Array:
        y: Array = program(x, *weights)
        images = not_finite(y, threads)
        if images is not None:
            y[images] = _entry.run((x[images], *weights), (*values[:-1], "exact"))
        return y

    return run


_compiled = compiled("conv2d", _ATTRIBUTES, ("weight", "bias"), lambda values: str(values[-1]), _checked)


def _prepare(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> tuple[Callable[..., Any], int]:
    weight, padding, algorithm = arrays[1], values[1], values[-1]
    if isinstance(padding, (tuple, list)) and len(padding) == 4:  # the Graph's
        raise ArgumentError(
            f"conv2d: padding must be an int, a pair, 'same' or 'valid', got {tuple(padding)}; "
            "pad unequal sides with fastconv.functional.pad"
        )
    if algorithm not in _ALGORITHMS:
        raise ArgumentError(f"conv2d: algorithm must be one of {', '.join(_ALGORITHMS)}, got {algorithm!r}")
    if weight.ndim == 4 and not weight.shape[1]:
        # PyTorch gives a result without channels here, whatever the weight says.
        raise ShapeError(f"conv2d: weight {weight.shape} has no input channels")
    return _compiled(arrays, values, threads)


_entry = one_op("conv2d", _prepare, ("input", "weight", "bias"))


def conv2d(
    input: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    algorithm: Algorithm = "auto",
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
    algorithm : {'auto', 'exact', 'im2col', 'packed', 'direct', 'winograd'}
        Which kernel computes it, to test or time one: im2col + BLAS, im2col + the packed tile, direct, or Winograd's
        F(2x2, 3x3), after which an image whose result holds a NaN or an infinity is computed again by another
        kernel; by default what is estimated to be the fastest, and ``'exact'`` is the fastest without Winograd. One
        that cannot do this convolution raises `fastconv.UnsupportedOperatorError`.

    Returns
    -------
    (N, O, H', W') or (O, H', W')
    """
    arrays = (input, weight) if bias is None else (input, weight, bias)
    result: Array = _entry.run(arrays, (stride, padding, dilation, groups, algorithm))
    return result


_TRANSPOSED = ("stride", "padding", "output_padding", "groups", "dilation")
_compiled_transposed = compiled("conv_transpose2d", _TRANSPOSED, ("weight", "bias"))


def _prepare_transposed(
    arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int
) -> tuple[Callable[..., Any], int]:
    padding = values[1]
    if isinstance(padding, (tuple, list)) and len(padding) == 4:  # the Graph's
        raise ArgumentError(
            f"conv_transpose2d: padding must be an int or a pair, got {tuple(padding)}; cut off unequal sides"
        )
    return prepare_sides(arrays, values, threads)


def prepare_sides(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> tuple[Callable[..., Any], int]:
    """Prepare a transposed convolution, of which each side may be cut by another width, for `one_op`."""
    graph, batched = _transposed_graph(arrays, values)
    attrs, out, groups = graph.nodes[0].attrs, graph.shapes["conv_transpose2d"], values[3]
    inputs, per_group, kh, kw = arrays[1].shape
    if prod(arrays[0].shape[-2:]) >= _FEW_PIXELS * inputs // groups:
        return _compiled_transposed(arrays, values, threads)
    fold, padding = kernels().fold, attrs["padding"][::2]

    def run(x: Array, weight: Array, bias: Array | None = None) -> Array:
        images = x if batched else x[np.newaxis]
        blocks = images.shape[2:]
        columns = weight.reshape(groups, inputs // groups, -1).transpose(0, 2, 1)
        y = np.empty((len(images), *out), x.dtype)
        for image, result in zip(images, y, strict=True):
            pixels = image.reshape(groups, inputs // groups, -1)
            if pixels.shape[-1] == 1:  # as a vector, BLAS would sum it in parts, one for each of its threads
                pixels = np.concatenate((pixels, pixels), -1)
            products = np.ascontiguousarray((columns @ pixels)[..., : prod(blocks)])
            products = products.reshape(1, groups * per_group * kh * kw, -1)
            sums = fold(products, out[1:], (kh, kw), attrs["dilation"], padding, attrs["stride"], blocks, threads)
            result[...] = sums[0] if bias is None else sums[0] + bias[:, np.newaxis, np.newaxis]
        return y if batched else y[0]

    return run, 0


def _transposed_graph(arrays: tuple[Array, ...], values: tuple[Any, ...]) -> tuple[Graph, bool]:
    """Check a call."""
    x, batched = batched_images("conv_transpose2d", arrays[0])
    weights = dict(zip(("weight", "bias"), arrays[1:], strict=False))
    return one_node("conv_transpose2d", x, dict(zip(_TRANSPOSED, values, strict=True)), weights), batched


# Below so many pixels for each input channel, weights take longer to be brought into the kernels' order than BLAS and
# `fold` take for all. us at v3: 512->256, 4x4, 8x8 28900 and 4770; 256->128, 4x4, 16x16 6790 and 4530; 1024->512, 2x2,
# 14x14 23100 and 12400.
_FEW_PIXELS = 4

_entry_transposed = one_op("conv_transpose2d", _prepare_transposed, ("input", "weight", "bias"))


def conv_transpose2d(
    input: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Array:
    """Let every pixel leave a kernel in the result: the gradient of `conv2d`, as a layer that enlarges images.

    It is computed as convolutions with stride 1, one for each phase of the stride or several together, and no product
    with a zero between pixels (the sub-pixel view of Shi et al., "Is the deconvolution layer the same as a
    convolutional layer?", 2016).

    Parameters
    ----------
    input : (N, I, H, W) or (I, H, W)
    weight : (I, O / groups, kh, kw)
    bias : (O,), optional
    stride, dilation : int or (vertical, horizontal)
    padding : int or pair
        So many rows and columns are cut off the result at each side.
    output_padding : int or pair
        So many more are kept at the bottom and right; less than ``stride`` or ``dilation``.
    groups : int
        Channels are split into this many groups that do not see each other.

    Returns
    -------
    (N, O, H', W') or (O, H', W')
        ``H' = (H - 1) * stride - 2 * padding + dilation * (kh - 1) + output_padding + 1``

    Raises
    ------
    ShapeError
        The weight does not fit, or the padding leaves nothing.
    ArgumentError
        An attribute is not allowed, such as an ``output_padding`` that is too large.
    """
    arrays = (input, weight) if bias is None else (input, weight, bias)
    result: Array = _entry_transposed.run(arrays, (stride, padding, output_padding, groups, dilation))
    return result


_ARRAYS = ("input", "weight", "bias")
_entry1d = over_signals(
    "conv1d",
    "conv2d",
    compiled("conv2d", _ATTRIBUTES, ("weight", "bias")),
    {"stride": 1, "padding": 0, "dilation": 1, "groups": None},
    _ARRAYS,
)
_entry_transposed1d = over_signals(
    "conv_transpose1d",
    "conv_transpose2d",
    _prepare_transposed,
    {"stride": 1, "padding": 0, "output_padding": 0, "groups": None, "dilation": 1},
    _ARRAYS,
)


def conv1d(
    input: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Single = 1,
    padding: Single | Literal["same", "valid"] = 0,
    dilation: Single = 1,
    groups: int = 1,
) -> Array:
    """Convolve (cross-correlate) signals with a bank of kernels: `conv2d` of images of height 1.

    Parameters
    ----------
    input : (N, I, L) or (I, L)
    weight : (O, I / groups, k)
    bias : (O,), optional
    stride, dilation : int
    padding : int, ``'same'`` (needs stride 1; an odd one goes to the end) or ``'valid'``
    groups : int
        Channels are split into this many groups that do not see each other.

    Returns
    -------
    (N, O, L') or (O, L')
    """
    arrays = (input, weight) if bias is None else (input, weight, bias)
    result: Array = _entry1d.run(arrays, (stride, padding, dilation, groups))
    return result


def conv_transpose1d(
    input: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Single = 1,
    padding: Single = 0,
    output_padding: Single = 0,
    groups: int = 1,
    dilation: Single = 1,
) -> Array:
    """Let every element leave a kernel in the result: `conv_transpose2d` of images of height 1.

    Parameters
    ----------
    input : (N, I, L) or (I, L)
    weight : (I, O / groups, k)
    bias : (O,), optional
    stride, dilation : int
    padding : int
        So many elements are cut off the result at each end.
    output_padding : int
        So many more are kept at its end; less than ``stride`` or ``dilation``.
    groups : int
        Channels are split into this many groups that do not see each other.

    Returns
    -------
    (N, O, L') or (O, L')
        ``L' = (L - 1) * stride - 2 * padding + dilation * (k - 1) + output_padding + 1``
    """
    arrays = (input, weight) if bias is None else (input, weight, bias)
    result: Array = _entry_transposed1d.run(arrays, (stride, padding, output_padding, groups, dilation))
    return result
