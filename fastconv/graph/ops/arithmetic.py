"""Arithmetic of two values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ShapeError
from .activation import ACTIVATION
from .spec import OpSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import Attributes, Settled, Shape, Weights

__all__ = ["SPECS"]


def _add(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Two of one shape -> that shape."""
    first, second = shapes
    if first != second:
        raise ShapeError(f"both inputs must have the same shape, got {first} and {second}")
    return first, attrs


SPECS = {"add": OpSpec(_add, ACTIVATION, arity=(2, 2))}
