"""The oracle of reductions: a part of ``reference.py``, which has their names too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]


def _f64(values: ArrayLike) -> F64:
    return np.array(values, dtype=np.float64)


def _axes(x: F64, dim: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(dim) if isinstance(dim, Sequence) else (dim,)


def mean(input: ArrayLike, dim: int | Sequence[int], keepdim: bool = False) -> F64:
    """The sum over some axes, divided by how many elements it is of."""
    x = _f64(input)
    count = math.prod(x.shape[axis] for axis in _axes(x, dim))
    with np.errstate(all="ignore"):
        result: F64 = np.divide(sum(x, dim, keepdim), count)
    return result


def sum(input: ArrayLike, dim: int | Sequence[int], keepdim: bool = False) -> F64:
    """The sum over some axes."""
    x = _f64(input)
    return np.asarray(np.sum(x, axis=_axes(x, dim), keepdims=keepdim))


def prod(input: ArrayLike, dim: int | Sequence[int], keepdim: bool = False) -> F64:
    """The product over some axes."""
    x = _f64(input)
    return np.asarray(np.prod(x, axis=_axes(x, dim), keepdims=keepdim))


def amax(input: ArrayLike, dim: int | Sequence[int], keepdim: bool = False) -> F64:
    """The largest element along some axes; NaN wins."""
    x = _f64(input)
    return np.asarray(np.max(x, axis=_axes(x, dim), keepdims=keepdim))


def amin(input: ArrayLike, dim: int | Sequence[int], keepdim: bool = False) -> F64:
    """The smallest element along some axes; NaN wins."""
    x = _f64(input)
    return np.asarray(np.min(x, axis=_axes(x, dim), keepdims=keepdim))


def argmax(input: ArrayLike, dim: int, keepdim: bool = False) -> F64:
    """The index of the first largest element along an axis; the first NaN wins."""
    return np.asarray(np.argmax(_f64(input), axis=dim, keepdims=keepdim), np.float64)


def argmin(input: ArrayLike, dim: int, keepdim: bool = False) -> F64:
    """The index of the first smallest element along an axis; the first NaN wins."""
    return np.asarray(np.argmin(_f64(input), axis=dim, keepdims=keepdim), np.float64)


def logsumexp(input: ArrayLike, dim: int | Sequence[int], keepdim: bool = False) -> F64:
    """The logarithm of the sum of exponentials over some axes."""
    x = _f64(input)
    top = np.max(x, axis=_axes(x, dim), keepdims=True, initial=-np.inf)
    top = np.where(np.isinf(top), 0, top)
    with np.errstate(all="ignore"):
        total = np.log(np.sum(np.exp(x - top), axis=_axes(x, dim), keepdims=True)) + top
    return total if keepdim else total.squeeze(_axes(x, dim))


def vector_norm(input: ArrayLike, dim: int | Sequence[int], keepdim: bool = False, ord: float = 2.0) -> F64:
    """The sum of magnitudes, the root of the sum of squares, or the largest magnitude."""
    x = np.abs(_f64(input))
    if ord == math.inf:
        return amax(x, dim, keepdim)
    return sum(x, dim, keepdim) if ord == 1 else np.sqrt(sum(x * x, dim, keepdim))


def var(input: ArrayLike, dim: int | Sequence[int], keepdim: bool = False, correction: float = 1.0) -> F64:
    """The mean of squared distances from the mean, of `correction` elements fewer."""
    x = _f64(input)
    count = math.prod(x.shape[axis] for axis in _axes(x, dim))
    with np.errstate(all="ignore"):
        squares = sum((x - mean(x, dim, True)) ** 2, dim, keepdim)
        result: F64 = np.divide(squares, max(0.0, count - correction))
    return result


def std(input: ArrayLike, dim: int | Sequence[int], keepdim: bool = False, correction: float = 1.0) -> F64:
    """The square root of `var`."""
    return np.sqrt(var(input, dim, keepdim, correction))


def cumsum(input: ArrayLike, dim: int) -> F64:
    """Sums of all elements up to each index of an axis."""
    return np.cumsum(_f64(input), axis=dim)


def topk(input: ArrayLike, k: int, dim: int = -1, largest: bool = True, indices: bool = False) -> F64:
    """The k largest or smallest along an axis, in order, or their indices; of equal ones the first. NaN is largest."""
    x = _f64(input)
    key = np.where(np.isnan(x), np.inf, x)
    ascending = (np.isnan(x), key) if not largest else (~np.isnan(x), -key)
    order = np.lexsort(ascending[::-1], axis=dim).take(range(k), dim)
    return np.asarray(order, np.float64) if indices else np.take_along_axis(x, order, dim)


def flip(input: ArrayLike, dims: Sequence[int]) -> F64:
    return np.flip(_f64(input), dims)


def expand(input: ArrayLike, shape: Sequence[int]) -> F64:
    """Axes of one index become others; -1 stays."""
    x = _f64(input)
    sizes = [old if new == -1 else new for old, new in zip(x.shape[1:], shape, strict=True)]
    return np.broadcast_to(x, (len(x), *sizes)).copy()


def index_select(input: ArrayLike, dim: int, index: Sequence[int]) -> F64:
    return _f64(input).take(index, dim)
