"""Arithmetic on two activations, or on one and a constant, as steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph.ops import FAMILIES
from ..strided import Operand, broadcast, constant_operand, emit_strided, steps_of
from ..tensors import Ref

if TYPE_CHECKING:
    from ...graph import Node
    from ..lowering import Emit, Lowering, Read

__all__ = ["LOWER"]


def _arithmetic(low: Lowering, node: Node) -> Emit:
    shapes = [low.graph.shapes[name] for name in node.inputs]
    out = low.graph.shapes[node.name]
    layout = low.layout_of(*(name for name, shape in zip(node.inputs, shapes, strict=True) if shape == out))
    reads = [
        low.read(name, layout, contiguous=len(shape) != 3) for name, shape in zip(node.inputs, shapes, strict=True)
    ]
    value = low.write(node, layout)
    if len(value.shape) != 3:
        value.contiguous.add(value.made)
    constant = constant_operand(low, node.weights["other"], value.shape) if len(reads) == 1 else None

    def operand(read: Read, shape: tuple[int, ...]) -> Operand:
        ref = low.ref(read)
        return Operand(ref, broadcast(steps_of(ref.tensor, shape), shape, value.shape))

    def emit() -> None:
        x, *rest = (operand(read, shape) for read, shape in zip(reads, shapes, strict=True))
        y = low.result(value)
        z = constant or rest[0]
        emit_strided(
            low,
            node,
            node.op,
            value.shape,
            Operand(Ref(y), steps_of(y, value.shape)),
            x,
            z,
            activation=node.attrs["activation"],
        )

    return emit


LOWER = dict.fromkeys(FAMILIES["arithmetic"], _arithmetic)
