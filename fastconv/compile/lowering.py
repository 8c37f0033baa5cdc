"""Pooling, activations, padding and changes of shape as steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UnsupportedOperatorError
from ..graph import Node
from ..graph.geometry import pad_positions
from .plan import Ref, Step, Tensor, Value

if TYPE_CHECKING:
    from .program import Builder

__all__ = ["FINISH", "LOWER", "POOL_KINDS", "activation_code", "emit_pool"]

# kinds of epilogue and pool as kernels/step.pxi numbers them
RELU, CLAMP, LEAKY, SIGMOID, TANH = 1, 2, 3, 4, 5
POOL_KINDS = {"max": 1, "avg": 2}


def activation_code(activation: tuple[Any, ...] | None) -> tuple[int, float, float, float]:
    """(kind, low, high, slope) of kernels/step.pxi."""
    if activation is None:
        return (0, 0.0, 0.0, 0.0)
    name, *parameters = activation
    if name == "relu":
        return (RELU, 0.0, inf, 0.0)
    if name == "hardtanh":
        return (CLAMP, *parameters, 0.0)
    if name == "leaky_relu":
        return (LEAKY, 0.0, 0.0, *parameters)
    return ({"sigmoid": SIGMOID, "tanh": TANH}[name], 0.0, 0.0, 0.0)


def emit_pool(
    b: Builder,
    node: Node,
    x: Tensor,
    y: Tensor,
    kind: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> None:
    windows = [
        b.kernels.pool_windows(size, kernel[i], stride[i], padding[i], dilation[i], out, count_include_pad)
        for i, (size, out) in enumerate(((x.h, y.h), (x.w, y.w)))
    ]
    b.emit(
        "pool",
        node.name,
        Ref(x),
        Ref(y),
        label=f"{kind} pool",
        table=np.concatenate(windows),
        pool=(POOL_KINDS[kind], 1, 1, 1, 1),
        dilation=dilation,
        value=float(divisor or 0),
        work=y.h * y.w * y.c * kernel[0] * kernel[1],
    )


def _pool2d(b: Builder, node: Node) -> None:
    a = node.attrs
    emit_pool(
        b,
        node,
        b.last(node.inputs[0]),
        b.output(node),
        node.op[:3],
        a["kernel_size"],
        a["stride"] or a["kernel_size"],
        a["padding"],
        a.get("dilation", (1, 1)),
        a.get("count_include_pad", True),
        a.get("divisor_override"),
    )


def _adaptive(b: Builder, node: Node) -> None:
    x, y = b.last(node.inputs[0]), b.output(node)
    kind = node.op.split("_")[1]
    windows = [b.kernels.adaptive_windows(size, out) for size, out in ((x.h, y.h), (x.w, y.w))]
    b.emit(
        "pool",
        node.name,
        Ref(x),
        Ref(y),
        label=f"adaptive {kind} pool",
        table=np.concatenate(windows),
        pool=(POOL_KINDS[kind], 1, 1, 1, 1),
        work=x.h * x.w * x.c,
    )


def _unary(b: Builder, node: Node) -> None:
    parameters = {"leaky_relu": ("negative_slope",), "hardtanh": ("min_val", "max_val")}.get(node.op, ())
    x = b.last(node.inputs[0])
    b.emit(
        "unary",
        node.name,
        Ref(x),
        Ref(b.output(node)),
        label=node.op,
        work=x.h * x.w * x.c,
        activation=activation_code((node.op, *(node.attrs[name] for name in parameters))),
    )


def _add(b: Builder, node: Node) -> None:
    x, z = b.last(node.inputs[0]), b.last(node.inputs[1])
    b.emit(
        "add",
        node.name,
        Ref(x),
        Ref(b.output(node)),
        z=Ref(z),
        work=x.h * x.w * x.c,
        activation=activation_code(node.attrs["activation"]),
    )


def _batch_norm(b: Builder, node: Node) -> None:
    """y = x * scale + shift, with scale = weight / sqrt(var + eps), in float64 until it is stored."""
    weights = {role: array.astype(np.float64) for role, array in node.weights.items()}
    scale = weights.get("weight", 1.0) / np.sqrt(weights["running_var"] + node.attrs["eps"])
    shift = weights.get("bias", 0.0) - weights["running_mean"] * scale
    shape = b.graph.shapes[node.name]
    activation = activation_code(node.attrs["activation"])
    scale, shift = (np.ascontiguousarray(v, b.dtype) for v in (scale, shift))
    if len(shape) in (1, 3):
        x, y = b.last(node.inputs[0]), b.output(node)
    else:  # (C, L): an image of height L, one wide
        y = Tensor(shape[1], 1, shape[0], planar=True, compact=True)
        x = Tensor(shape[1], 1, shape[0], planar=True, of=b.compact(node.inputs[0]))
        last = Tensor(shape[1], 1, shape[0])
        b.emit("copy", node.name, Ref(x), Ref(last), label="to channels last")
        b.emit("affine", node.name, Ref(last), Ref(last), weight=scale, bias=shift, activation=activation)
        b.emit("copy", node.name, Ref(last), Ref(y), label="to PyTorch's order")
        b.values[node.name] = Value(shape, planar=Tensor.plain(shape, of=y, compact=True))
        return
    b.emit(
        "affine",
        node.name,
        Ref(x),
        Ref(y),
        weight=scale,
        bias=shift,
        activation=activation,
        label="batch norm",
        work=x.h * x.w * x.c,
    )


def _softmax(b: Builder, node: Node) -> None:
    shape, axis = b.graph.shapes[node.name], node.attrs["dim"] - 1
    x = b.compact(node.inputs[0])
    y = b.output(node)
    y.compact = True
    if len(shape) == 3:  # channels last: (H, W, C)
        shape, axis = (shape[1], shape[2], shape[0]), {0: 2, 1: 0, 2: 1}[axis]
    b.emit(
        "softmax",
        node.name,
        Ref(x),
        Ref(y),
        label=node.op,
        rows=1,
        log=node.op == "log_softmax",
        axis=(prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])),
        work=8 * prod(shape),
    )


def _pad(b: Builder, node: Node) -> None:
    """Every mode of padding is a map from output to input indices, along rows, columns and channels."""
    shape, out = b.graph.shapes[node.inputs[0]], b.graph.shapes[node.name]
    widths = node.attrs["padding"]
    maps = [pad_positions(size, 0, 0, "constant") for size in shape]
    for pair in range(len(widths) // 2):
        axis = len(shape) - 1 - pair
        maps[axis] = pad_positions(shape[axis], widths[2 * pair], widths[2 * pair + 1], node.attrs["mode"])
    if len(shape) == 3:
        x, y = b.last(node.inputs[0]), b.output(node)
        rows, cols, channels = maps[1], maps[2], maps[0]
    elif len(shape) <= 2:
        x, y = b.last(node.inputs[0]), b.output(node)
        rows, cols, channels = np.zeros(1, np.intp), maps[0] if len(shape) == 2 else np.zeros(1, np.intp), maps[-1]
    else:
        raise UnsupportedOperatorError(
            f"{node.name}: pad needs at most 3 axes beside the batch, got {shape}; pad before the reshape"
        )
    b.emit(
        "pad",
        node.name,
        Ref(x),
        Ref(y),
        table=np.concatenate([rows, cols, channels]),
        value=float(node.attrs["value"]),
        label=f"{node.attrs['mode']} pad",
        work=prod(out),
    )


def _reshape(b: Builder, node: Node) -> None:
    """Flatten and reshape move nothing: the value's memory in PyTorch's order, under another shape."""
    shape = b.graph.shapes[node.name]
    if (
        node.op == "flatten"
        and all(consumer.op == "linear" for consumer in b.graph.consumers()[node.name])
        and node.name not in b.graph.outputs
        and len(b.graph.shapes[node.inputs[0]]) == 3
        and len(shape) == 1
    ):
        source = b.compact(node.inputs[0])  # in the wrong order for anyone but `_through_flatten`
        b.values[node.name] = Value(shape, planar=Tensor.plain(shape, of=source, compact=True))
        return
    image = len(b.graph.shapes[node.inputs[0]]) == 3
    source = b.planar(node.inputs[0]) if image else b.compact(node.inputs[0])
    source.compact = True
    tensor = (
        Tensor(shape[1], shape[2], shape[0], True, of=source) if len(shape) == 3 else Tensor.plain(shape, of=source)
    )
    tensor.compact = True
    b.values[node.name] = Value(shape, planar=tensor)


def _identity(b: Builder, node: Node) -> None:
    b.values[node.name] = b.values[node.inputs[0]]


def _cat(b: Builder, node: Node) -> None:
    """Each input is copied to its place."""
    shape, axis = b.graph.shapes[node.name], node.attrs["dim"] - 1
    y = b.output(node)
    at = 0
    for name in node.inputs:
        x = b.last(name)
        part = b.graph.shapes[name][axis]
        if part:
            _copy_part(b, node, x, y, shape, axis, at)
        at += part


def _copy_part(b: Builder, node: Node, x: Tensor, y: Tensor, shape: tuple[int, ...], axis: int, at: int) -> None:
    """Copy x to index `at` of axis `axis` of y, whose shape is `shape`."""
    y.compact = True
    if len(shape) == 3 and axis > 0:
        place: Tensor = _Window(x.h, x.w, x.c, of=y, skip=at * (y.strides[1] if axis == 1 else y.strides[2]))
        b.emit("copy", node.name, Ref(x), Ref(place), label="cat", work=x.h * x.w * x.c)
        return
    if len(shape) != 3:  # a pixel for each index of the axes before, the axes behind in its channels
        outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
        x, y = Tensor(1, outer, x.size // outer, of=x), Tensor(1, outer, y.size // outer, of=y)
        at *= inner
    b.emit("copy", node.name, Ref(x), Ref(y, channel=at, c=x.c), label="cat", work=x.h * x.w * x.c, rows=x.h)


@dataclass(eq=False)
class _Window(Tensor):
    """A part of another image, under that image's strides."""

    skip: int = 0

    def view(self, top: int = 0, left: int = 0, channel: int = 0) -> tuple[int, ...]:
        assert self.of is not None
        space, offset, *strides = self.of.view()[:6]
        return (space, offset + self.skip, *strides, self.h, self.w, self.c)


def _finish_border(b: Builder, step: Step) -> None:
    top, bottom, left, right = step.y.tensor.border
    step.parameters.update(table=np.array([top, bottom, left, right], np.intp), rows=1)


LOWER: dict[str, Callable[[Builder, Node], None]] = {
    "max_pool2d": _pool2d,
    "avg_pool2d": _pool2d,
    "adaptive_avg_pool2d": _adaptive,
    "adaptive_max_pool2d": _adaptive,
    "relu": _unary,
    "leaky_relu": _unary,
    "hardtanh": _unary,
    "sigmoid": _unary,
    "tanh": _unary,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "batch_norm": _batch_norm,
    "pad": _pad,
    "flatten": _reshape,
    "reshape": _reshape,
    "identity": _identity,
    "dropout": _identity,
    "add": _add,
    "cat": _cat,
}

FINISH: dict[str, Callable[[Builder, Step], None]] = {"zero_border": _finish_border}
