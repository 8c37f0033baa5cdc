"""What the functions share: checking arrays, networks of one node, and the cache of what was prepared.

Arrays are PyTorch's: images (N, C, H, W) or (C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..compile import compile_graph
from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import INPUT, Graph, Node
from ..machine.cpu import default_threads, kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..kernels._kernels import Cache, OneOp, Program

__all__ = [
    "CACHED",
    "CACHED_BYTES",
    "Array",
    "Pair",
    "Single",
    "batched_images",
    "cache",
    "compiled",
    "floats",
    "one_node",
    "one_op",
    "several",
    "threads",
]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Pair: TypeAlias = int | Sequence[int]
Single: TypeAlias = int | Sequence[int]  # of length 1
Prepare: TypeAlias = Callable[[tuple[Array, ...], tuple[Any, ...], int], tuple[Callable[..., Any], int]]

CACHED = 256
CACHED_BYTES = 64 << 20

cache: Cache = kernels().Cache(default_threads, CACHED, CACHED_BYTES)
threads = cache.threads


_OPTIONAL = ("bias", "attn_mask")


def floats(
    function: str, optional: tuple[str, ...] = _OPTIONAL, /, **arguments: npt.ArrayLike | None
) -> dict[str, Array]:
    """Return the arguments that were given as arrays of one dtype, float32 or float64.

    They are C-contiguous, aligned and in the machine's byte order: copied only where they were not.
    Those named by `optional` may be None.
    """
    result: dict[str, Array] = {}
    for name, value in arguments.items():
        if value is None:
            if name in optional:
                continue
            raise ArgumentError(f"{function}: {name} must be given, an array")
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
        good = array.flags.carray and array.dtype.isnative and type(array) is np.ndarray
        result[name] = array if good else np.require(array, array.dtype.type, ["C", "A", "E"])
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


def one_op(
    function: str,
    prepare: Prepare,
    names: tuple[str, ...] = ("input",),
    images: bool = True,
    optional: tuple[str, ...] = _OPTIONAL,
) -> OneOp:
    """Make the compiled entry of a function whose arrays have these names.

    `prepare` takes the arrays, the attributes and the number of threads, checks them, and returns what computes,
    and the bytes it works in. `images`: what it returns for an input (N, C, H, W) serves any N. `optional` may be None.
    """

    def convert(arrays: tuple[npt.ArrayLike, ...]) -> tuple[Array, ...]:
        return tuple(floats(function, optional, **dict(zip(names, arrays, strict=False))).values())

    return kernels().OneOp(cache, prepare, convert, images)


def compiled(
    op: str,
    names: tuple[str, ...],
    weights: tuple[str, ...] = (),
    algorithm: Callable[[tuple[Any, ...]], str] = lambda values: "exact",
    checked: Callable[[Program, tuple[Any, ...], int], Callable[..., Any]] = lambda program, values, threads: program,
) -> Prepare:
    """Make what prepares the Program of an op of images.

    `names` are those of its attributes, `weights` those of the arrays behind the input. `algorithm` finds the
    convolution's among the attributes' values. `checked` takes a Program whose weights come with the call, those
    values and the number of threads, and returns what is called in its place.
    """

    def prepare(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> tuple[Callable[..., Any], int]:
        x, batched = batched_images(op, arrays[0])
        graph = one_node(op, x, dict(zip(names, values, strict=False)), dict(zip(weights, arrays[1:], strict=False)))
        program = compile_graph(graph, threads=threads, algorithm=algorithm(values), weights_in_call=len(arrays) > 1)
        nbytes = program.workspace_bytes * program.threads
        run = checked(program, values, threads) if len(arrays) > 1 else program.run
        return (run if batched else lambda image, *rest: run(image[np.newaxis], *rest)[0]), nbytes

    return prepare


def several(
    op: str, arrays: tuple[Array, ...], attrs: Mapping[str, Any], threads: int
) -> tuple[Callable[..., Any], int]:
    """Prepare the Program of an op whose arrays are all inputs of it, with the batch in front of each."""
    names = [f"{INPUT}{index or ''}" for index in range(len(arrays))]
    shapes = {name: array.shape[1:] for name, array in zip(names, arrays, strict=True)}
    graph = Graph(shapes, (Node(op, op, tuple(names), attrs),), (op,), dtype=arrays[0].dtype)
    program = compile_graph(graph, threads=threads)
    return program, program.workspace_bytes * program.threads
