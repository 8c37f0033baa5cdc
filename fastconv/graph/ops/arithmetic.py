"""Arithmetic of two values, or of a value and a constant, which broadcast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ModelFormatError, ShapeError
from .activation import ACTIVATION
from .spec import ANY_RANK, OpSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import Attributes, Settled, Shape, Weights

__all__ = ["SPECS"]


def _arithmetic(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Two that broadcast -> what they broadcast to. The right one may be a constant, the same for all images.

    Two values have equally many axes: PyTorch lines axes up from the last one, and the batch must meet the batch.
    """
    other = weights.get("other")
    if (other is None) == (len(shapes) == 1):
        raise ModelFormatError("needs two inputs, or one and the constant 'other'")
    first = shapes[0]
    second = shapes[1] if other is None else other.shape
    if len(second) > len(first) or (other is None and len(second) < len(first)):
        raise ShapeError(f"needs two of equally many axes, got {first} and {second}; reshape one")
    lined_up = (1,) * (len(first) - len(second)) + second
    out = []
    for a, b in zip(first, lined_up, strict=True):
        if a != b and a != 1 and b != 1:
            raise ShapeError(f"{first} and {second} do not broadcast: every size must be equal, or 1 in one of them")
        out.append(a if b == 1 else b)
    return tuple(out), attrs


SPECS = {
    op: OpSpec(_arithmetic, ACTIVATION, optional={"other": ANY_RANK}, arity=(1, 2))
    for op in ("add", "sub", "mul", "div", "maximum", "minimum")
}
