"""Activations as steps of their own, and how any kernel is told of one."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ...graph.ops.activation import ACTIVATIONS
from ..tensors import NCHW, Ref, Step

if TYPE_CHECKING:
    from ...graph import Node
    from ..lowering import Emit, Lowering

__all__ = ["LOWER"]


def _unary(low: Lowering, node: Node) -> Emit:
    layout = low.layout_of(node.inputs[0])
    planes = layout == NCHW
    read, value = low.read(node.inputs[0], layout, contiguous=planes), low.write(node, layout)
    if planes:
        value.contiguous.add(layout)
    record = {"activation": low.activation((node.op, *node.attrs.values()))}

    def emit() -> None:
        x, y = low.ref(read), Ref(low.result(value))
        if planes:  # rows of a plane are what the kernel takes for the channels of a pixel
            x, y = (Ref(z.tensor.reshaped(*value.shape)) for z in (x, y))
        low.emit(Step("unary", node.name, x, y, record, label=node.op, work=prod(value.shape)))

    return emit


LOWER = dict.fromkeys(ACTIVATIONS, _unary)
