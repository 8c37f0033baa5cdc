"""Padding and sliding blocks: where each element comes from, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..errors import ArgumentError, ShapeError
from . import attributes as at

__all__ = ["count_blocks", "pad_positions", "padded", "pair", "window"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Two: TypeAlias = tuple[int, int]


def padded(x: Array, padding: Sequence[int], mode: str, value: float) -> Array:
    """Return a padded copy; the arguments are those of a checked ``pad`` node.

    ``padding`` is PyTorch's flat list of (before, after), the last axis first; negative ones crop.
    """
    widths = [(0, 0)] * x.ndim
    for axis in range(len(padding) // 2):
        widths[-1 - axis] = (padding[2 * axis], padding[2 * axis + 1])
    if mode == "constant":
        return _filled(x, widths, value)
    y = x
    for axis, (before, after) in enumerate(widths):
        if before or after:
            y = y.take(pad_positions(y.shape[axis], before, after, mode), axis)
    return x.copy() if y is x else y


def _filled(x: Array, widths: list[tuple[int, int]], value: float) -> Array:
    sizes = [size + before + after for size, (before, after) in zip(x.shape, widths, strict=True)]
    result = np.full(sizes, value, x.dtype)
    target = tuple(
        slice(max(before, 0), size - max(after, 0)) for size, (before, after) in zip(sizes, widths, strict=True)
    )
    source = tuple(
        slice(max(-before, 0), size - max(-after, 0)) for size, (before, after) in zip(x.shape, widths, strict=True)
    )
    result[target] = x[source]
    return result


def pad_positions(size: int, before: int, after: int, mode: str) -> Array:
    """Return which position of an axis of `size` each position of the padded axis shows, as intp.

    -1 is the constant. Negative widths crop; `mode` is one of ``torch.nn.functional.pad``.
    """
    if mode == "circular":  # PyTorch crops first, then wraps what is left
        kept = np.arange(size, dtype=np.intp)[max(-before, 0) : size - max(-after, 0)]
        return np.concatenate([kept[len(kept) - max(before, 0) :], kept, kept[: max(after, 0)]])
    positions = np.arange(-before, size + after, dtype=np.intp)
    if mode == "constant":
        return np.where(positions < size, np.maximum(positions, -1), -1)
    if mode == "replicate":
        return np.clip(positions, 0, size - 1)
    mirrored: Array = np.abs(size - 1 - np.abs(positions))  # at 0, then at size - 1
    return size - 1 - mirrored


def pair(function: str, name: str, value: Any, minimum: int) -> Two:
    """Return an int or a list of two as a pair; PyTorch refuses a list of one here."""
    if isinstance(value, (tuple, list)) and len(value) != 2:
        raise ArgumentError(f"{function}: {name} must be an int or a pair, got {value}")
    result: Two = at.pair(minimum)(f"{function}: {name}", value)
    return result


def window(function: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[Two, Two, Two, Two]:
    """Return the four arguments of a sliding block as pairs."""
    return (
        pair(function, "kernel_size", kernel_size, 1),
        pair(function, "dilation", dilation, 1),
        pair(function, "padding", padding, 0),
        pair(function, "stride", stride, 1),
    )


def count_blocks(
    function: str,
    argument: str,
    size: tuple[int, ...],
    kernel: Two,
    dilation: Two,
    padding: Two,
    stride: Two,
) -> Two:
    """Return how many sliding blocks an image of `size` has, vertically and horizontally.

    `argument` names the size in the error of an image that has none.
    """
    high, wide = ((size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))
    if high < 1 or wide < 1:
        raise ShapeError(
            f"{function}: {argument} {tuple(size)} with padding {padding} is smaller than the "
            f"kernel {kernel} with dilation {dilation}"
        )
    return high, wide
