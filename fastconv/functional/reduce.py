"""Reductions: sums, means, extremes and norms over any axes, under the names that ``torch`` has for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..compile import compile_graph
from ..errors import ArgumentError
from ..graph import attributes as at
from .one_op import Array, one_node, one_op

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from .one_op import Prepare

    Dims = int | Sequence[int] | None

__all__ = ["amax", "amin", "argmax", "argmin", "logsumexp", "mean", "prod", "std", "sum", "var", "vector_norm"]


def _axes(op: str, x: Array, dim: Any) -> tuple[int, ...]:
    """Return axes as a network of one image counts them; None and () are all of them."""
    items = dim if isinstance(dim, (tuple, list)) else () if dim is None else (dim,)
    rank = max(x.ndim, 1)
    found = [at.integer(f"{op}: dim", item) for item in items] or list(range(rank))
    for axis in found:
        if not -rank <= axis < rank:
            raise ArgumentError(f"{op}: dim={axis} is not an axis of the input {x.shape}, {-rank}..{rank - 1}")
    return tuple(axis % rank + 1 for axis in found)


def _prepare(op: str, *names: str) -> Prepare:
    """Make what prepares the Program: the array is one image, so that no axis is the batch."""

    def prepare(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> tuple[Callable[..., Any], int]:
        (x,) = arrays
        attrs = dict(zip(names, values, strict=True))
        keepdim = at.boolean(f"{op}: keepdim", attrs["keepdim"])
        index = op.startswith("arg")
        shape, dim = x.shape or (1,), _axes(op, x, attrs["dim"])
        if index and attrs["dim"] is None:  # into the flattened array
            shape, dim = (x.size,), (1,)
        graph = one_node(op, x.reshape(1, *shape), {**attrs, "dim": dim[0] if index else dim, "keepdim": False})
        program = compile_graph(graph, threads=threads)
        gone = range(1, x.ndim + 1) if index and attrs["dim"] is None else dim
        out = tuple(1 if axis in gone else size for axis, size in enumerate(x.shape, 1) if keepdim or axis not in gone)

        def run(x: Array) -> Array:
            y: Array = program.run(x.reshape(1, *shape)).reshape(out)
            return y.astype(np.int64) if index else y

        return run, program.workspace_bytes * program.threads

    return prepare


def _entry(op: str, *names: str) -> Callable[..., Array]:
    run: Callable[..., Array] = one_op(op, _prepare(op, *names), images=False).run
    return run


_mean, _sum, _prod = (_entry(op, "dim", "keepdim") for op in ("mean", "sum", "prod"))
_amax, _amin = (_entry(op, "dim", "keepdim") for op in ("amax", "amin"))
_argmax, _argmin = (_entry(op, "dim", "keepdim") for op in ("argmax", "argmin"))
_logsumexp = _entry("logsumexp", "dim", "keepdim")
_var, _std = (_entry(op, "dim", "correction", "keepdim") for op in ("var", "std"))
_vector_norm = _entry("vector_norm", "ord", "dim", "keepdim")


def mean(input: npt.ArrayLike, dim: Dims = None, keepdim: bool = False) -> Array:
    """Return the mean over the axes ``dim``, by default all, of any shape.

    Sums, here and in the functions below, are cascades: 32 elements into a total, 32 totals into the next, whatever
    the number of threads.

    Parameters
    ----------
    input : any shape
    dim : int or sequence of int, optional
        None and an empty sequence are all axes.
    keepdim : bool
        Keep the axes, with one index each.

    Returns
    -------
    The input's shape without the axes, or with ones in their place.
    """
    return _mean((input,), (dim, keepdim))


def sum(input: npt.ArrayLike, dim: Dims = None, keepdim: bool = False) -> Array:
    """Return the sum over the axes ``dim``, by default all; as `mean`."""
    return _sum((input,), (dim, keepdim))


def prod(input: npt.ArrayLike, dim: int | None = None, keepdim: bool = False) -> Array:
    """Return the product over the axis ``dim``, by default over all; as `mean`."""
    return _prod((input,), (dim, keepdim))


def amax(input: npt.ArrayLike, dim: Dims = (), keepdim: bool = False) -> Array:
    """Return the largest elements along the axes ``dim``, by default all; NaN wins. As `mean`."""
    return _amax((input,), (dim, keepdim))


def amin(input: npt.ArrayLike, dim: Dims = (), keepdim: bool = False) -> Array:
    """Return the smallest elements along the axes ``dim``, by default all; NaN wins. As `mean`."""
    return _amin((input,), (dim, keepdim))


def argmax(input: npt.ArrayLike, dim: int | None = None, keepdim: bool = False) -> Array:
    """Return where the largest element along an axis stands.

    Of equal ones it is the first; NaN is larger than all others.

    Parameters
    ----------
    input : any shape, with at most 2**24 elements along the axis
    dim : int, optional
        None is the flattened array.
    keepdim : bool
        Keep the axis, with one index.

    Returns
    -------
    int64, the input's shape without the axis
    """
    return _argmax((input,), (dim, keepdim))


def argmin(input: npt.ArrayLike, dim: int | None = None, keepdim: bool = False) -> Array:
    """Return where the smallest element along an axis stands; NaN is smaller than all others. As `argmax`."""
    return _argmin((input,), (dim, keepdim))


def logsumexp(input: npt.ArrayLike, dim: Dims, keepdim: bool = False) -> Array:
    """Return ``log(sum(exp(input)))`` over the axes ``dim``, without overflow; as `mean`."""
    return _logsumexp((input,), (dim, keepdim))


def var(input: npt.ArrayLike, dim: Dims = None, *, correction: float = 1, keepdim: bool = False) -> Array:
    """Return the variance over the axes ``dim``, by default all; as `mean`.

    It is the sum of squared distances from the mean, divided by the number of elements less ``correction``.
    """
    return _var((input,), (dim, correction, keepdim))


def std(input: npt.ArrayLike, dim: Dims = None, *, correction: float = 1, keepdim: bool = False) -> Array:
    """Return the square root of `var`."""
    return _std((input,), (dim, correction, keepdim))


def vector_norm(x: npt.ArrayLike, ord: float = 2, dim: Dims = None, keepdim: bool = False) -> Array:
    """Return the sum of magnitudes, their root of the sum of squares, or their maximum over ``dim``; as `mean`.

    ``torch.linalg`` has it. ``ord`` is 1, 2 or infinity.
    """
    return _vector_norm((x,), (ord, dim, keepdim))
