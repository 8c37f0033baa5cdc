"""Activations as steps of their own, and how any kernel is told of one."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ...graph import Node
from ...graph.ops.activation import ACTIVATIONS
from ..tensors import Ref, Step

if TYPE_CHECKING:
    from ...kernels._kernels import Kernels
    from ..lowering import Emit, Lowering

__all__ = ["LOWER", "activation_record"]


def activation_record(kernels: Kernels, activation: tuple[Any, ...] | None) -> dict[str, Any]:
    """Return the fields of kernels/records.pxi's Activation for a fused one, ``(op, *parameters)`` or None."""
    name, *parameters = activation or ("none",)
    a, b = (*parameters, 0.0, 0.0)[:2]
    return {"kind": kernels.ACTIVATIONS[name], "a": a, "b": b}


def _unary(low: Lowering, node: Node) -> Emit:
    read, value = low.read(node.inputs[0]), low.write(node)
    record = {"activation": activation_record(low.kernels, (node.op, *node.attrs.values()))}

    def emit() -> None:
        x = low.ref(read)
        low.emit(Step("unary", node.name, x, Ref(low.result(value)), record, label=node.op, work=prod(value.shape)))

    return emit


LOWER = dict.fromkeys(ACTIVATIONS, _unary)
