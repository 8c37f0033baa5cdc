"""Arithmetic on two activations as steps."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ..tensors import Ref, Step

if TYPE_CHECKING:
    from ...graph import Node
    from ..lowering import Emit, Lowering

__all__ = ["LOWER"]


def _add(low: Lowering, node: Node) -> Emit:
    first, second = (low.read(name) for name in node.inputs)
    value = low.write(node)
    record = {"activation": low.activation(node.attrs["activation"])}

    def emit() -> None:
        x, z = low.ref(first), low.ref(second)
        low.emit(Step("add", node.name, x, Ref(low.result(value)), record, z=z, work=prod(value.shape)))

    return emit


LOWER = {"add": _add}
