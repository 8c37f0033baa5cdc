"""Sliding blocks as columns and back, padding, and what moves elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import INPUT, Graph, Node
from ..graph import attributes as at
from ..graph.checks import check_size
from ..graph.padding import pad_positions
from ..machine.cpu import kernels
from .blocks import count_blocks, pair, window
from .one_op import Array, Pair, batched_images, cache, floats, one_op, threads

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "broadcast_to",
    "cat",
    "flatten",
    "flip",
    "fold",
    "index_select",
    "pad",
    "permute",
    "reshape",
    "roll",
    "stack",
    "transpose",
    "unfold",
]

Prepared = tuple[Callable[..., Any], int]


def _unfold(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    x, batched = batched_images("unfold", arrays[0])
    frame = window("unfold", *values)
    if not all(x.shape[1:]):
        raise ShapeError(f"unfold: input has an empty axis, {x.shape}; only the batch may be empty")
    blocks = count_blocks("unfold", "input", x.shape[2:], *frame)
    _check_output("unfold", (len(x), x.shape[1] * prod(frame[0]), prod(blocks)))
    kernel = kernels().unfold

    def run(x: Array) -> Array:
        columns: Array = kernel(x if batched else x[np.newaxis], *frame, blocks, threads)
        return columns if batched else columns[0]

    return run, 0


def _fold(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    (x,) = arrays
    if x.ndim not in (2, 3):
        raise ShapeError(f"fold: input must be (N, C * kh * kw, L) or (C * kh * kw, L), got shape {x.shape}")
    batched = x.ndim == 3
    size = pair("fold", "output_size", values[0], 1)
    frame = window("fold", *values[1:])
    rows, columns = x.shape[-2:]
    kh, kw = frame[0]
    if not rows or not columns:
        raise ShapeError(f"fold: input has an empty axis, {x.shape}; only the batch may be empty")
    if rows % (kh * kw):
        raise ShapeError(f"fold: input has {rows} rows, not a multiple of the kernel's {kh}x{kw} = {kh * kw}")
    blocks = high, wide = count_blocks("fold", "output_size", size, *frame)
    if columns != high * wide:
        raise ShapeError(
            f"fold: input has {columns} columns; output_size {size} with this kernel, dilation, "
            f"padding and stride has {high}x{wide} = {high * wide} blocks"
        )
    _check_output("fold", (len(x) if batched else 1, rows // (kh * kw), *size))
    kernel = kernels().fold

    def run(x: Array) -> Array:
        images: Array = kernel(x if batched else x[np.newaxis], size, *frame, blocks, threads)
        return images if batched else images[0]

    return run, 0


def _check_output(function: str, shape: tuple[int, ...]) -> None:
    """Refuse an output larger than any memory, before sizes overflow."""
    try:
        check_size(shape)
    except ShapeError as error:
        raise ShapeError(f"{function}: {error}") from None


def _pad(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    (x,) = arrays
    widths, mode, value = values
    # Graph checks shapes without batch. To 'constant' all axes are alike; the other modes have a
    # batch, which may be empty, where there are two axes more than are padded.
    whole = mode == "constant" or (isinstance(widths, (tuple, list)) and x.ndim == len(widths) // 2 + 1)
    node = Node("pad", "pad", (INPUT,), {"padding": widths, "mode": mode, "value": value})
    graph = Graph(x.shape if whole else x.shape[1:], (node,), ("pad",), dtype=x.dtype)
    attrs = graph.nodes[0].attrs
    padding, mode = attrs["padding"], attrs["mode"]
    widths = [(padding[i], padding[i + 1]) for i in range(len(padding) - 2, -1, -2)]
    widths = [(0, 0)] * (2 - len(widths)) + widths  # a plane at least, of one row where x has no more
    sizes = (1,) * (len(widths) - x.ndim) + x.shape
    padded = len(sizes) - len(widths)
    positions = [
        pad_positions(size, before, after, mode) for size, (before, after) in zip(sizes[padded:], widths, strict=True)
    ]
    shape = (*x.shape[:padded], *map(len, positions))[len(sizes) - x.ndim :]
    # The axes before are as one, which stays as it is.
    arguments = ((prod(sizes[:padded]), *sizes[padded:]), (None, *positions), shape, attrs["value"], threads)
    kernel = kernels().take
    return lambda x: kernel(x, *arguments), sum(where.nbytes for where in positions)


_unfold_entry = one_op("unfold", _unfold, images=False)
_fold_entry = one_op("fold", _fold, images=False)
_pad_entry = one_op("pad", _pad, images=False)


def unfold(
    input: npt.ArrayLike,
    kernel_size: Pair,
    dilation: Pair = 1,
    padding: Pair = 0,
    stride: Pair = 1,
) -> Array:
    """Copy each sliding block into a column (im2col).

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    kernel_size, dilation, padding, stride : int or (vertical, horizontal)

    Returns
    -------
    (N, C * kh * kw, L) or (C * kh * kw, L), L the number of blocks, row by row
    """
    result: Array = _unfold_entry.run((input,), (kernel_size, dilation, padding, stride))
    return result


def fold(
    input: npt.ArrayLike,
    output_size: Pair,
    kernel_size: Pair,
    dilation: Pair = 1,
    padding: Pair = 0,
    stride: Pair = 1,
) -> Array:
    """Add each column to the sliding block it stands for (col2im), the adjoint of `unfold`.

    Parameters
    ----------
    input : (N, C * kh * kw, L) or (C * kh * kw, L)
    output_size : int or (H, W)
    kernel_size, dilation, padding, stride : int or (vertical, horizontal)

    Returns
    -------
    (N, C, H, W) or (C, H, W)
    """
    result: Array = _fold_entry.run((input,), (output_size, kernel_size, dilation, padding, stride))
    return result


def pad(
    input: npt.ArrayLike,
    pad: Sequence[int],
    mode: Literal["constant", "reflect", "replicate", "circular"] = "constant",
    value: float | None = None,
) -> Array:
    """Pad the last axes; negative widths crop.

    Parameters
    ----------
    input : any shape
    pad : (before, after) of the last axis, then of the one before it, and so on, in one flat list
    mode : {'constant', 'reflect', 'replicate', 'circular'}
        All but ``'constant'`` pad the last 1, 2 or 3 axes of an array with one or two axes more.
    value : float, optional
        What ``'constant'`` fills with, by default 0.

    Returns
    -------
    The input's shape, each padded axis longer by before + after.
    """
    result: Array = _pad_entry.run((input,), (pad, mode, value))
    return result


_broadcast = kernels().broadcast
_join = kernels().join
_COPY = kernels().ARITHMETIC["copy"]


def _array(function: str, input: npt.ArrayLike) -> Array:
    """Return an array of float32 or float64 in the machine's byte order, of any strides."""
    if type(input) is np.ndarray and input.dtype in (np.float32, np.float64) and input.flags.aligned:
        return input
    return floats(function, input=input)["input"]


def _copied(x: Array, count: int | None = None) -> Array:
    """Return a view as an array of its own, in C order; `count`: of threads."""
    y: Array = _broadcast(_COPY, 0, False, x, None, None, count or threads())
    return x.copy() if y is NotImplemented else y  # more axes than the kernel takes


def _axis(function: str, name: str, dim: Any, shape: tuple[int, ...], more: int = 0) -> int:
    """Return an axis counted from the first one; a scalar counts as an array of one. `more`: axes that are added."""
    axis, rank = at.integer(f"{function}: {name}", dim), max(len(shape) + more, 1)
    if not -rank <= axis < rank:
        raise ArgumentError(f"{function}: {name}={axis} is not an axis of the input {shape}, {-rank}..{rank - 1}")
    return axis % rank


def _dims(function: str, dims: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return several axes, each once."""
    found = tuple([_axis(function, "dims", dim, shape) for dim in at.integers(f"{function}: dims", dims)])
    if len(set(found)) < len(found):
        raise ArgumentError(f"{function}: dims must name every axis once, got {at.shown(dims)}")
    return found


def _permute(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    shape, (dims,) = arrays[0].shape, values
    order = _dims("permute", dims, shape)
    if len(order) != len(shape):
        raise ArgumentError(f"permute: dims must hold all {len(shape)} axes of the input {shape}, got {at.shown(dims)}")
    return lambda x: _copied(x.transpose(order), threads), 0


def _transpose(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    shape = arrays[0].shape
    first, second = (_axis("transpose", f"dim{i}", dim, shape) for i, dim in enumerate(values))
    return lambda x: _copied(x.swapaxes(first, second) if shape else x, threads), 0


def _flip(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    shape = arrays[0].shape
    axes, backwards = _dims("flip", values[0], shape), slice(None, None, -1)
    view = (..., *[backwards if axis in axes else slice(None) for axis in range(len(shape))])
    return lambda x: _copied(x[view], threads), 0


def _roll(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    (x,), (shifts, dims) = arrays, values
    listed = shifts if isinstance(shifts, (tuple, list)) else (shifts,)
    steps = [at.integer("roll: shifts", shift) for shift in listed]
    names = dims if isinstance(dims, (tuple, list)) else () if dims is None else (dims,)
    if len(steps) != max(len(names), 1):
        raise ArgumentError(f"roll: shifts must be as many as dims, got {at.shown(shifts)} and {at.shown(dims)}")
    if names and not x.ndim:
        raise ArgumentError(f"roll: dims must be left out for a scalar, got {at.shown(dims)}")
    shape = out = x.shape
    axes = [_axis("roll", "dims", dim, shape) for dim in names] or [0]
    if not names:
        shape = (x.size,)
    total = [0] * len(shape)
    for axis, step in zip(axes, steps, strict=True):
        total[axis] = (total[axis] + step) % max(shape[axis], 1)
    parts: list[tuple[tuple[slice, ...], tuple[slice, ...]]] = [((), ())]  # of the result, and where they come from
    for step, size in zip(total, shape, strict=True):
        pieces = [(slice(step, None), slice(0, size - step))]
        pieces += [(slice(0, step), slice(size - step, None))] if step else []
        parts = [((*to, there), (*come, here)) for to, come in parts for there, here in pieces]

    def run(x: Array) -> Array:
        y: Array = np.empty(shape, x.dtype)
        x = x.reshape(shape)
        for to, come in parts:
            y[to] = x[come]
        result: Array = y.reshape(out)
        return result

    return run, 0


def _cat(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    kept = [i for i, array in enumerate(arrays) if array.shape != (0,)] or [0]
    shapes = [arrays[i].shape for i in kept]
    if not all(array.ndim for array in arrays):
        raise ShapeError("cat: tensors must have an axis, one is a scalar; stack puts scalars side by side")
    first = shapes[0]
    axis = _axis("cat", "dim", values[0], first)
    for shape in shapes:
        if len(shape) != len(first) or shape[:axis] != first[:axis] or shape[axis + 1 :] != first[axis + 1 :]:
            raise ShapeError(f"cat: tensors must agree on every axis but dim={axis}, got {first} and {shape}")
    out, outer = (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :]), prod(first[:axis])
    # Those that are left out have no elements.
    return lambda *arrays: _join(arrays, out, outer), 0


def _stack(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> Prepared:
    shape = arrays[0].shape
    axis = _axis("stack", "dim", values[0], shape, 1)
    for array in arrays:
        if array.shape != shape:
            raise ShapeError(f"stack: tensors must have one shape, got {shape} and {array.shape}")
    out, outer = (*shape[:axis], len(arrays), *shape[axis:]), prod(shape[:axis])
    return lambda *arrays: _join(arrays, out, outer), 0


def _of_several(function: str, prepare: Callable[..., Prepared]) -> Callable[..., Array]:
    """Make the entry of a function of a list of arrays."""

    def convert(arrays: tuple[npt.ArrayLike, ...]) -> tuple[Array, ...]:
        found = tuple([floats(function, tensors=array)["tensors"] for array in arrays])
        for array in found:
            if array.dtype != found[0].dtype:
                raise DTypeError(
                    f"{function}: tensors are {found[0].dtype} and {array.dtype}; convert some, e.g. with "
                    f"astype(np.{found[0].dtype})"
                )
        return found

    entry = kernels().OneOp(cache, prepare, convert, False)

    def run(tensors: Sequence[npt.ArrayLike], dim: int) -> Array:
        if not isinstance(tensors, (tuple, list)) or not tensors:
            raise ArgumentError(f"{function}: tensors must be a list of arrays, at least one, got {at.shown(tensors)}")
        result: Array = entry.run(tuple(tensors), (dim,))
        return result

    return run


_run_permute, _run_transpose, _run_flip, _run_roll = (
    one_op(name, prepare, images=False).run
    for name, prepare in (("permute", _permute), ("transpose", _transpose), ("flip", _flip), ("roll", _roll))
)
_run_cat, _run_stack = _of_several("cat", _cat), _of_several("stack", _stack)


def permute(input: npt.ArrayLike, dims: Sequence[int]) -> Array:
    """Put the axes into the order ``dims``, of any shape; the result is a copy in that order."""
    result: Array = _run_permute((input,), (dims,))
    return result


def transpose(input: npt.ArrayLike, dim0: int, dim1: int) -> Array:
    """Exchange two axes, of any shape; the result is a copy in that order."""
    result: Array = _run_transpose((input,), (dim0, dim1))
    return result


def flip(input: npt.ArrayLike, dims: Sequence[int]) -> Array:
    """Reverse the axes ``dims``, of any shape."""
    result: Array = _run_flip((input,), (dims,))
    return result


def roll(input: npt.ArrayLike, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Array:
    """Move elements along axes; those that leave at the end come back at the beginning.

    Parameters
    ----------
    input : any shape
    shifts : int or sequence of int
        How far, for each of ``dims``.
    dims : int or sequence of int, optional
        None, and an empty sequence, are the flattened array.

    Returns
    -------
    The input's shape.
    """
    result: Array = _run_roll((input,), (shifts, dims))
    return result


def cat(tensors: Sequence[npt.ArrayLike], dim: int = 0) -> Array:
    """Put arrays one behind the other along an axis.

    Parameters
    ----------
    tensors : sequence of arrays
        Alike in all sizes but that of ``dim``. Arrays of shape (0,) are left out, as in PyTorch.
    dim : int

    Returns
    -------
    Their shape, with all of their elements along the axis.
    """
    return _run_cat(tensors, dim)


def stack(tensors: Sequence[npt.ArrayLike], dim: int = 0) -> Array:
    """Put arrays of one shape side by side along a new axis, which will be ``dim``."""
    return _run_stack(tensors, dim)


def index_select(input: npt.ArrayLike, dim: int, index: npt.ArrayLike) -> Array:
    """Take some indices of an axis, in any order.

    Parameters
    ----------
    input : any shape
    dim : int
    index : (K,) or (), int32 or int64

    Returns
    -------
    The input's shape, with K elements along the axis.
    """
    x, where = _array("index_select", input), np.asarray(index)
    axis = _axis("index_select", "dim", dim, x.shape)
    if where.dtype not in (np.int32, np.int64):
        raise DTypeError(
            f"index_select: index is {where.dtype}, it must be int32 or int64; convert it with index.astype(np.int64)"
        )
    if where.ndim > 1:
        raise ShapeError(f"index_select: index must have one axis, got shape {where.shape}")
    where = where.reshape(-1)
    size = x.shape[axis] if x.ndim else 1
    if where.size and not 0 <= where.min() <= where.max() < size:
        worst = where[(where < 0) | (where >= size)][0]
        raise ArgumentError(f"index_select: index {worst} is none of the axis {axis} of {x.shape}, 0..{size - 1}")
    if not x.ndim:
        if where.size != 1:
            raise ShapeError(f"index_select: index of a scalar must have one element, got {where.size}")
        return np.array(x)
    result: Array = x.take(where, axis)
    return result


def reshape(input: npt.ArrayLike, shape: Sequence[int]) -> Array:
    """Give the elements, in PyTorch's order, another shape; one size may be -1. The result is a copy."""
    x, target = _array("reshape", input), at.integers("reshape: shape", shape)
    known = prod(size for size in target if size != -1)
    if (
        min(target, default=0) < -1
        or target.count(-1) > 1
        or (x.size != known if -1 not in target else not known or x.size % known)
    ):
        raise ShapeError(f"reshape: cannot give {x.shape} ({x.size} elements) the shape {at.shown(shape)}")
    return _copied(x).reshape(target)


def flatten(input: npt.ArrayLike, start_dim: int = 0, end_dim: int = -1) -> Array:
    """Make one axis of several, ``start_dim`` to ``end_dim``, of any shape. The result is a copy."""
    x = _array("flatten", input)
    first, last = _axis("flatten", "start_dim", start_dim, x.shape), _axis("flatten", "end_dim", end_dim, x.shape)
    if first > last:
        raise ArgumentError(f"flatten: start_dim={start_dim} must not lie behind end_dim={end_dim} of {x.shape}")
    return _copied(x).reshape(*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :])


def broadcast_to(input: npt.ArrayLike, shape: Sequence[int]) -> Array:
    """Repeat axes of one index, and add axes in front, to this shape; -1 keeps a size. The result is a copy."""
    x, target = _array("broadcast_to", input), at.integers("broadcast_to: shape", shape)
    more = len(target) - x.ndim
    sizes = [x.shape[axis - more] if size == -1 and axis >= more else size for axis, size in enumerate(target)]
    if more < 0 or any(
        size < 0 or (axis >= more and x.shape[axis - more] not in (1, size)) for axis, size in enumerate(sizes)
    ):
        raise ShapeError(f"broadcast_to: {x.shape} does not broadcast to {at.shown(shape)}")
    _check_output("broadcast_to", tuple(sizes))
    return _copied(np.broadcast_to(x, sizes))
