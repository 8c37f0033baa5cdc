"""Padding and changes of shape as steps; most of them only name memory anew."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ..tensors import NCHW, NHWC, ROWS, Ref, Step

if TYPE_CHECKING:
    from ...graph import Node
    from ..lowering import Emit, Lowering
    from ..tensors import Tensor

__all__ = ["LOWER"]


def _pad(low: Lowering, node: Node) -> Emit:
    """Every mode of padding is a map from output to input indices, along rows, columns and channels."""
    from ...graph.padding import pad_positions

    shape, out = low.graph.shapes[node.inputs[0]], low.graph.shapes[node.name]
    widths = node.attrs["padding"]
    maps = [pad_positions(size, 0, 0, "constant") for size in shape]
    for pair in range(len(widths) // 2):
        axis = len(shape) - 1 - pair
        maps[axis] = pad_positions(shape[axis], widths[2 * pair], widths[2 * pair + 1], node.attrs["mode"])
    one = np.zeros(1, np.intp)
    while len(maps) > 3:  # of rows: the axes in front as one
        first, second, *maps = maps
        joined = first[:, np.newaxis] * shape[len(shape) - len(maps) - 1] + second
        maps = [np.where((first[:, np.newaxis] < 0) | (second < 0), -1, joined).reshape(-1), *maps]
    rows, columns, channels = [*maps[1:], maps[0]] if len(shape) == 3 else [one, one, *maps][-3:]
    record = {
        "rows": low.constant(rows),
        "columns": low.constant(columns),
        "channels": low.constant(channels),
        "value": float(node.attrs["value"]),
    }
    read, value = low.read(node.inputs[0], contiguous=len(shape) > 3), low.write(node)
    if len(shape) > 3:
        value.contiguous.add(value.made)

    def emit() -> None:
        x, y = low.ref(read), low.result(value)
        if len(shape) > 3:
            x, y = Ref(x.tensor.reshaped(prod(shape[:-2]), *shape[-2:])), y.reshaped(prod(out[:-2]), *out[-2:])
        low.emit(Step("pad", node.name, x, Ref(y), record, label=f"{node.attrs['mode']} pad", work=prod(out)))

    return emit


def _reshape(low: Lowering, node: Node) -> Emit:
    """Flatten and reshape move nothing: the value's memory in PyTorch's order, under another shape.

    An image that is flattened for linear layers alone stays in NHWC order; they permute their weights instead.
    """
    shape, source = low.graph.shapes[node.name], low.graph.shapes[node.inputs[0]]
    readers = low.readers[node.name]
    if (
        node.op == "flatten"
        and len(shape) == 1
        and len(source) == 3
        and node.name not in low.graph.outputs
        and all(reader.op == "linear" and node.name not in reader.inputs[1:] for reader in readers)
    ):
        low.view(node, low.read(node.inputs[0], contiguous=True)).source = source
    else:
        low.view(node, low.read(node.inputs[0], NCHW, contiguous=True))
    return lambda: None


def _permute(low: Lowering, node: Node) -> Emit:
    """Where a layout of the result is the memory of the input, nothing moves: NHWC is NCHW of the permuted image."""
    from ..strided import Operand, emit_strided, memory_order, steps_of

    made = low.values[node.inputs[0]].made
    shape, out = low.graph.shapes[node.inputs[0]], low.graph.shapes[node.name]
    dims = [dim - 1 for dim in node.attrs["dims"][1:]]
    order = [dims.index(axis) for axis in memory_order(shape, made)]
    for layout in (NHWC, NCHW) if len(out) == 3 else (ROWS,):
        if memory_order(out, layout) == order:
            low.view(node, low.read(node.inputs[0], made, contiguous=True), layout)
            return lambda: None
    read = low.read(node.inputs[0], made, contiguous=made == ROWS)
    value = low.write(node, low.layout_for(node.name))
    if len(out) != 3:
        value.contiguous.add(value.made)

    def emit() -> None:
        x, y = low.ref(read), low.result(value)
        steps = steps_of(x.tensor, shape)
        emit_strided(
            low,
            node,
            "copy",
            out,
            Operand(Ref(y), steps_of(y, out)),
            Operand(x, [steps[dim] for dim in dims]),
            label="permute",
        )

    return emit


def _slice(low: Lowering, node: Node) -> Emit:
    """A copy of every step-th index of one axis."""
    from ..strided import Operand, emit_strided, steps_of

    made = low.values[node.inputs[0]].made
    shape, out = low.graph.shapes[node.inputs[0]], low.graph.shapes[node.name]
    axis, start, step = node.attrs["dim"] - 1, node.attrs["start"], node.attrs["step"]
    read, value = low.read(node.inputs[0], made, contiguous=made == ROWS), low.write(node, made)
    if len(out) != 3:
        value.contiguous.add(value.made)

    def emit() -> None:
        x, y = low.ref(read), low.result(value)
        steps = list(steps_of(x.tensor, shape))
        begin = x.from_element(start * steps[axis])
        steps[axis] *= step
        emit_strided(low, node, "copy", out, Operand(Ref(y), steps_of(y, out)), Operand(begin, steps), label="slice")

    return emit


def _constant(low: Lowering, node: Node) -> Emit:
    from ..strided import Operand, constant_operand, emit_strided, steps_of

    value = low.write(node, low.layout_for(node.name))
    if len(value.shape) != 3:
        value.contiguous.add(value.made)
    x = constant_operand(low, node.weights["value"], value.shape)

    def emit() -> None:
        y = low.result(value)
        emit_strided(low, node, "copy", value.shape, Operand(Ref(y), steps_of(y, value.shape)), x, label="constant")

    return emit


def _identity(low: Lowering, node: Node) -> Emit:
    low.values[node.name] = low.values[node.inputs[0]]
    return lambda: None


def _cat(low: Lowering, node: Node) -> Emit:
    """Each input is copied to its place."""
    axis = node.attrs["dim"] - 1
    parts = [low.graph.shapes[name][axis] for name in node.inputs]
    layout = low.layout_of(*node.inputs)
    reads = [low.read(name, layout) if size else None for name, size in zip(node.inputs, parts, strict=True)]
    value = low.write(node, layout)
    value.contiguous.add(value.made)

    def emit() -> None:
        y, at = low.result(value), 0
        for read, size in zip(reads, parts, strict=True):
            if read is not None:
                x = low.tensor(read)
                _copy_part(low, node, x, y, value.shape, axis, at)
            at += size

    return emit


def _copy_part(low: Lowering, node: Node, x: Tensor, y: Tensor, shape: tuple[int, ...], axis: int, at: int) -> None:
    """Copy x to index `at` of axis `axis` of y, whose shape is `shape`."""
    work = x.h * x.w * x.c
    if len(shape) == 3:
        _, row, pixel, channel = y.strides
        place = y.part(x.h, x.w, x.c, at * (channel, row, pixel)[axis])
    else:  # a pixel for each index of the axes before, the axes behind in its channels
        outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
        size = work // outer
        x, y = x.reshaped(1, outer, size), y.reshaped(1, outer, prod(shape) // outer)
        place = y.part(1, outer, size, at * inner)
    low.emit(Step("copy", node.name, Ref(x), Ref(place), {}, label="cat", work=work))


def _flip(low: Lowering, node: Node) -> Emit:
    """A copy whose steps run backwards."""
    from ..strided import Operand, emit_strided, steps_of

    made, shape = low.values[node.inputs[0]].made, low.graph.shapes[node.name]
    axes = [dim - 1 for dim in node.attrs["dims"]]
    read, value = low.read(node.inputs[0], made, contiguous=made == ROWS), low.write(node, made)
    if len(shape) != 3:
        value.contiguous.add(value.made)

    def emit() -> None:
        x, y = low.ref(read), low.result(value)
        steps = list(steps_of(x.tensor, shape))
        begin = x.from_element(sum(steps[axis] * (shape[axis] - 1) for axis in axes))
        for axis in axes:
            steps[axis] = -steps[axis]
        emit_strided(low, node, "copy", shape, Operand(Ref(y), steps_of(y, shape)), Operand(begin, steps), label="flip")

    return emit


def _expand(low: Lowering, node: Node) -> Emit:
    """A copy that reads some axes again and again."""
    from ..strided import Operand, broadcast, emit_strided, steps_of

    shape, out = low.graph.shapes[node.inputs[0]], low.graph.shapes[node.name]
    read, value = low.read(node.inputs[0], contiguous=len(shape) != 3), low.write(node)
    if len(out) != 3:
        value.contiguous.add(value.made)

    def emit() -> None:
        x, y = low.ref(read), low.result(value)
        source = Operand(x, broadcast(steps_of(x.tensor, shape), shape, out))
        emit_strided(low, node, "copy", out, Operand(Ref(y), steps_of(y, out)), source, label="expand")

    return emit


def _index_select(low: Lowering, node: Node) -> Emit:
    """Padding's map of indices along one axis, all of them the input's."""
    shape, out, axis = low.graph.shapes[node.inputs[0]], low.graph.shapes[node.name], node.attrs["dim"] - 1
    index = np.array(node.attrs["index"], np.intp)
    read, value = low.read(node.inputs[0], contiguous=len(shape) != 3), low.write(node)
    if len(shape) == 3:
        sizes = shape
    else:  # of rows: those before the axis are the height, those behind it the channels, or all before the last one
        value.contiguous.add(value.made)
        outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
        sizes, axis = ((1, outer, shape[axis]), 2) if inner == 1 else ((outer, shape[axis], inner), 1)
        sizes, axis = (sizes[2], *sizes[:2]), (axis + 1) % 3
    maps = [index if i == axis else np.arange(size, dtype=np.intp) for i, size in enumerate(sizes)]
    height, width, channels = len(maps[1]), len(maps[2]), len(maps[0])
    names = ("channels", "rows", "columns")
    record = {**{name: low.constant(each) for name, each in zip(names, maps, strict=True)}, "value": 0.0}

    def emit() -> None:
        x, y = low.ref(read), low.result(value)
        if len(shape) != 3:
            x, y = Ref(x.tensor.reshaped(*sizes[1:], sizes[0])), y.reshaped(height, width, channels)
        low.emit(Step("pad", node.name, x, Ref(y), record, label="index select", work=prod(out)))

    return emit


LOWER = {
    "pad": _pad,
    "flatten": _reshape,
    "reshape": _reshape,
    "identity": _identity,
    "dropout": _identity,
    "permute": _permute,
    "slice": _slice,
    "cat": _cat,
    "constant": _constant,
    "flip": _flip,
    "expand": _expand,
    "index_select": _index_select,
}
