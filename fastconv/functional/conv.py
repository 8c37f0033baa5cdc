"""Convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import ArgumentError, ShapeError
from ..machine.cpu import kernels
from .one_op import Array, Pair, compiled, one_op

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..kernels._kernels import Program

__all__ = ["conv2d"]

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
    if isinstance(padding, (tuple, list)) and len(padding) == 4:
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
