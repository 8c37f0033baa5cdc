"""Running sums, and elements in order, along an axis, under the names that ``torch`` has for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..compile import compile_graph
from ..errors import ArgumentError
from ..graph import INPUT, Graph, Node
from ..graph import attributes as at
from .one_op import Array, one_node, one_op

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["cumsum", "topk"]


def _axis(op: str, x: Array, dim: Any) -> int:
    """Return an axis as a network of one image counts it: the array is one, so that no axis is the batch."""
    axis, rank = at.integer(f"{op}: dim", dim), max(x.ndim, 1)
    if not -rank <= axis < rank:
        raise ArgumentError(f"{op}: dim={axis} is not an axis of the input {x.shape}, {-rank}..{rank - 1}")
    return axis % rank + 1


def _cumsum(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> tuple[Callable[..., Any], int]:
    (x,) = arrays
    shape = (1, *(x.shape or (1,)))
    program = compile_graph(one_node("cumsum", x.reshape(shape), {"dim": _axis("cumsum", x, *values)}), threads=threads)
    out = x.shape
    return lambda x: program.run(x.reshape(shape)).reshape(out), program.workspace_bytes * program.threads


def _topk(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> tuple[Callable[..., Any], int]:
    (x,), (k, dim, largest) = arrays, values
    shape = x.shape or (1,)
    attrs = {"k": k, "dim": _axis("topk", x, dim), "largest": largest}
    names = ("topk", "topk indices")
    nodes = [Node(name, "topk", (INPUT,), {**attrs, "indices": bool(i)}) for i, name in enumerate(names)]
    graph = Graph(shape, nodes, names, dtype=x.dtype)
    program = compile_graph(graph, threads=threads)
    out = graph.shapes["topk"] if x.ndim else ()

    def run(x: Array) -> tuple[Array, Array]:
        found, places = program.run(x.reshape(1, *shape))
        return found.reshape(out), places.reshape(out).astype(np.int64)

    return run, program.workspace_bytes * program.threads


_run_cumsum = one_op("cumsum", _cumsum, images=False).run
_run_topk = one_op("topk", _topk, images=False).run


def cumsum(input: npt.ArrayLike, dim: int) -> Array:
    """Return the sums of all elements up to each, along an axis; they are added in double.

    Parameters
    ----------
    input : any shape
    dim : int

    Returns
    -------
    The input's shape and dtype.
    """
    result: Array = _run_cumsum((input,), (dim,))
    return result


def topk(input: npt.ArrayLike, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Array, Array]:
    """Return the k largest elements along an axis, in order, and where they stand.

    Parameters
    ----------
    input : any shape, of at most 2^24 elements along the axis
    k : int
    dim : int
    largest : bool
        Else the smallest, from there on. NaN is larger than all others.
    sorted : bool
        They are in order whatever it says.

    Returns
    -------
    values : of the input's dtype, with k elements along the axis
    indices : int64, of the same shape
        Of equal elements the first ones.
    """
    result: tuple[Array, Array] = _run_topk((input,), (k, dim, largest))
    return result
