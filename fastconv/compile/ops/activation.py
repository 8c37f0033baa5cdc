"""Activations as steps of their own, and how any kernel is told of one."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ...graph.ops.activation import ACTIVATIONS
from ..tensors import Ref, Step

if TYPE_CHECKING:
    from ...graph import Node
    from ..lowering import Emit, Lowering

__all__ = ["LOWER"]


def _unary(low: Lowering, node: Node) -> Emit:
    read, value = low.read(node.inputs[0]), low.write(node)
    record = {"activation": low.activation((node.op, *node.attrs.values()))}

    def emit() -> None:
        x = low.ref(read)
        low.emit(Step("unary", node.name, x, Ref(low.result(value)), record, label=node.op, work=prod(value.shape)))

    return emit


LOWER = dict.fromkeys(ACTIVATIONS, _unary)
