"""What moves or names values anew and computes nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ....errors import ShapeError
from ....graph.attributes import MAX_INTEGER
from ..values import Part, Value
from .reduce import reduced
from .table import Functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..reader import Reader

__all__ = [
    "FUNCTIONS",
    "cat",
    "expanded",
    "narrow",
    "narrowed",
    "of_rank",
    "pad",
    "permute",
    "repeat_interleave",
    "transpose",
]

FUNCTIONS = Functions()


@FUNCTIONS("pad.default")
def pad(reader: Reader, x: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    """Pairs of widths, the last axis first; what is not constant pads images, channel by channel."""
    count = len(pad) // 2
    if mode != "constant":
        return reader.spatial("pad", x, count=count, attrs={"padding": pad, "mode": mode, "value": value})
    while count and not any(pad[2 * count - 2 : 2 * count]):  # an axis that stays as it is, as the batch has to
        count -= 1
    if not count:
        return _clone(reader, reader.checked(x))
    return reader.trailing("pad", x, count=count, attrs={"padding": pad[: 2 * count], "value": value})


@FUNCTIONS("constant_pad_nd.default")
def _constant_pad(reader: Reader, x: Any, widths: Sequence[int], value: float = 0) -> Value:
    return pad(reader, x, widths, value=value)


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
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "unsqueeze.default",
    means=("reshape", "flatten"),
)
def _view(reader: Reader, x: Value, *_: Any, **__: Any) -> Value:
    return _viewed(reader, x, reader.shape)


def _viewed(reader: Reader, x: Value, shape: tuple[int, ...]) -> Value:
    """The same memory under another shape."""
    return reader.reshape(x, shape).inside(x, lambda whole, new: reader.reshape(new, whole.shape))


@FUNCTIONS(
    "reshape_as.default",
    "reshape.default",
    "_unsafe_view.default",
    "flatten.using_ints",
    "unflatten.int",
    means=("reshape", "flatten"),
)
def _reshape(reader: Reader, x: Value, *_: Any, **__: Any) -> Value:
    """Any change of shape that keeps the order of the values: the result's shape says it all."""
    return reader.reshape(x, reader.shape)


@FUNCTIONS("permute.default", means=("permute",))
def permute(reader: Reader, x: Value, dims: Sequence[int]) -> Value:
    """Nothing moves until a node needs it."""
    result = Value(x.name, tuple(x.axes[dim] for dim in dims), tuple(x.shape[dim] for dim in dims), x.memory)
    back = sorted(range(len(dims)), key=lambda i: dims[i] % len(dims))
    return result.inside(x, lambda whole, new: permute(reader, new, back))


@FUNCTIONS("transpose.int", "swapaxes.default", means=("permute",))
def transpose(reader: Reader, x: Value, dim0: int, dim1: int) -> Value:
    dims = list(range(len(x.axes)))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return permute(reader, x, dims)


@FUNCTIONS("t.default", means=("permute",))
def _t(reader: Reader, x: Value) -> Value:
    return permute(reader, x, range(len(x.axes))[::-1])


@FUNCTIONS("slice.Tensor")
def narrowed(
    reader: Reader, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    size = x.shape[dim]
    if 0 in x.axes[dim] and not (start in (None, 0) and (end is None or end == size or end >= MAX_INTEGER)):
        raise reader.mixed()  # some of the images, if only of more than the example has
    start, end, step = slice(start, end, step).indices(size)
    if (start, end, step) == (0, size, 1):
        return x
    axis = reader.axis(x, dim)
    part = Part(x.memory, (x.name, axis), range(start, end))
    result = reader.along("slice", x, attrs={"dim": axis, "start": start, "end": end, "step": step}, memory=part)
    if step != 1:
        return result
    sides = (0, start), (end, size)

    def write(whole: Value, new: Value) -> Value:
        first, last = ([narrowed(reader, whole, dim, *side)] if side[0] < side[1] else [] for side in sides)
        return cat(reader, [*first, new, *last], dim)

    return result.inside(x, write)


@FUNCTIONS("narrow.default")
def narrow(reader: Reader, x: Value, dim: int, start: int, length: int) -> Value:
    return narrowed(reader, x, dim, start, start + length)


@FUNCTIONS("select.int")
def _select(reader: Reader, x: Value, dim: int, index: int) -> Value:
    dim, index = dim % len(x.shape), index % x.shape[dim]
    kept = narrowed(reader, x, dim, index, index + 1)
    return _viewed(reader, kept, kept.shape[:dim] + kept.shape[dim + 1 :])


@FUNCTIONS("chunk.default", "split.Tensor", "split_with_sizes.default", "tensor_split.sections")
def _split(reader: Reader, x: Value, _: Any, dim: int = 0) -> tuple[Value, ...]:
    """The sizes of the results say how."""
    ends = [0]
    for shape in reader.shapes:
        ends.append(ends[-1] + shape[dim])
    return tuple(narrowed(reader, x, dim, *pair) for pair in pairwise(ends))


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
            x = cat(reader, [narrowed(reader, x, dim, *part) for part in ends], dim)
    return _clone(reader, x)


@FUNCTIONS("alias.default", "detach.default", means=("identity",))
def _alias(reader: Reader, x: Value) -> Value:
    return x


@FUNCTIONS("clone.default", means=("identity",))
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
    means=("identity",),
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


@FUNCTIONS("flip.default")
def _flip(reader: Reader, x: Value, dims: Sequence[int]) -> Value:
    return reader.along("flip", x, attrs={"dims": tuple(reader.axis(x, dim) for dim in dims)})


@FUNCTIONS("expand.default", "expand_as.default", "broadcast_to.default")
def _expand(reader: Reader, x: Value, *_: Any, **__: Any) -> Value:
    """Axes of one index get more; the result's shape says how many."""
    return expanded(reader, x, reader.shape)


@FUNCTIONS("copy.default")
def _copied(reader: Reader, x: Any, source: Any, *_: Any) -> Value:
    """All elements those of another tensor."""
    return (
        expanded(reader, source, tuple(x.shape)) if isinstance(source, Value) else reader.filled(source.expand(x.shape))
    )


def of_rank(reader: Reader, x: Value, rank: int) -> Value:
    """Return a value with so many axes at least: new ones of size 1 in front."""
    return reader.reshape(x, (1,) * (rank - len(x.shape)) + x.shape)


def expanded(reader: Reader, x: Value, target: tuple[int, ...]) -> Value:
    """Broadcast to a shape, batched."""
    x = of_rank(reader, x, len(target))
    if x.shape == target:
        return x
    sizes = [-1] * len(reader.builder.shape(x.name))  # which stay as they are
    for dim, (size, new) in enumerate(zip(x.shape, target, strict=True)):
        if size != new:
            sizes[reader.axis(x, dim) - 1] = new
    return reader.along("expand", x, attrs={"shape": tuple(sizes)}, memory=x.memory)


def select(reader: Reader, x: Value, dim: int, index: Sequence[int]) -> Value:
    """Some indices of an axis."""
    return reader.along("index_select", x, attrs={"dim": reader.axis(x, dim), "index": tuple(index)})


@FUNCTIONS("repeat.default", "tile.default")
def _repeat(reader: Reader, x: Value, times: Sequence[int]) -> Value:
    rank = len(reader.shape)
    x = of_rank(reader, x, rank)
    for dim, count in enumerate((*(1,) * (rank - len(times)), *times)):
        if count != 1:
            x = select(reader, x, dim, [*range(x.shape[dim])] * count)
    return _clone(reader, x)


@FUNCTIONS("repeat_interleave.self_int")
def repeat_interleave(reader: Reader, x: Value, count: int, dim: int | None = None, **_: Any) -> Value:
    if dim is None:
        raise reader.unsupported("of the flattened images is not supported")
    dim %= len(x.shape)
    if len(x.axes[dim]) == 1 and x.axes[dim] != (0,):
        return select(reader, x, dim, [i for i in range(x.shape[dim]) for _ in range(count)])
    # The axis is that of the images, or shared with them, as windows are: a new axis behind it is joined with it.
    before, size, behind = x.shape[:dim], x.shape[dim], x.shape[dim + 1 :]
    one = reader.reshape(x, (*before, size, 1, *behind))
    many = expanded(reader, one, (*before, size, count, *behind))
    return _clone(reader, reader.reshape(many, (*before, size * count, *behind)))


@FUNCTIONS("unfold.default")
def _unfold(reader: Reader, x: Value, dim: int, size: int, step: int) -> Value:
    """The windows of an axis in its place, their elements along a new last one."""
    if not x.shape:
        raise reader.unsupported("of a number is not supported")
    dim %= len(x.shape)
    count = (x.shape[dim] - size) // step + 1
    taken = select(reader, x, dim, [i * step + j for i in range(count) for j in range(size)])
    parts = reader.reshape(taken, (*x.shape[:dim], count, size, *x.shape[dim + 1 :]))
    parts = permute(reader, parts, [i for i in range(len(parts.shape)) if i != dim + 1] + [dim + 1])
    return Value(parts.name, parts.axes, parts.shape, x.memory)  # windows may overlap, so none is written back


@FUNCTIONS("im2col.default")
def _im2col(
    reader: Reader,
    x: Any,
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Value:
    """The windows of an image, each a column."""
    top, left = padding
    if any(padding):
        x = pad(reader, x, (left, left, top, top))
    return _taken(reader, x, lambda places: _columns(places, kernel, dilation, stride))


def _columns(x: Any, kernel: Sequence[int], dilation: Sequence[int], stride: Sequence[int]) -> Any:
    """(N, C, H, W) -> (N, C * kh * kw, L), as `torch.nn.functional.unfold`."""
    import numpy as np

    extents = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(x, extents, (2, 3))
    cut = (slice(None), slice(None), *(slice(None, None, step) for step in (*stride, *dilation)))
    return windows[cut].transpose(0, 1, 4, 5, 2, 3).reshape(len(x), x.shape[1] * kernel[0] * kernel[1], -1)


@FUNCTIONS("col2im.default")
def _col2im(
    reader: Reader,
    x: Any,
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Value:
    """Columns added to the windows that they stand for: the elements that fall on each pixel, and a 0, are summed."""
    import numpy as np

    if len(x.shape) != 3:
        raise reader.unsupported("is supported of columns only, (N, C * kh * kw, L)")
    pixels = np.arange(size[0] * size[1]).reshape(1, 1, *size)
    frame = [(0, 0), (0, 0), *((width, width) for width in padding)]
    pixel = _columns(np.pad(pixels, frame, constant_values=-1), kernel, dilation, stride).reshape(-1)
    found = np.argsort(pixel, kind="stable")[np.count_nonzero(pixel < 0) :]
    pixel, taps = pixel[found], len(pixel)
    nth = np.arange(len(pixel)) - np.searchsorted(pixel, pixel)  # of the elements that fall on the same one
    taken = np.full((int(nth.max(initial=0)) + 1, pixels.size), taps)
    taken[nth, pixel] = found
    images, rows, columns = x.shape
    flat = reader.reshape(x, (images, rows * columns // taps, taps))
    if (taken == taps).any():
        flat = pad(reader, flat, (0, 1))
    parts = reader.reshape(select(reader, flat, 2, taken.reshape(-1).tolist()), (*flat.shape[:2], *taken.shape))
    return reader.reshape(reduced(reader, "sum", parts, 2) if len(taken) > 1 else parts, reader.shape)


@FUNCTIONS("index_select.default")
def _index_select(reader: Reader, x: Value, dim: int, index: Any) -> Value:
    return select(reader, x, dim, _known(reader, index).reshape(-1).tolist())


@FUNCTIONS("index.Tensor")
def _index(reader: Reader, x: Value, indices: Sequence[Any]) -> Value:
    """Constant indices, of integers or truths: along one axis, or anywhere in an image."""
    known: list[Any] = [slice(None) if index is None else _known(reader, index).numpy() for index in indices]
    dims = [dim for dim, index in enumerate(known) if not isinstance(index, slice)]
    if len(dims) == 1 and known[dims[0]].ndim == 1:
        index = known[dims[0]]
        return select(reader, x, dims[0], index.nonzero()[0].tolist() if index.dtype == bool else index.tolist())
    return _taken(reader, x, lambda places: places[tuple(known)])


@FUNCTIONS("gather.default", "take_along_dim.default")
def _gather(reader: Reader, x: Value, dim: int | Any, index: Any = None, *_: Any, **__: Any) -> Value:
    """By constant indices, for each image the same."""
    if index is None:
        raise reader.unsupported("of the flattened images is not supported")
    dim, index = (index, dim) if isinstance(index, int) else (dim, index)
    known = _known(reader, index)
    known = (
        known.expand(*(n if k == 1 else k for n, k in zip(x.shape, known.shape, strict=True)))
        if (known.shape != reader.shape)
        else known
    )
    if len(known) > 1 and not bool((known == known[:1]).all()):
        raise reader.mixed()
    return _taken(reader, x, lambda places: _along(places, dim % len(x.shape), known.numpy()))


def _along(places: Any, dim: int, index: Any) -> Any:
    import numpy as np

    return np.take_along_axis(places[tuple(slice(n) if i != dim else slice(None) for i, n in enumerate(index.shape))],
                              index, dim)  # fmt: skip


def _taken(reader: Reader, x: Value, take: Any) -> Value:
    """What `take` makes of the places in an image, an array like the batch: of its flattened image, the same ones."""
    import numpy as np

    x = reader.plain(x)
    image = reader.builder.shape(x.name)
    count = int(np.prod(image))
    batched = np.arange(count).reshape(1, *image)
    try:
        places = take(np.broadcast_to(batched, (x.shape[0], *image)))
    except IndexError as error:
        raise ShapeError(f"constant indices do not fit: {error}") from None
    if places.shape != reader.shape or (len(places) > 1 and (places != places[:1]).any()):
        raise reader.mixed()
    flat = reader.reshape(x, (x.shape[0], count))
    return reader.reshape(select(reader, flat, 1, places[0].reshape(-1).tolist()), reader.shape)


def _known(reader: Reader, index: Any) -> Any:
    if isinstance(index, Value):
        raise reader.unsupported("with indices that are computed from the image is not supported")
    return index.cpu()
