"""Running sums, and elements in order, as steps: in memory (outer, size, inner), along the axis in the middle."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ..tensors import NHWC, Ref, Step

if TYPE_CHECKING:
    from ...graph import Node
    from ..lowering import Emit, Lowering

__all__ = ["LOWER"]


def _along(low: Lowering, node: Node, kernel: str, fields: dict[str, Any], scratch: int, work: int) -> Emit:
    """The result lies as the input does, wherever that is."""
    made, shape, axis = low.values[node.inputs[0]].made, low.graph.shapes[node.inputs[0]], node.attrs["dim"] - 1
    order = [1, 2, 0] if made == NHWC else list(range(len(shape)))
    sizes, place = [shape[i] for i in order], order.index(axis)
    outer, inner = prod(sizes[:place]), prod(sizes[place + 1 :])
    read, value = low.read(node.inputs[0], made, contiguous=True), low.write(node, made)
    value.contiguous.add(value.made)
    record = {"size": shape[axis], "inner": inner, **fields}
    units = (outer * -(-inner // low.kernels.REDUCE_COLUMNS), 1, 1, scratch)

    def emit() -> None:
        x, y = low.ref(read), Ref(low.result(value))
        low.emit(Step(kernel, node.name, x, y, record, label=node.op, work=work, cut=lambda _: units))

    return emit


def _cumsum(low: Lowering, node: Node) -> Emit:
    return _along(low, node, "running_sum", {}, 0, 2 * prod(low.graph.shapes[node.name]))


def _topk(low: Lowering, node: Node) -> Emit:
    shape, attrs = low.graph.shapes[node.inputs[0]], node.attrs
    size = shape[attrs["dim"] - 1]
    fields = {"k": attrs["k"], "least": not attrs["largest"], "indices": attrs["indices"]}
    work = prod(shape) * max(1, min(attrs["k"], size).bit_length()) * 4
    k = attrs["k"]
    return _along(low, node, "in_order", fields, 4 * (k if k <= low.kernels.MOST_PLACED else 2 * size), work)


LOWER = {"cumsum": _cumsum, "topk": _topk}
