"""What moves or names values anew and computes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..values import Value
from .table import Functions, layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

FUNCTIONS("pad.default")(layer("pad", (), ("padding", "mode", "value")))
FUNCTIONS("constant_pad_nd.default")(layer("pad", (), ("padding", "value")))


@FUNCTIONS("cat.default", "concat.default", "concatenate.default")
def cat(reader: Reader, tensors: list[Any], dim: int = 0) -> Value:
    if dim in (0, -len(reader.shape)):
        raise reader.unsupported("along the batch is not supported")
    like = next(tensor for tensor in tensors if isinstance(tensor, Value))
    parts = [
        tensor
        if isinstance(tensor, Value)
        else reader.emit("constant", like, weights={"value": reader.one_image(tensor, len(like.shape))})
        for tensor in tensors
    ]
    return reader.emit("cat", *parts, attrs={"dim": dim})


@FUNCTIONS("stack.default")
def _stack(reader: Reader, tensors: list[Any], dim: int = 0) -> Value:
    """A cat of what got one more axis; axes of one index in front of `dim` change no order."""
    dim %= len(reader.shape)
    parts = [
        reader.apply(reader.builder.reshape, x, (*x.shape[1:dim], 1, *x.shape[dim:])) if isinstance(x, Value) else x
        for x in (t if isinstance(t, Value) else t.unsqueeze(dim) for t in tensors)
    ]
    return cat(reader, parts, dim)


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
    shape = reader.shape
    if shape == x.shape:
        return x
    return reader.apply(reader.builder.reshape, x, shape[1:], memory=x.memory)


@FUNCTIONS("permute.default")
def _permute(reader: Reader, x: Value, dims: Sequence[int]) -> Value:
    if dims[0] not in (0, -len(x.shape)):
        raise reader.unsupported("mixes the images of a batch, which is not supported")
    return reader.emit("permute", x, attrs={"dims": dims})


@FUNCTIONS("transpose.int", "swapaxes.default")
def _transpose(reader: Reader, x: Value, dim0: int, dim1: int) -> Value:
    dims = list(range(len(x.shape)))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return _permute(reader, x, dims)


@FUNCTIONS("slice.Tensor")
def _slice(
    reader: Reader, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    size = x.shape[dim]
    start, end, step = slice(start, end, step).indices(size)
    if (start, end, step) == (0, size, 1):
        return x
    if dim % len(x.shape) == 0:
        raise reader.unsupported("takes some images of a batch, which is not supported")
    return reader.emit("slice", x, attrs={"dim": dim, "start": start, "end": end, "step": step})


@FUNCTIONS("narrow.default")
def _narrow(reader: Reader, x: Value, dim: int, start: int, length: int) -> Value:
    return _slice(reader, x, dim, start, start + length)


@FUNCTIONS("select.int")
def _select(reader: Reader, x: Value, dim: int, index: int) -> Value:
    index %= x.shape[dim]
    if dim % len(x.shape) == 0:
        raise reader.unsupported("takes one image of a batch, which is not supported")
    kept = reader.emit("slice", x, attrs={"dim": dim, "start": index, "end": index + 1})
    return reader.apply(reader.builder.reshape, kept, reader.shape[1:])


@FUNCTIONS("chunk.default", "split.Tensor", "split_with_sizes.default", "tensor_split.sections")
def _split(reader: Reader, x: Value, _: Any, dim: int = 0) -> tuple[Value, ...]:
    """The sizes of the results say how."""
    if dim % len(x.shape) == 0:
        raise reader.unsupported("divides the images of a batch, which is not supported")
    ends = [0]
    parts = []
    for shape in reader.shapes:
        ends.append(ends[-1] + shape[dim])
        parts.append(reader.emit("slice", x, attrs={"dim": dim, "start": ends[-2], "end": ends[-1]}))
    return tuple(parts)


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
    return Value(x.name, x.shape)


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
    return Value(x.name, x.shape, x.memory)


@FUNCTIONS(
    "dropout.default",
    "feature_dropout.default",
    "alpha_dropout.default",
    "feature_alpha_dropout.default",
)
def _dropout(reader: Reader, x: Value, p: float, train: bool) -> Value:
    if train:
        raise reader.unsupported("is on in eval() mode too (pass training=self.training), which is not supported")
    return reader.emit("dropout", x, attrs={"p": p}, memory=x.memory)
