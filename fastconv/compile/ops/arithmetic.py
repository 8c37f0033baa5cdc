"""Arithmetic on two activations, or on one and a constant, as steps; the choice between two, and PReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph.ops import FAMILIES
from ...graph.ops.arithmetic import WHERE
from ..strided import Operand, broadcast, constant_operand, emit_strided, steps_of
from ..tensors import Ref, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...graph import Node
    from ..lowering import Emit, Lowering, Value

__all__ = ["LOWER"]


def _layout(low: Lowering, node: Node) -> str:
    """Where the inputs lie that are as large as the result."""
    out = low.graph.shapes[node.name]
    return low.layout_of(*(name for name in node.inputs if low.graph.shapes[name] == out))


def _written(low: Lowering, node: Node, layout: str) -> Value:
    value = low.write(node, layout)
    if len(value.shape) != 3:
        value.contiguous.add(value.made)
    return value


def _read(low: Lowering, name: str, out: tuple[int, ...], layout: str) -> Callable[[], Operand]:
    """Say that a node reads a value, which broadcasts; return what gives the operand once steps are emitted."""
    shape = low.graph.shapes[name]
    read = low.read(name, layout, contiguous=len(shape) != 3)

    def operand() -> Operand:
        ref = low.ref(read)
        return Operand(ref, broadcast(steps_of(ref.tensor, shape), shape, out))

    return operand


def _result(low: Lowering, value: Value) -> Operand:
    y = low.result(value)
    return Operand(Ref(y), steps_of(y, value.shape))


def _arithmetic(low: Lowering, node: Node) -> Emit:
    out, layout = low.graph.shapes[node.name], _layout(low, node)
    reads = [_read(low, name, out, layout) for name in node.inputs]
    value = _written(low, node, layout)
    constant = constant_operand(low, node.weights["other"], out) if len(reads) == 1 else None
    kind = "pow" if node.op == "float_power" else node.op

    def emit() -> None:
        x, *rest = (read() for read in reads)
        z = constant or rest[0]
        emit_strided(low, node, kind, out, _result(low, value), x, z, activation=node.attrs["activation"])

    return emit


def _where(low: Lowering, node: Node) -> Emit:
    """All of `other`, then what the condition chooses of `input` over it."""
    out, names, layout = low.graph.shapes[node.name], iter(node.inputs), _layout(low, node)
    operands: list[Callable[[], Operand] | Operand] = [
        constant_operand(low, node.weights[role], out) if role in node.weights else _read(low, next(names), out, layout)
        for role in WHERE
    ]
    value = _written(low, node, layout)

    def emit() -> None:
        condition, chosen, other = (item if isinstance(item, Operand) else item() for item in operands)
        y = _result(low, value)
        emit_strided(low, node, "copy", out, y, other, label="where: otherwise")
        emit_strided(low, node, "put_where", out, y, condition, chosen, label="where")

    return emit


def _prelu(low: Lowering, node: Node) -> Emit:
    out, size, layout = low.graph.shapes[node.name], node.weights["weight"].size, _layout(low, node)
    read, value = _read(low, node.inputs[0], out, layout), _written(low, node, layout)
    place = low.given(node, "weight", size)
    weight = Tensor(1, 1, size, low.dtype, space=place["space"])
    weight.offset, weight.strides = place["offset"], (0, 0, 0, 1)
    z = Operand(Ref(weight), [int(axis == 0 and size > 1) for axis in range(len(out))])

    def emit() -> None:
        x, y = read(), _result(low, value)
        emit_strided(low, node, "prelu", out, y, x, z, activation=node.attrs["activation"])

    return emit


LOWER = {**dict.fromkeys(FAMILIES["arithmetic"], _arithmetic), "where": _where, "prelu": _prelu}
