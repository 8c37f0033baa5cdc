"""Reductions as steps: in memory (outer, size, inner), of which the axis in the middle is reduced."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from ...graph.ops import FAMILIES
from ..strided import Operand, emit_strided, memory_order, steps_of
from ..tensors import NCHW, NHWC, ROWS, Ref, Step

if TYPE_CHECKING:
    from ...graph import Node
    from ..lowering import Emit, Lowering, Value
    from ..tensors import Tensor

__all__ = ["LOWER"]


class _Pass(NamedTuple):
    """What is joined (kernels/reduce.pxi), what is subtracted from each element before, what is done at the end."""

    kind: str
    shift: str = "none"
    root: bool = False
    log: bool = False


_PASSES = {
    "mean": _Pass("sum"),
    "sum": _Pass("sum"),
    "prod": _Pass("prod"),
    "amax": _Pass("max"),
    "amin": _Pass("min"),
    "logsumexp": _Pass("sum_exp", shift="max", log=True),
    "var": _Pass("sum_squares", shift="sum"),
    "std": _Pass("sum_squares", shift="sum", root=True),
}
_NORMS = {1.0: _Pass("sum_magnitudes"), 2.0: _Pass("sum_squares", root=True), float("inf"): _Pass("max_magnitude")}


def _divisor(node: Node, size: int) -> float:
    """Return what the sum is divided by."""
    if node.op == "mean":
        return float(size)
    if node.op in ("var", "std"):
        return float(max(0.0, size - node.attrs["correction"]))
    return 1.0


def _record(low: Lowering, node: Node, size: int, inner: int) -> tuple[str, dict[str, Any]]:
    """Return the kernel and its record."""
    shape = {"size": size, "inner": inner}
    if node.op in ("argmax", "argmin"):
        return "arg_reduce", {**shape, "least": node.op == "argmin"}
    row = _NORMS[node.attrs["ord"]] if node.op == "vector_norm" else _PASSES[node.op]
    passes = low.kernels.REDUCTIONS
    return "reduce", {
        **shape,
        "kind": passes[row.kind],
        "shift": passes[row.shift],
        "divisor": _divisor(node, size),
        "root": row.root,
        "log": row.log,
    }


def _reduce(low: Lowering, node: Node) -> Emit:
    """Reduce axes that are neighbours in memory where they are; bring others together first, behind those that stay.

    What comes out has the axes that stay in the order of memory, and is put in the result's order where that differs.
    """
    made = low.values[node.inputs[0]].made
    shape, out, dim = low.graph.shapes[node.inputs[0]], low.graph.shapes[node.name], node.attrs["dim"]
    reduced = {axis - 1 for axis in (dim if isinstance(dim, tuple) else (dim,))}
    keepdim = node.attrs["keepdim"]
    place = {  # axis of the input -> the result's
        axis: axis if keepdim else axis - sum(other < axis for other in reduced)
        for axis in range(len(shape))
        if axis not in reduced
    }
    order = memory_order(shape, made)
    kept = [axis for axis in order if axis not in reduced]
    places = [i for i, axis in enumerate(order) if axis in reduced]
    apart = places != list(range(places[0], places[0] + len(places))) if places else False
    first = 0 if not places else len(kept) if apart else places[0]
    size = prod(shape[axis] for axis in reduced)
    outer, inner = prod(shape[axis] for axis in kept[:first]), prod(shape[axis] for axis in kept[first:])
    layouts = (NHWC, NCHW) if len(out) == 3 else (ROWS,)
    fits = [layout for layout in layouts if memory_order(out, layout) == [place[axis] for axis in kept]]
    read = low.read(node.inputs[0], made, contiguous=True)
    value = low.write(node, made if made in fits else fits[0] if fits else NHWC)
    value.contiguous.add(value.made)
    kernel, record = _record(low, node, size, inner)
    rows = outer * -(-inner // low.kernels.REDUCE_COLUMNS)
    work = (8 if node.op == "logsumexp" else 2) * prod(shape)

    def emit() -> None:
        x = low.tensor(read)
        y = low.result(value) if fits else low.temporary(1, outer, inner)
        if apart:
            x = _together(low, node, x, shape, [*kept, *(axis for axis in order if axis in reduced)])
        step = Step(kernel, node.name, Ref(x), Ref(y), record, label=node.op, work=work, cut=lambda _: (rows, 1, 1, 0))
        low.emit(step)
        if not fits:
            _put(low, node, y, value, [place[axis] for axis in kept])

    return emit


def _together(low: Lowering, node: Node, x: Tensor, shape: tuple[int, ...], order: list[int]) -> Tensor:
    """Return a copy whose axes are in this order; the others have one index."""
    steps, sizes = steps_of(x, shape), [shape[axis] for axis in order]
    copy = low.temporary(1, 1, prod(sizes))
    own = [prod(sizes[i + 1 :]) for i in range(len(sizes))]
    source = Operand(Ref(x), [steps[axis] for axis in order])
    emit_strided(low, node, "copy", sizes, Operand(Ref(copy), own), source, label="bring axes together")
    return copy


def _put(low: Lowering, node: Node, source: Tensor, value: Value, order: list[int]) -> None:
    """Copy what has the axes in this order to a value."""
    sizes, y = [value.shape[axis] for axis in order], low.result(value)
    steps = [0] * len(value.shape)
    for i, axis in enumerate(order):
        steps[axis] = prod(sizes[i + 1 :])
    target = Operand(Ref(y), steps_of(y, value.shape))
    emit_strided(low, node, "copy", value.shape, target, Operand(Ref(source), steps), label="order of axes")


LOWER = dict.fromkeys(FAMILIES["reduce"], _reduce)
