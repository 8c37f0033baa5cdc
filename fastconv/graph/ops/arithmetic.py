"""Arithmetic of two values, or of a value and a constant, which broadcast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ModelFormatError, ShapeError
from . import FAMILIES
from .activation import ACTIVATION
from .spec import ANY_RANK, OpSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import Attributes, Settled, Shape, Weights

__all__ = ["SPECS", "WHERE"]


def _broadcast(shapes: Sequence[Shape], constants: Sequence[Shape]) -> Shape:
    """What values, which have equally many axes, and constants, which may have fewer, broadcast to."""
    rank = len(shapes[0])
    if any(len(shape) != rank for shape in shapes) or any(len(shape) > rank for shape in constants):
        given = " and ".join(map(str, (*shapes, *constants)))
        raise ShapeError(f"needs tensors of equally many axes, got {given}; reshape one")
    out: Shape = (1,) * rank
    for shape in (*shapes, *constants):
        lined_up = (1,) * (rank - len(shape)) + shape
        if any(a != b and a != 1 and b != 1 for a, b in zip(out, lined_up, strict=True)):
            raise ShapeError(f"{out} and {shape} do not broadcast: every size must be equal, or 1 in one of them")
        out = tuple(a if b == 1 else b for a, b in zip(out, lined_up, strict=True))
    return out


def _arithmetic(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Two that broadcast -> what they broadcast to. The right one may be a constant, the same for all images.

    Two values have equally many axes: PyTorch lines axes up from the last one, and the batch must meet the batch.
    """
    if ("other" in weights) != (len(shapes) == 1):
        raise ModelFormatError("needs two inputs, or one and the constant 'other'")
    return _broadcast(shapes, [array.shape for array in weights.values()]), attrs


WHERE = ("condition", "input", "other")


def _where(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Three that broadcast; those that are no constants are the inputs, in the order of `WHERE`."""
    if len(shapes) + len(weights) != len(WHERE):
        raise ModelFormatError(
            f"needs {', '.join(WHERE)}, each an input or a constant; got {len(shapes)} inputs and "
            f"{', '.join(weights) or 'no constant'}"
        )
    return _broadcast(shapes, [array.shape for array in weights.values()]), attrs


def _prelu(shapes: Sequence[Shape], attrs: Attributes, weights: Weights) -> Settled:
    """Any shape, unchanged; `weight` has one element, or one for each channel."""
    shape, size = shapes[0], weights["weight"].size
    if size != 1 and (not shape or size != shape[0]):
        raise ShapeError(f"weight must have one element, or one for each channel of {shape}, got {size}")
    return shape, attrs


SPECS = {
    **{
        op: OpSpec(_arithmetic, ACTIVATION, optional={"other": ANY_RANK}, arity=(1, 2))
        for op in FAMILIES["arithmetic"]
        if op not in ("where", "prelu")
    },
    "where": OpSpec(_where, optional=dict.fromkeys(WHERE, ANY_RANK), arity=(1, 3)),
    "prelu": OpSpec(_prelu, ACTIVATION, required={"weight": 1}),
}
