"""Windows and padding: how many windows an axis has, and where each element of a padded one comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..errors import ArgumentError, ShapeError
from . import attributes as at

__all__ = ["conv_size", "count_blocks", "pad_positions", "pair", "window", "windows"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Two: TypeAlias = tuple[int, int]


def windows(
    size: int,
    kernel: int,
    stride: int = 1,
    before: int = 0,
    after: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> int:
    """Return how many windows of `kernel` fit into an axis of `size`, padded; none is zero or less.

    In ceil mode one may hang over the end, unless it would start in the padding there.
    """
    last = size + before + after - dilation * (kernel - 1) - 1  # where one could start
    if not ceil_mode:
        return last // stride + 1
    count = -(-last // stride) + 1
    return count - 1 if (count - 1) * stride >= size + before else count


def conv_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Two:
    """Return the height and width of a convolution's output; `padding` is (top, bottom, left, right)."""
    return (
        windows(size[0], kernel[0], stride[0], padding[0], padding[1], dilation[0]),
        windows(size[1], kernel[1], stride[1], padding[2], padding[3], dilation[1]),
    )


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
    vertical, horizontal = padding
    high, wide = conv_size(size, kernel, stride, (vertical, vertical, horizontal, horizontal), dilation)
    if high < 1 or wide < 1:
        raise ShapeError(
            f"{function}: {argument} {tuple(size)} with padding {padding} is smaller than the "
            f"kernel {kernel} with dilation {dilation}"
        )
    return high, wide
