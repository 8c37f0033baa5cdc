"""Sliding blocks as columns and back, and padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import ShapeError
from ..graph import INPUT, Graph, Node
from ..graph.checks import check_size
from ..graph.padding import pad_positions
from ..machine.cpu import kernels
from .blocks import count_blocks, pair, window
from .one_op import Array, Pair, batched_images, one_op

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["fold", "pad", "unfold"]

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
