"""What moves or names values anew and computes nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..values import Value
from .table import Functions, layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..reader import Reader

__all__ = ["FUNCTIONS", "permute"]

FUNCTIONS = Functions()

FUNCTIONS("pad.default")(layer("pad", (), ("padding", "mode", "value")))
FUNCTIONS("constant_pad_nd.default")(layer("pad", (), ("padding", "value")))


@FUNCTIONS("cat.default", "concat.default", "concatenate.default")
def cat(reader: Reader, tensors: list[Any], dim: int = 0) -> Value:
    like = reader.arranged(next(tensor for tensor in tensors if isinstance(tensor, Value)))
    parts = reader.alike(*(x if isinstance(x, Value) else reader.filled(x, like) for x in tensors))
    return reader.along("cat", *parts, attrs={"dim": reader.axis(parts[0], dim)})


@FUNCTIONS("stack.default")
def _stack(reader: Reader, tensors: list[Any], dim: int = 0) -> Value:
    """A cat of what got one more axis."""
    dim %= len(reader.shape)
    return cat(reader, [_unsqueezed(reader, x, dim) for x in tensors], dim)


def _unsqueezed(reader: Reader, x: Any, dim: int) -> Any:
    return reader.reshape(x, (*x.shape[:dim], 1, *x.shape[dim:])) if isinstance(x, Value) else x.unsqueeze(dim)


@FUNCTIONS(
    "view.default",
    "view_as.default",
    "reshape_as.default",
    "reshape.default",
    "_unsafe_view.default",
    "flatten.using_ints",
    "unflatten.int",
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "unsqueeze.default",
)
def _reshape(reader: Reader, x: Value, *_: Any, **__: Any) -> Value:
    """Any change of shape that keeps the order of the values: the result's shape says it all."""
    return reader.reshape(x, reader.shape)


@FUNCTIONS("permute.default")
def permute(reader: Reader, x: Value, dims: Sequence[int]) -> Value:
    """Nothing moves until a node needs it."""
    return Value(x.name, tuple(x.axes[dim] for dim in dims), tuple(x.shape[dim] for dim in dims), x.memory)


@FUNCTIONS("transpose.int", "swapaxes.default")
def _transpose(reader: Reader, x: Value, dim0: int, dim1: int) -> Value:
    dims = list(range(len(x.axes)))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return permute(reader, x, dims)


@FUNCTIONS("t.default")
def _t(reader: Reader, x: Value) -> Value:
    return permute(reader, x, range(len(x.axes))[::-1])


@FUNCTIONS("slice.Tensor")
def _slice(
    reader: Reader, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    size = x.shape[dim]
    start, end, step = slice(start, end, step).indices(size)
    if (start, end, step) == (0, size, 1):
        return x
    return reader.along("slice", x, attrs={"dim": reader.axis(x, dim), "start": start, "end": end, "step": step})


@FUNCTIONS("narrow.default")
def _narrow(reader: Reader, x: Value, dim: int, start: int, length: int) -> Value:
    return _slice(reader, x, dim, start, start + length)


@FUNCTIONS("select.int")
def _select(reader: Reader, x: Value, dim: int, index: int) -> Value:
    dim, index = dim % len(x.shape), index % x.shape[dim]
    kept = _slice(reader, x, dim, index, index + 1)
    return reader.reshape(kept, kept.shape[:dim] + kept.shape[dim + 1 :])


@FUNCTIONS("chunk.default", "split.Tensor", "split_with_sizes.default", "tensor_split.sections")
def _split(reader: Reader, x: Value, _: Any, dim: int = 0) -> tuple[Value, ...]:
    """The sizes of the results say how."""
    ends = [0]
    for shape in reader.shapes:
        ends.append(ends[-1] + shape[dim])
    return tuple(_slice(reader, x, dim, *pair) for pair in pairwise(ends))


@FUNCTIONS("unbind.int")
def _unbind(reader: Reader, x: Value, dim: int = 0) -> tuple[Value, ...]:
    return tuple(_select(reader, x, dim, index) for index in range(x.shape[dim]))


@FUNCTIONS("roll.default")
def _roll(reader: Reader, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    """Of each axis the last `shift` indices, and behind them the others."""
    if not dims:
        raise reader.unsupported("of the flattened images is not supported")
    for shift, dim in zip(shifts, dims, strict=True):
        size = x.shape[dim]
        if shift % size:
            ends = (size - shift % size, size), (0, size - shift % size)
            x = cat(reader, [_slice(reader, x, dim, *part) for part in ends], dim)
    return x


@FUNCTIONS("alias.default", "detach.default")
def _alias(reader: Reader, x: Value) -> Value:
    return x


@FUNCTIONS("clone.default")
def _clone(reader: Reader, x: Value, *, memory_format: Any = None) -> Value:
    return Value(x.name, x.axes, x.shape)


@FUNCTIONS(
    "contiguous.default",
    "to.dtype",
    "to.dtype_layout",
    "to.device",
    "to.other",
    "type_as.default",
    "_to_copy.default",
)
def _convert(reader: Reader, x: Value, *_: Any, **__: Any) -> Value:
    """The same values, be it in memory of their own or not; all is computed in one dtype."""
    if not reader.dtype.is_floating_point:
        raise reader.unsupported(f"to {reader.dtype} is not supported")
    return Value(x.name, x.axes, x.shape, x.memory)


@FUNCTIONS(
    "dropout.default",
    "feature_dropout.default",
    "alpha_dropout.default",
    "feature_alpha_dropout.default",
)
def _dropout(reader: Reader, x: Value, p: float, train: bool) -> Value:
    if train:
        raise reader.unsupported("is on in eval() mode too (pass training=self.training), which is not supported")
    return reader.along("dropout", x, attrs={"p": p}, memory=x.memory)
