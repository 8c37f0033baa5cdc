"""What kernels/strided.pxi computes, as steps: an axis of the result may stand anywhere in the operands, or nowhere."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UnsupportedOperatorError
from .tensors import NHWC, Ref, Step, Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..graph import Node
    from .lowering import Lowering

__all__ = ["Operand", "constant_operand", "emit_strided", "memory_order", "steps_of", "strided_step"]

_PARTS = 16  # into so many a lone axis is divided at most; and none is shorter, which squares would not fill


class Operand:
    """A tensor, and its step in memory for each axis of the result, in elements."""

    __slots__ = ("ref", "steps")

    def __init__(self, ref: Ref, steps: Sequence[int]) -> None:
        self.ref, self.steps = ref, tuple(steps)


def steps_of(tensor: Tensor, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the steps of a value's axes in the tensor that holds it; anything but an image is one run of memory."""
    if len(shape) == 3:
        _, row, pixel, channel = tensor.strides
        return channel, row, pixel
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def memory_order(shape: Sequence[int], layout: str) -> list[int]:
    """Return a value's axes that have more than one index, from the outermost in memory on."""
    order = (1, 2, 0) if layout == NHWC else range(len(shape))
    return [axis for axis in order if shape[axis] > 1]


def broadcast(steps: Sequence[int], shape: Sequence[int], out: Sequence[int]) -> tuple[int, ...]:
    """Return the steps of an operand of a shape in a result of another: 0 where it has one index for all."""
    missing = len(out) - len(shape)
    return (0,) * missing + tuple(0 if size == 1 else step for step, size in zip(steps, shape, strict=True))


def constant_operand(low: Lowering, array: np.ndarray, out: Sequence[int]) -> Operand:
    """Return a constant as an operand, the same for every image, in the order in which a result in NHWC reads it."""
    if array.ndim == 3 and len(out) == 3:
        array = np.ascontiguousarray(array.transpose(1, 2, 0)).transpose(2, 0, 1)
    place = low.constant(array)
    tensor = Tensor(1, 1, max(1, array.size), low.dtype, space=place["space"])
    tensor.offset, tensor.strides = place["offset"], (0, 0, 0, 1)
    steps = tuple(step // array.itemsize for step in array.strides)
    return Operand(Ref(tensor), broadcast(steps, array.shape, out))


def emit_strided(low: Lowering, node: Node, *args: Any, **kwargs: Any) -> None:
    """Emit a `strided_step`."""
    low.emit(strided_step(low, node, *args, **kwargs))


def _divided(size: int, *steps: int) -> list[tuple[int, ...]]:
    """Return an axis as two, the outer one of which threads can share."""
    parts = next((n for n in range(_PARTS, 1, -1) if size % n == 0 and size // n >= _PARTS), 1)
    length = size // parts
    return [(parts, *(length * step for step in steps)), (length, *steps)]


def strided_step(
    low: Lowering,
    node: Node,
    kind: str,
    shape: Sequence[int],
    y: Operand,
    x: Operand,
    z: Operand | None = None,
    *,
    activation: tuple[Any, ...] | None = None,
    label: str = "",
) -> Step:
    """Return ``y = act(kind(x, z))`` over the axes of `shape`, the result's.

    Axes are put in the order of y's memory; neighbours that all three walk as one become one. The outermost stays
    apart: its indices are what threads share. A copy that is dense in x along another axis than in y has that axis
    last but one: both are copied in squares.
    """
    none = (0,) * len(shape)
    rows = zip(shape, y.steps, x.steps, none if z is None else z.steps, strict=True)
    axes = sorted((row for row in rows if row[0] > 1), key=lambda row: -row[1])
    joined: list[tuple[int, ...]] = []
    for size, *steps in axes:
        if len(joined) > 1 and all(a == size * b for a, b in zip(joined[-1][1:], steps, strict=True)):
            joined[-1] = (joined[-1][0] * size, *steps)
        else:
            joined.append((size, *steps))
    while len(joined) < 2:
        joined.insert(0, (1, 0, 0, 0))
    dense = next((at for at, (_, _, step, _) in enumerate(joined[:-1]) if step == 1), None)
    if kind == "copy" and dense is not None and joined[-1][1] == 1:
        axis = joined.pop(dense)
        joined[-1:-1] = [axis] if len(joined) > 1 else _divided(*axis)
    if joined[-1][1] == 0:  # an axis of one element
        joined[-1] = (1, 1, 1, 1)
    if len(joined) > low.kernels.STRIDED_AXES_AT_MOST:
        raise UnsupportedOperatorError(
            f"{node.name}: more than {low.kernels.STRIDED_AXES_AT_MOST} axes in an order of their own"
        )
    record = {
        "kind": low.kernels.ARITHMETIC[kind],
        "axes": low.constant(np.array(joined, np.intp)),
        "count": len(joined),
        "activation": low.activation(activation),
    }
    units = (joined[0][0], 1, 1, low.kernels.STRIDED_FLOATS * low.dtype.itemsize)

    def cut(images: int) -> tuple[int, int, int, int]:
        return units

    other = None if z is None else z.ref
    work = prod(shape)
    return Step("strided", node.name, x.ref, y.ref, record, z=other, label=label or kind, work=work, cut=cut)
