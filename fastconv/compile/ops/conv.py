"""Convolution as steps: its kernel, and what the kernel does not fuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph.geometry import conv_size
from ..conv import Layer
from ..tensors import NCHW, NHWC, Ref, Step

if TYPE_CHECKING:
    from ...graph import Node
    from ..lowering import Emit, Lowering

__all__ = ["LOWER"]


def _conv2d(low: Lowering, node: Node) -> Emit:
    (c, h, w), weight, a = low.graph.shapes[node.inputs[0]], node.weights["weight"].shape, node.attrs
    out = (weight[0], *conv_size((h, w), weight[2:], a["stride"], a["padding"], a["dilation"]))
    at_hand, returned = low.values[node.inputs[0]].at_hand, low.only_returned(node)
    layer = Layer(node, (c, h, w), out, at_hand, returned, low.double, low.weights_in_call)
    kernel = low.choose(layer)
    pooled = layer.pool is not None and kernel.fuses_pool(layer, low.kernels)
    read = low.read(node.inputs[0], kernel.layout, border=kernel.border(layer), contiguous=kernel.planes)
    residual = low.read(node.inputs[1]) if layer.residual else None
    value = low.write(node, NCHW if kernel.planes else NHWC)
    epilogue = {
        "activation": low.activation(layer.activation),
        "pool": low.fused_pool(layer.pool if pooled else None, pooled and layer.pools_first),
    }

    def emit() -> None:
        x, y = low.ref(read), low.result(value)
        z = None if residual is None else low.ref(residual)
        target = low.temporary(out[1], out[2], out[0]) if layer.pool and not pooled else y
        label = kernel.describe(layer)
        if layer.pool and pooled:
            label += f" + {layer.pool[0]} pool"
        low.emit(
            Step(
                kernel.compiled,
                node.name,
                x,
                Ref(target),
                kernel.record(low, node, layer, x.tensor, epilogue),
                z=z,
                label=label,
                work=out[0] * out[1] * out[2] * layer.products,
                cut=lambda images: kernel.cut(low, layer, x.tensor, target, pooled, images),
                serial=kernel.serial,
            )
        )
        if layer.pool and not pooled:
            from .pool import emit_pool

            kind, kh, kw, sh, sw = layer.pool
            emit_pool(low, node, target, y, kind, (kh, kw), (sh, sw))

    return emit


def _conv_transpose2d(low: Lowering, node: Node) -> Emit:
    from ..transposed import lower

    return lower(low, node)


LOWER = {"conv2d": _conv2d, "conv_transpose2d": _conv_transpose2d}
