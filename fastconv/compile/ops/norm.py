"""Normalisation as steps, softmax among it."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ..tensors import NCHW, NHWC, Ref, Step

if TYPE_CHECKING:
    from ...graph import Node
    from ..lowering import Emit, Lowering
    from ..tensors import Tensor

__all__ = ["LOWER"]

_AT_ONCE = 4096  # elements of softmax in a unit, at least


def _batch_norm(low: Lowering, node: Node) -> Emit:
    """y = x * scale + shift, with scale = weight / sqrt(var + eps), in float64 until it is stored."""
    weights = {role: array.astype(np.float64) for role, array in node.weights.items()}
    scale = weights.get("weight", 1.0) / np.sqrt(weights["running_var"] + node.attrs["eps"])
    shift = weights.get("bias", 0.0) - weights["running_mean"] * scale
    scale, shift = (low.constant(np.ascontiguousarray(v, low.dtype)) for v in (scale, shift))
    record = {"scale": scale, "shift": shift, "activation": low.activation(node.attrs["activation"])}
    rank = len(low.graph.shapes[node.name])
    read = low.read(node.inputs[0], contiguous=rank not in (1, 3))
    value = low.write(node)

    def step(x: Tensor, y: Tensor) -> None:
        low.emit(Step("affine", node.name, Ref(x), Ref(y), record, label="batch norm", work=prod(value.shape)))

    def emit() -> None:
        x, y = low.tensor(read), low.result(value)
        if rank in (1, 3):
            step(x, y)
            return
        # (C, ...): an image of height prod(...), one wide, in NCHW order
        channels, size = value.shape[0], prod(value.shape[1:])
        last = low.temporary(size, 1, channels)
        planes = x.reshaped(size, 1, channels, nchw=True)
        low.emit(Step("copy", node.name, Ref(planes), Ref(last), {}, label="to NHWC"))
        step(last, last)
        back = y.reshaped(size, 1, channels, nchw=True)
        low.emit(Step("copy", node.name, Ref(last), Ref(back), {}, label="to NCHW"))

    if rank not in (1, 3):
        value.contiguous.add(value.made)
    return emit


def _norm(low: Lowering, node: Node) -> Emit:
    """Runs of memory in PyTorch's order, whose mean and variance are their own."""
    shape, attrs = low.graph.shapes[node.name], node.attrs
    if node.op == "group_norm":
        size, inner = prod(shape) // attrs["num_groups"], prod(shape[1:])
        weights = shape[0]
    else:
        size, inner = prod(attrs["normalized_shape"]), 0
        weights = size
    read, value = low.read(node.inputs[0], NCHW, contiguous=True), low.write(node, NCHW)
    value.contiguous.add(value.made)
    ones = low.constant(np.ones(weights, low.dtype))
    record = {
        "weight": low.given(node, "weight", weights) if "weight" in node.weights else ones,
        "bias": low.given(node, "bias", weights),
        "size": size,
        "inner": inner,
        "centred": node.op != "rms_norm",
        "eps": attrs["eps"],
        "activation": low.activation(attrs["activation"]),
    }
    runs, work = prod(shape) // size, 4 * prod(shape)

    def emit() -> None:
        x, y = low.ref(read), Ref(low.result(value))
        low.emit(Step("norm", node.name, x, y, record, label=node.op, work=work, cut=lambda images: (runs, 1, 1, 0)))

    return emit


def _softmax(low: Lowering, node: Node) -> Emit:
    layout = low.layout_of(node.inputs[0])
    read, value = low.read(node.inputs[0], layout, contiguous=True), low.write(node, layout)
    value.contiguous.add(value.made)
    shape, axis = value.shape, node.attrs["dim"] - 1
    if value.made == NHWC:
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
        units = (record["outer"], -(-_AT_ONCE // prod(shape[axis:])), 1, 0)
        low.emit(Step("softmax", node.name, x, y, record, label=node.op, work=work, cut=lambda images: units))

    return emit


def _local_response_norm(low: Lowering, node: Node) -> Emit:
    read, value = low.read(node.inputs[0]), low.write(node)
    (channels, height, _), size = value.shape, node.attrs["size"]
    scratch = (channels + size - 1) * low.dtype.itemsize
    work = (size + 20) * prod(value.shape)  # a power takes about twenty multiply-adds

    def emit() -> None:
        x, y = low.ref(read), Ref(low.result(value))
        units = (height, 1, 1, scratch)
        low.emit(
            Step("local_response", node.name, x, y, dict(node.attrs), label=node.op, work=work, cut=lambda _: units)
        )

    return emit


LOWER = {
    "batch_norm": _batch_norm,
    "layer_norm": _norm,
    "rms_norm": _norm,
    "group_norm": _norm,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "local_response_norm": _local_response_norm,
}
