"""Convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import ArgumentError, ShapeError
from .one_op import Array, Pair, compiled, one_op

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["conv2d"]

Algorithm: TypeAlias = Literal["exact", "im2col", "packed", "direct"]

_ALGORITHMS = ("exact", "im2col", "packed", "direct")


_ATTRIBUTES = ("stride", "padding", "dilation", "groups")
_compiled = compiled("conv2d", _ATTRIBUTES, ("weight", "bias"), lambda values: str(values[-1]))


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
        direct; by default what is estimated to be the fastest of those that keep a NaN or an infinity to the outputs
        whose window it stands in. One that cannot do this convolution raises
        `fastconv.UnsupportedOperatorError`.

    Returns
    -------
    (N, O, H', W') or (O, H', W')
    """
    arrays = (input, weight) if bias is None else (input, weight, bias)
    result: Array = _entry.run(arrays, (stride, padding, dilation, groups, algorithm))
    return result
