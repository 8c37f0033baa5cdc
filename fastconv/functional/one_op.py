"""One operator on NumPy arrays: check the arrays, compile a network of one node, run it.

What `functional` does for every function. Arrays are PyTorch's: images (N, C, H, W) or (C, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..compile import compile_graph
from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import INPUT, Graph, Node
from ..graph import attributes as at

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "Array",
    "batched_images",
    "elementwise",
    "floats",
    "on_images",
    "one_node",
    "over_axis",
    "run",
]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def floats(function: str, **arguments: npt.ArrayLike | None) -> dict[str, Array]:
    """Return the arguments that were given as arrays of one dtype, float32 or float64.

    They are C-contiguous, aligned and in the machine's byte order: copied only where they were not.
    ``input`` comes first and must be given; the others may be None.
    """
    result: dict[str, Array] = {}
    for name, value in arguments.items():
        if value is None and name != "input":
            continue
        array = np.asarray(value)
        if array.dtype.type not in (np.float32, np.float64):
            raise DTypeError(
                f"{function}: {name} is {array.dtype}, float32 and float64 are computed; convert "
                f"it with {name}.astype(np.float32)"
            )
        first = next(iter(result.values()), array).dtype
        if array.dtype.type is not first.type:
            raise DTypeError(
                f"{function}: {name} is {array.dtype.name}, input is {first.name}; convert one of "
                f"them, e.g. {name}.astype(np.{first.name})"
            )
        result[name] = np.require(array, array.dtype.type, ["C", "A", "E"])
    return result


def batched_images(function: str, x: Array) -> tuple[Array, bool]:
    """Return images as (N, C, H, W), and whether they were."""
    if x.ndim not in (3, 4):
        raise ShapeError(f"{function}: input must be (N, C, H, W) or (C, H, W), got shape {x.shape}")
    return (x, True) if x.ndim == 4 else (x[np.newaxis], False)


def one_node(op: str, x: Array, attrs: Mapping[str, Any], weights: Mapping[str, Array] | None = None) -> Graph:
    """Build the network of one node, named like its op, that takes the batch `x`."""
    node = Node(op, op, (INPUT,), attrs, weights or {})
    return Graph(x.shape[1:], (node,), (op,), dtype=x.dtype)


def run(graph: Graph, x: Array, algorithm: str = "exact") -> Array:
    """Compile a network of one output and run it on the batch `x`."""
    result: Array = compile_graph(graph, algorithm=algorithm)(x)
    return result


def on_images(op: str, arrays: dict[str, Array], attrs: Mapping[str, Any], algorithm: str = "exact") -> Array:
    """Run an op of images: `arrays` holds the input, batched or not, and the weights."""
    x, batched = batched_images(op, arrays.pop("input"))
    y = run(one_node(op, x, attrs, arrays), x, algorithm)
    result: Array = y if batched else y[0]
    return result


def elementwise(op: str, input: npt.ArrayLike, **attrs: Any) -> Array:
    """Run an op that treats every element alike, on an array of any shape."""
    x = floats(op, input=input)["input"]
    row = x.reshape(1, x.size)
    y: Array = run(one_node(op, row, attrs), row).reshape(x.shape)
    return y


def over_axis(op: str, input: npt.ArrayLike, dim: int, dtype: npt.DTypeLike | None) -> Array:
    """Run an op that takes a ``dim``, on an array of any shape, converted to `dtype` if given."""
    x = floats(op, input=input if dtype is None else np.asarray(input, dtype))["input"]
    rank = max(x.ndim, 1)  # a scalar counts as an array of one, as in PyTorch
    axis = at.integer(f"{op}: dim", dim)
    if not -rank <= axis < rank:
        raise ArgumentError(f"{op}: dim must be {-rank}..{rank - 1} for shape {x.shape}, got {dim}")
    last: Array = np.moveaxis(x.reshape(x.shape or (1,)), axis, -1)
    # The rows may be none, so their count is not left to reshape's -1.
    rows = np.ascontiguousarray(last).reshape(prod(last.shape[:-1]), last.shape[-1])
    y = run(one_node(op, rows, {"dim": 1}), rows).reshape(last.shape)
    result: Array = np.ascontiguousarray(np.moveaxis(y, -1, axis)).reshape(x.shape)
    return result
