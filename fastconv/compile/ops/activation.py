"""Activations as steps of their own, and how any kernel is told of one; softmax."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ...graph import Node
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


def _softmax(low: Lowering, node: Node) -> Emit:
    read, value = low.read(node.inputs[0], contiguous=True), low.write(node)
    value.contiguous.add(value.made)
    shape, axis = value.shape, node.attrs["dim"] - 1
    if len(shape) == 3:  # in memory, (H, W, C)
        shape, axis = (shape[1], shape[2], shape[0]), {0: 2, 1: 0, 2: 1}[axis]
    record = {
        "outer": prod(shape[:axis]),
        "size": shape[axis],
        "inner": prod(shape[axis + 1 :]),
        "log": node.op == "log_softmax",
    }

    def emit() -> None:
        x = low.ref(read)
        y = Ref(low.result(value))
        work = 8 * prod(shape)  # an exponential takes about so many multiply-adds
        low.emit(Step("softmax", node.name, x, y, record, label=node.op, work=work, cut=lambda images: (1, 1, 1, 0)))

    return emit


LOWER = {
    "relu": _unary,
    "leaky_relu": _unary,
    "hardtanh": _unary,
    "sigmoid": _unary,
    "tanh": _unary,
    "softmax": _softmax,
    "log_softmax": _softmax,
}
