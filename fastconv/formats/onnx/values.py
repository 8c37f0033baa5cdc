"""What a tensor of an ONNX file is known to be while it is read.

A constant is a NumPy array, a result of the network a `Value`. Between them stands what a network
computes of the size of its batch, above all the shapes that it reshapes to. The size is not known, so
such a constant is computed for two unusual ones, and kept as `Sized`: where a result of the network
would depend on which it is, the file is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..axes import Axes

__all__ = ["BATCHES", "Constant", "Sized", "Unusable", "Value"]

BATCHES = (13, 1021)
"""Sizes of a batch for which constants are computed: unusual, far apart, and divisible by nothing."""


class Value:
    """A result of the network, or its input.

    Attributes
    ----------
    name : str
        The Graph's name for it.
    axes : Axes
        How ONNX's axes lie on the Graph's. A Transpose only changes this, so that two which cancel leave nothing
        behind.
    floating : bool
        False where the elements are integers, as those of an image of bytes before its Cast.
    """

    __slots__ = ("axes", "floating", "name")

    def __init__(self, name: str, axes: Axes, floating: bool = True) -> None:
        self.name = name
        self.axes = axes
        self.floating = floating

    def permuted(self, dims: Sequence[int]) -> Value:
        """Return it with its axes in another order; nothing moves."""
        return Value(self.name, tuple(self.axes[dim] for dim in dims), self.floating)


class Sized:
    """A constant that depends on the number of images: the array for each size of the batch."""

    __slots__ = ("arrays",)

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self.arrays = tuple(arrays)


class Unusable:
    """In place of a tensor that no node may read; `reason` is None where it is one that is not supported itself."""

    __slots__ = ("reason",)

    def __init__(self, reason: str | None = None) -> None:
        self.reason = reason


Constant: TypeAlias = np.ndarray | Sized
