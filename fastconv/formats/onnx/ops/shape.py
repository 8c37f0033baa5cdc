"""What moves or names values anew and computes nothing."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ShapeError
from ....graph.attributes import MAX_INTEGER
from ..tensors import DTYPES
from ..values import Sized, Value
from .table import Functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..reader import Reader
    from ..values import Constant

__all__ = ["FUNCTIONS", "parts", "squeezed", "target", "unsqueezed"]

FUNCTIONS = Functions()


# --- shapes: these two and `target` serve arrays too ----------------------------------------------


def target(reader: Reader, shape: Sequence[int], wanted: Sequence[int], allowzero: int) -> tuple[int, ...]:
    """Settle what Reshape is asked for: 0 keeps a size, one -1 is what the others leave."""
    result = list(wanted)
    for i, size in enumerate(result):
        if size == 0 and not allowzero:
            if i >= len(shape):
                raise reader.error(f"keeps axis {i} of the shape {tuple(shape)}")
            result[i] = shape[i]
    if result.count(-1) > 1 or min(result, default=0) < -1:
        raise reader.error(f"cannot give the shape {result}")
    known, total = prod(size for size in result if size != -1), prod(shape)
    if -1 in result and known and total % known == 0:
        result[result.index(-1)] = total // known
    if prod(result) != total:
        raise ShapeError(f"cannot give {tuple(shape)} ({total} elements) the shape {result}")
    return tuple(result)


def squeezed(reader: Reader, shape: Sequence[int], axes: Sequence[int] | None) -> tuple[int, ...]:
    """Return a shape without the axes, or without all of size 1."""
    if axes is None:
        return tuple(size for size in shape if size != 1)
    gone = _settled(reader, axes, len(shape))
    if any(shape[axis] != 1 for axis in gone):
        raise ShapeError(f"cannot remove the axes {list(axes)} of {tuple(shape)}")
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)


def unsqueezed(reader: Reader, shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """Return a shape with axes of size 1 at these places of the result."""
    rank = len(shape) + len(axes)
    new = _settled(reader, axes, rank)
    sizes = iter(shape)
    return tuple(1 if axis in new else next(sizes) for axis in range(rank))


def _settled(reader: Reader, axes: Sequence[int], rank: int) -> set[int]:
    result = {axis % rank for axis in axes if -rank <= axis < rank}
    if len(result) != len(axes):
        raise reader.error(f"axes {list(axes)} are not different ones of {rank}")
    return result


@FUNCTIONS("Shape", integers=True)
def _shape(reader: Reader, x: Value, *, start: int = 0, end: int | None = None) -> Constant:
    return _of_batches(reader, [np.array(reader.shape(x, batch)[start:end], np.int64) for batch in reader.batches])


@FUNCTIONS("Size", integers=True)
def _size(reader: Reader, x: Value) -> Constant:
    return _of_batches(reader, [np.array(prod(reader.shape(x, batch)), np.int64) for batch in reader.batches])


def _of_batches(reader: Reader, arrays: list[np.ndarray]) -> Constant:
    return arrays[0] if all(np.array_equal(array, arrays[0]) for array in arrays) else Sized(arrays)


@FUNCTIONS("Reshape", sized=True, integers=True, means=("reshape", "flatten"))
def _reshape(reader: Reader, x: Value, shape: Any, *, allowzero: int = 0) -> Value:
    wanted = [reader.ints("shape", array) for array in reader.each(shape)]
    pairs = list(zip(reader.batches, wanted, strict=True))
    try:
        shapes = [target(reader, reader.shape(x, batch), sizes, allowzero) for batch, sizes in pairs]
    except ShapeError:
        if any(sizes[:1] != [batch] for batch, sizes in pairs):
            raise reader.unsupported("that mixes the images of a batch") from None
        raise
    return reader.reshape(x, shapes)


@FUNCTIONS("Flatten", integers=True, means=("reshape", "flatten"))
def _flatten(reader: Reader, x: Value, *, axis: int) -> Value:
    rank = len(x.axes)
    if not -rank <= axis <= rank:
        raise reader.error(f"axis {axis} is none of {rank}")
    axis += rank if axis < 0 else 0
    shapes = [reader.shape(x, batch) for batch in reader.batches]
    return reader.reshape(x, [(prod(shape[:axis]), prod(shape[axis:])) for shape in shapes])


@FUNCTIONS("Squeeze", integers=True, means=("reshape", "flatten"))
def _squeeze(reader: Reader, x: Value, axes: Any = None) -> Value:
    chosen = None if axes is None else reader.ints("axes", axes)
    return reader.reshape(x, [squeezed(reader, reader.shape(x, batch), chosen) for batch in reader.batches])


@FUNCTIONS("Unsqueeze", integers=True, means=("reshape", "flatten"))
def _unsqueeze(reader: Reader, x: Value, axes: Any) -> Value:
    chosen = reader.ints("axes", axes)
    return reader.reshape(x, [unsqueezed(reader, reader.shape(x, batch), chosen) for batch in reader.batches])


@FUNCTIONS("Expand", sized=True, integers=True)
def _expand(reader: Reader, x: Value, shape: Any) -> Value:
    """To a shape, which broadcasts with the tensor's own."""
    sizes = list(reader.builder.shape(x.name))
    for batch, array in zip(reader.batches, reader.each(shape), strict=True):
        own, wanted = reader.shape(x, batch), reader.ints("shape", array)
        full = (1,) * (len(own) - len(wanted)) + tuple(wanted)
        if len(full) != len(own):
            raise reader.unsupported("to more axes")
        for i, (new, size) in enumerate(zip(full, own, strict=True)):
            if new not in (1, size):
                axis = reader.axis(x, i)
                if axis == 0 or size != 1:
                    raise reader.unsupported("along the batch" if axis == 0 else f"of {own} to {tuple(wanted)}")
                sizes[axis - 1] = new
    return x if tuple(sizes) == reader.builder.shape(x.name) else reader.along("expand", x, shape=tuple(sizes))


@FUNCTIONS("Tile", integers=True)
def _tile(reader: Reader, x: Value, repeats: Any) -> Value:
    times = reader.ints("repeats", repeats)
    if len(times) != len(x.axes) or min(times) < 0:
        raise reader.error(f"cannot repeat {len(x.axes)} axes by {times}")
    for axis, count in enumerate(times):
        if count != 1:
            size = _size_of(reader, x, axis)
            reader.charge(_INDEX * size * count)
            x = _select(reader, x, axis, [*range(size)] * count)
    return x


_INDEX = 8
"""What an index in an attribute weighs, in elements."""


def _size_of(reader: Reader, x: Value, axis: int) -> int:
    """The size of an axis, which is not the batch."""
    dim = reader.axis_of_images(x, axis)
    return reader.builder.shape(x.name)[dim - 1]


def _select(reader: Reader, x: Value, axis: int, index: Sequence[int]) -> Value:
    """Some indices of an axis."""
    size = _size_of(reader, x, axis)
    wrong = next((i for i in index if not -size <= i < size), None)
    if wrong is not None:
        raise reader.error(f"index {wrong} is none of {size}")
    return reader.along("index_select", x, dim=reader.axis(x, axis), index=tuple(index))


@FUNCTIONS("Transpose", integers=True, means=("permute",))
def _transpose(reader: Reader, x: Value, *, perm: list[int] | None = None) -> Value:
    rank = len(x.axes)
    order = list(range(rank))[::-1] if perm is None else perm
    if sorted(order) != list(range(rank)):
        raise reader.error(f"perm {order} is no order of {rank} axes")
    return x.permuted(order)


# --- the same values ------------------------------------------------------------------------------


@FUNCTIONS("Identity", integers=True, means=("identity",))
def _identity(reader: Reader, x: Value) -> Value:
    return x


@FUNCTIONS("Dropout", means=("dropout",))
def _dropout(
    reader: Reader, x: Value, ratio: Any = None, training_mode: Any = None, *, seed: int | None = None
) -> Value:
    if training_mode is not None and reader.number("training_mode", training_mode):
        raise reader.unsupported("in training mode")
    return x


@FUNCTIONS("Cast", integers=True, means=("identity",))
def _cast(reader: Reader, x: Value, *, to: int, saturate: int = 1, round_mode: str = "up") -> Value:
    dtype = DTYPES.get(to)
    if dtype is None or dtype.kind != "f":
        raise reader.unsupported("to another type than float16, float32 or float64")
    return Value(x.name, x.axes)


@FUNCTIONS("CastLike", integers=True, mixed=True, means=("identity",))
def _cast_like(reader: Reader, x: Any, like: Any, *, saturate: int = 1, round_mode: str = "up") -> Any:
    if not (like.floating if isinstance(like, Value) else like.dtype.kind == "f"):
        raise reader.unsupported("to another type than float16, float32 or float64")
    return Value(x.name, x.axes) if isinstance(x, Value) else x.astype(reader.dtype)


# --- joining, padding and cutting -----------------------------------------------------------------


@FUNCTIONS("Concat", mixed=True, sized=True)
def _concat(reader: Reader, *inputs: Any, axis: int) -> Value:
    like = reader.arranged(next(x for x in inputs if isinstance(x, Value)))
    if any(len(x.axes) != len(like.axes) for x in inputs if isinstance(x, Value)):
        raise reader.error("joins tensors of different numbers of axes")
    values = reader.alike(*(x if isinstance(x, Value) else reader.filled(x, like) for x in inputs))
    dim = reader.axis_of_images(values[0], axis)
    return values[0] if len(values) == 1 else reader.along("cat", *values, dim=dim)


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@FUNCTIONS("Pad")
def _pad(reader: Reader, x: Value, pads: Any, value: Any = None, axes: Any = None, *, mode: str) -> Value:
    rank = len(x.axes)
    given = reader.ints("pads", pads)
    chosen = list(range(rank)) if axes is None else reader.ints("axes", axes)
    if len(given) != 2 * len(chosen) or len(set(chosen)) != len(chosen):
        raise reader.error(f"pads holds {len(given)} numbers for the axes {chosen}")
    widths = [(0, 0)] * (1 + len(reader.builder.shape(x.name)))  # of the Graph's axes
    for axis, pair in zip(chosen, zip(given[: len(chosen)], given[len(chosen) :], strict=True), strict=True):
        if any(pair):
            widths[reader.axis(x, axis)] = pair
    if widths[0] != (0, 0):
        raise reader.unsupported("along the batch")
    if mode not in _PAD_MODES:
        raise reader.error(f"mode must be one of {', '.join(_PAD_MODES)}, got {mode!r}")
    if not any(map(any, widths)):
        return x
    while widths[1] == (0, 0):  # the Graph's padding begins with the last axis, and may leave out the first ones
        del widths[1]
    padding = [width for pair in reversed(widths[1:]) for width in pair]
    if mode != "constant" or value is None:
        return reader.along("pad", x, padding=padding, mode=_PAD_MODES[mode])
    fill = value if isinstance(value, float) else reader.number("constant_value", value)
    return reader.along("pad", x, padding=padding, value=fill)


def _part(reader: Reader, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """Return every step-th position from start to before stop of one of the Graph's axes."""
    if (start, stop, step) == (0, reader.builder.shape(x.name)[axis - 1], 1):
        return x
    if start >= stop:
        raise reader.unsupported("that leaves nothing")
    return reader.along("slice", x, dim=axis, start=start, end=stop, step=step)


@FUNCTIONS("Slice", sized=True)
def _slice(reader: Reader, x: Value, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Value:
    bounds = [[reader.ints(name, array) for array in reader.each(_array(value))]
              for name, value in (("starts", starts), ("ends", ends))]  # fmt: skip
    count = len(bounds[0][0])
    chosen = list(range(count)) if axes is None else reader.ints("axes", axes)
    by = [1] * count if steps is None else reader.ints("steps", steps)
    if not all(len(values) == count for values in (chosen, by, *bounds[0], *bounds[1])):
        raise reader.error("starts, ends, axes and steps differ in length")
    for i, axis in enumerate(chosen):
        dim = reader.axis(x, axis)
        if by[i] == 0:
            raise reader.error("has a step of 0")
        pairs = [(start[i], end[i]) for start, end in zip(*bounds, strict=True)]
        if dim == 0:
            _check_all_images(reader, pairs, by[i])
            continue
        if len(set(pairs)) != 1:
            raise reader.unsupported("with a number that depends on the size of the batch")
        size = reader.builder.shape(x.name)[dim - 1]
        if by[i] < 0:  # what lies before the beginning is None in Python
            backwards = range(size)[slice(pairs[0][0], None if pairs[0][1] < -size else pairs[0][1], by[i])]
            reader.charge(_INDEX * len(backwards))
            x = _select(reader, x, axis, backwards)
            continue
        start, stop, _ = slice(*pairs[0]).indices(size)
        x = _part(reader, x, dim, start, stop, by[i])
    return x


def _check_all_images(reader: Reader, pairs: Sequence[tuple[int, int]], step: int) -> None:
    """Refuse a Slice of the batch, other than of all that it may have."""
    for batch, (start, end) in zip(reader.batches, pairs, strict=True):
        if step != 1 or start not in (0, -batch) or not (end == batch or end >= MAX_INTEGER):
            raise reader.unsupported("along the batch")


def _array(value: Any) -> Any:
    return np.array(value, np.int64) if isinstance(value, list) else value


@FUNCTIONS("Split")
def _split(reader: Reader, x: Value, split: Any = None, *, axis: int, num_outputs: int | None = None) -> Any:
    dim = reader.axis_of_images(x, axis)
    size = reader.builder.shape(x.name)[dim - 1]
    sizes = parts(reader, size, None if split is None else reader.ints("split", split), num_outputs)
    stops = np.cumsum(sizes).tolist()
    return tuple(_part(reader, x, dim, stop - part, stop) for part, stop in zip(sizes, stops, strict=True))


def parts(reader: Reader, size: int, split: Sequence[int] | None, count: int | None) -> list[int]:
    """Return the sizes that an axis is split into; the last of equal parts may be smaller."""
    if split is None:
        count = reader.outputs if count is None else count
        if not 1 <= count <= max(size, 1) or count > reader.outputs:
            raise reader.error(f"cannot split an axis of {size} into {count} parts")
        each = -(-size // count)
        split = [each] * (count - 1) + [size - each * (count - 1)]
    if sum(split) != size or min(split) < 0:
        raise reader.error(f"cannot split an axis of {size} into {list(split)}")
    return list(split)


@FUNCTIONS("Gather", integers=True, sized=True)
def _gather(reader: Reader, x: Value, indices: Any, *, axis: int) -> Value:
    """Constant positions of an axis, which the axes of their array take the place of."""
    if isinstance(indices, Value):
        raise reader.unsupported("at positions that are computed from the input")
    each = reader.each(indices)
    if any(array.dtype.kind not in "iu" for array in each):
        raise reader.error(f"indices must be integers, got {each[0].dtype}")
    if len(x.axes) == 1 and reader.axis(x, axis) == 0:
        return _gather_of_images(reader, x, each)
    if isinstance(indices, Sized):
        raise reader.unsupported("with a number that depends on the size of the batch")
    at = axis % len(x.axes) if -len(x.axes) <= axis < len(x.axes) else axis
    reader.charge(_INDEX * indices.size)
    y = _select(reader, x, axis, indices.reshape(-1).tolist())
    if indices.ndim == 1:
        return y
    shapes = [reader.shape(y, batch) for batch in reader.batches]
    return reader.reshape(y, [shape[:at] + indices.shape + shape[at + 1 :] for shape in shapes])


def _gather_of_images(reader: Reader, x: Value, each: Sequence[np.ndarray]) -> Value:
    """Positions in all images together, flattened: as PyTorch writes as_strided. Of each image its own, all alike."""
    if any(not array.ndim for array in each):  # one pixel of one image
        raise reader.unsupported("along the batch")
    size = reader.shape(x, reader.batches[0])[0] // reader.batches[0]
    x = reader.reshape(x, [(batch, size) for batch in reader.batches])
    first = each[0][:1]
    if first.size and not 0 <= first.min() <= first.max() < size:
        raise reader.unsupported("along the batch")
    for batch, array in zip(reader.batches, each, strict=True):
        reader.charge(array.size)
        begins = size * np.arange(batch).reshape(-1, *(1,) * (array.ndim - 1))
        if array.shape != (batch, *first.shape[1:]) or not np.array_equal(array - begins, first.repeat(batch, 0)):
            raise reader.unsupported("along the batch")
    index = first.reshape(-1).tolist()
    if index != list(range(size)):
        reader.charge(_INDEX * len(index))
        x = _select(reader, x, 1, index)
    return reader.reshape(x, [array.shape for array in each])


@FUNCTIONS("GatherElements", integers=True)
def _gather_elements(reader: Reader, x: Value, indices: Any, *, axis: int) -> Value:
    """Constant positions of each line along an axis, for all images the same: of the flattened image, some places."""
    if isinstance(indices, Value):
        raise reader.unsupported("at positions that are computed from the input")
    x = reader.plain(x)
    sizes, dim = reader.sizes(x), reader.axis(x, axis)
    if dim == 0 or indices.ndim != len(sizes) + 1 or len(indices) not in (1, reader.batches[0]):
        raise reader.unsupported("along the batch, or of some images")
    if indices.dtype.kind not in "iu" or any(
        n > size for i, (n, size) in enumerate(zip(indices.shape[1:], sizes, strict=True), 1) if i != dim
    ):
        raise reader.error(f"cannot gather {indices.dtype} of shape {indices.shape} from {sizes}")
    if len(reader.batches) > 1 or (len(indices) > 1 and (indices != indices[:1]).any()):
        raise reader.unsupported("of some images")
    size = sizes[dim - 1]
    if indices.size and not -size <= indices.min() <= indices.max() < size:
        raise reader.error(f"holds indices that are none of {size}")
    reader.charge(prod(sizes) + _INDEX * indices.size)
    near = tuple(slice(n) if i != dim else slice(None) for i, n in enumerate(indices.shape[1:], 1))
    places = np.take_along_axis(np.arange(prod(sizes)).reshape(sizes)[near], indices[0], dim - 1)
    flat = reader.emit("flatten", x) if len(sizes) != 1 else x
    taken = reader.emit("index_select", flat, dim=1, index=tuple(places.reshape(-1).tolist()))
    return reader.value(reader.builder.reshape(taken.name, places.shape))
