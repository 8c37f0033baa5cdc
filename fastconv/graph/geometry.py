"""How many windows an axis has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["conv_size", "windows"]


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
) -> tuple[int, int]:
    """Return the height and width of a convolution's output; `padding` is (top, bottom, left, right)."""
    return (
        windows(size[0], kernel[0], stride[0], padding[0], padding[1], dilation[0]),
        windows(size[1], kernel[1], stride[1], padding[2], padding[3], dilation[1]),
    )
