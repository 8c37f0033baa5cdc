"""Sliding blocks: their arguments as pairs, and how many an image has."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError, ShapeError
from ..graph.attributes import pair as normaliser
from ..graph.geometry import conv_size

__all__ = ["Pair", "count_blocks", "pair", "window"]

Pair = tuple[int, int]


def pair(function: str, name: str, value: Any, minimum: int) -> Pair:
    """Return an int or a list of two as a pair; PyTorch refuses a list of one here."""
    if isinstance(value, (tuple, list)) and len(value) != 2:
        raise ArgumentError(f"{function}: {name} must be an int or a pair, got {value}")
    result: Pair = normaliser(minimum)(f"{function}: {name}", value)
    return result


def window(function: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[Pair, Pair, Pair, Pair]:
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
    kernel: Pair,
    dilation: Pair,
    padding: Pair,
    stride: Pair,
) -> Pair:
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
