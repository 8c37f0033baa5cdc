"""Operators of which everything is known: computed with NumPy, once.

What they make is charged against the size of the file before it is made, so that a small file cannot ask
for much memory. Errors of NumPy are turned into ours by the reader.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tensors import DTYPES
from .shape import parts, squeezed, target, unsqueezed
from .table import Fold, Folds

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["ELEMENTWISE", "FOLDS"]

FOLDS = Folds()


# --- numbers --------------------------------------------------------------------------------------


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Integers are divided as in C, towards zero."""
    if x.dtype.kind == "f":
        return np.asarray(x / y)
    quotient = np.abs(x) // np.abs(y)
    result: np.ndarray = np.where((x < 0) != (y < 0), -quotient, quotient).astype(x.dtype)
    return result


def _mean(x: np.ndarray, **how: Any) -> Any:
    """Of nothing it is NaN; ``numpy.mean`` would warn of that."""
    total = np.sum(x, **how)
    return total / np.float64(x.size / np.size(total) if x.size else np.nan)


_UNARY: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Exp": np.exp,
    "Floor": np.floor,
    "Log": np.log,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Reciprocal": lambda x: 1 / x,
    "Relu": lambda x: np.maximum(x, np.zeros((), x.dtype)),
    "Round": np.rint,
    "Sigmoid": lambda x: (1 / (1 + np.exp(-x))).astype(x.dtype),
    "Sign": np.sign,
    "Sin": np.sin,
    "Sqrt": np.sqrt,
    "Tanh": np.tanh,
}

_BINARY: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "And": np.logical_and,
    "Div": _divide,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "Or": np.logical_or,
    "Pow": lambda x, y: np.power(x, y).astype(x.dtype),
    "Sub": np.subtract,
    "Sum": np.add,
    "Xor": np.logical_xor,
}

_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceL2": lambda x, **how: np.sqrt(np.sum(np.square(x), **how)),
    "ReduceMax": np.max,
    "ReduceMean": _mean,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceSumSquare": lambda x, **how: np.sum(np.square(x), **how),
}


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(reader: Reader, first: np.ndarray, *others: np.ndarray) -> Any:
        result = first
        for other in others:
            reader.charge(prod(np.broadcast_shapes(result.shape, other.shape)))
            result = function(result, other)
        return result if others else function(first)

    return compute


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(
        reader: Reader, x: np.ndarray, axes: Any = None, *, keepdims: int, noop_with_empty_axes: int = 0
    ) -> Any:
        chosen = tuple(reader.ints("axes", axes)) if axes is not None else ()
        if not chosen and noop_with_empty_axes == 1:
            return x
        return np.asarray(function(x, axis=chosen or None, keepdims=bool(keepdims))).astype(x.dtype)

    return compute


def _first(reader: Reader, first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    return first


ELEMENTWISE = {*_UNARY, *_BINARY}

FOLDS.update((name, Fold(_elementwise(function))) for table in (_UNARY, _BINARY) for name, function in table.items())
FOLDS.update((name, Fold(_reduction(function))) for name, function in _REDUCTIONS.items())
FOLDS["Identity"] = Fold(_first, moves=True)


@FOLDS("Mod")
def _mod(reader: Reader, x: np.ndarray, y: np.ndarray, *, fmod: int) -> Any:
    reader.charge(prod(np.broadcast_shapes(x.shape, y.shape)))
    return np.fmod(x, y) if fmod else np.mod(x, y)


@FOLDS("Cast")
def _cast(reader: Reader, x: np.ndarray, *, to: int, saturate: int = 1, round_mode: str = "up") -> np.ndarray:
    if to not in DTYPES:
        raise reader.unsupported("to a type that is not supported")
    return x.astype(DTYPES[to])


@FOLDS("CastLike")
def _cast_like(
    reader: Reader, x: np.ndarray, like: np.ndarray, *, saturate: int = 1, round_mode: str = "up"
) -> np.ndarray:
    return x.astype(like.dtype)


@FOLDS("Clip")
def _clip(reader: Reader, x: np.ndarray, min: Any = None, max: Any = None) -> Any:
    low = x if min is None else np.maximum(x, np.asarray(min, x.dtype).reshape(()))
    return low if max is None else np.minimum(low, np.asarray(max, x.dtype).reshape(()))


@FOLDS("Where")
def _where(reader: Reader, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    reader.charge(prod(np.broadcast_shapes(condition.shape, x.shape, y.shape)))
    return np.where(condition, x, y)


# --- making ---------------------------------------------------------------------------------------


@FOLDS("Constant", moves=True)
def _constant(reader: Reader, **attributes: Any) -> np.ndarray:
    if len(attributes) != 1:
        raise reader.error(f"needs one value, has {len(attributes)}")
    ((name, value),) = attributes.items()
    if name == "value":
        return reader.tensor(value)
    if name in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    if name in ("value_int", "value_ints"):
        return np.array(value, np.int64)
    raise reader.unsupported(f"with {name}")


@FOLDS("ConstantOfShape", moves=True)
def _constant_of_shape(reader: Reader, shape: np.ndarray, *, value: Any = None) -> np.ndarray:
    sizes = reader.ints("shape", shape)
    fill = np.zeros(1, np.float32) if value is None else reader.tensor(value)
    if min(sizes, default=0) < 0 or fill.size != 1:
        raise reader.error(f"cannot fill the shape {sizes} with {fill.size} values")
    reader.charge(prod(sizes))
    return np.full(sizes, fill.reshape(()), fill.dtype)


@FOLDS("Range")
def _range(
    reader: Reader, start: np.ndarray, limit: np.ndarray, delta: np.ndarray, *, stash_type: int = 1
) -> np.ndarray:
    first, last, step = (reader.number(what, x) for what, x in (("start", start), ("limit", limit), ("delta", delta)))
    count = max(int(np.ceil((last - first) / step)), 0)  # a step of 0 is an error of arithmetic
    reader.charge(count)
    steps = np.arange(count, dtype=start.dtype) * delta.reshape(())
    return np.asarray(start.reshape(()) + steps, start.dtype)


@FOLDS("Expand", moves=True)
def _expand(reader: Reader, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    sizes = np.broadcast_shapes(x.shape, tuple(reader.ints("shape", shape)))
    reader.charge(prod(sizes))
    return np.broadcast_to(x, sizes)


@FOLDS("Tile", moves=True)
def _tile(reader: Reader, x: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    times = reader.ints("repeats", repeats)
    if len(times) != x.ndim or min(times, default=0) < 0:
        raise reader.error(f"cannot repeat {x.shape} by {times}")
    reader.charge(x.size * prod(times))
    return np.tile(x, times)


# --- moving ---------------------------------------------------------------------------------------


@FOLDS("Shape", moves=True)
def _shape(reader: Reader, x: np.ndarray, *, start: int = 0, end: int | None = None) -> np.ndarray:
    return np.array(x.shape[start:end], np.int64)


@FOLDS("Size", moves=True)
def _size(reader: Reader, x: np.ndarray) -> np.ndarray:
    return np.array(x.size, np.int64)


@FOLDS("Reshape", moves=True)
def _reshape(reader: Reader, x: np.ndarray, shape: np.ndarray, *, allowzero: int = 0) -> np.ndarray:
    return x.reshape(target(reader, x.shape, reader.ints("shape", shape), allowzero))


@FOLDS("Flatten", moves=True)
def _flatten(reader: Reader, x: np.ndarray, *, axis: int) -> np.ndarray:
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


@FOLDS("Squeeze", moves=True)
def _squeeze(reader: Reader, x: np.ndarray, axes: Any = None) -> np.ndarray:
    return x.reshape(squeezed(reader, x.shape, None if axes is None else reader.ints("axes", axes)))


@FOLDS("Unsqueeze", moves=True)
def _unsqueeze(reader: Reader, x: np.ndarray, axes: Any) -> np.ndarray:
    return x.reshape(unsqueezed(reader, x.shape, reader.ints("axes", axes)))


@FOLDS("Transpose", moves=True)
def _transpose(reader: Reader, x: np.ndarray, *, perm: list[int] | None = None) -> np.ndarray:
    return np.transpose(x, perm)


@FOLDS("Concat", moves=True)
def _concat(reader: Reader, *arrays: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate(arrays, axis)


@FOLDS("Gather", moves=True)
def _gather(reader: Reader, x: np.ndarray, indices: np.ndarray, *, axis: int) -> np.ndarray:
    reader.charge(indices.size * (x.size // max(x.shape[axis], 1)))
    return np.take(x, indices, axis)


@FOLDS("GatherND", moves=True)
def _gather_nd(reader: Reader, x: np.ndarray, indices: np.ndarray, *, batch_dims: int = 0) -> np.ndarray:
    if batch_dims:
        raise reader.unsupported(f"with batch_dims={batch_dims}")
    places = tuple(np.moveaxis(indices, -1, 0))
    reader.charge(indices.size + places[0].size * prod(x.shape[len(places) :]))
    return np.asarray(x[places])


@FOLDS("Slice", moves=True)
def _slice(reader: Reader, x: np.ndarray, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> np.ndarray:
    first, last = reader.ints("starts", starts), reader.ints("ends", ends)
    chosen = list(range(len(first))) if axes is None else reader.ints("axes", axes)
    by = [1] * len(first) if steps is None else reader.ints("steps", steps)
    index = [slice(None)] * x.ndim
    for axis, start, stop, step in zip(chosen, first, last, by, strict=True):
        # Beyond the beginning, where a step runs backwards, is None here.
        index[axis] = slice(start, None if step < 0 and stop < -x.shape[axis] else stop, step)
    return np.asarray(x[tuple(index)])


@FOLDS("Split", moves=True)
def _split(
    reader: Reader, x: np.ndarray, split: Any = None, *, axis: int, num_outputs: int | None = None
) -> tuple[np.ndarray, ...]:
    sizes = parts(reader, x.shape[axis], None if split is None else reader.ints("split", split), num_outputs)
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


@FOLDS("NonZero")
def _non_zero(reader: Reader, x: np.ndarray) -> np.ndarray:
    reader.charge(x.size * x.ndim)
    return np.array(np.nonzero(x), np.int64)


@FOLDS("ScatterND", moves=True)
def _scatter_nd(
    reader: Reader, x: np.ndarray, indices: np.ndarray, updates: np.ndarray, *, reduction: str = "none"
) -> np.ndarray:
    if reduction != "none":
        raise reader.unsupported(f"with reduction={reduction!r}")
    reader.charge(x.size)
    result: np.ndarray = x.copy()
    result[tuple(np.moveaxis(indices, -1, 0))] = updates
    return result


@FOLDS("Trilu", moves=True)
def _trilu(reader: Reader, x: np.ndarray, k: Any = None, *, upper: int) -> np.ndarray:
    diagonal = 0 if k is None else int(reader.number("k", k))
    function = np.triu if upper else np.tril
    result: np.ndarray = function(x, diagonal)
    return result


@FOLDS("MatMul")
def _matmul(reader: Reader, x: np.ndarray, y: np.ndarray) -> Any:
    reader.charge(x.size // max(x.shape[-1], 1) * y.shape[-1])
    return np.matmul(x, y)
