"""Linear layers as steps: the register tile, or BLAS for float64."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ..conv.direct import cut_rows, panels, tile_record
from ..tensors import NCHW, Ref, Step

if TYPE_CHECKING:
    from ...graph import Node
    from ..lowering import Emit, Lowering
    from ..tensors import Tensor

__all__ = ["LOWER", "emit_product"]


def _linear(low: Lowering, node: Node) -> Emit:
    """A linear layer is a 1x1 convolution of one pixel (or of a column of them, for a (..., F) input)."""
    channels, features = node.weights["weight"].shape
    pixels = prod(low.graph.shapes[node.name][:-1])
    read = low.read(node.inputs[0], NCHW, contiguous=True)
    residual = low.read(node.inputs[1], NCHW, contiguous=True) if len(node.inputs) > 1 else None
    value = low.write(node, NCHW)
    value.contiguous.add(value.made)
    # Behind an image flattened in NHWC order the weights are permuted, not the image.
    source = low.values[node.inputs[0]].source
    weight = (channels, source[0], prod(source[1:])) if source else (channels, features, 1)

    def emit() -> None:
        z = None if residual is None else low.tensor(residual)
        emit_product(low, node, low.tensor(read), low.result(value), pixels, z, weight)

    return emit


def emit_product(
    low: Lowering,
    node: Node,
    source: Tensor,
    target: Tensor,
    pixels: int,
    residual: Tensor | None = None,
    shape: tuple[int, int, int] | None = None,
) -> None:
    """Emit the product of `pixels` rows of an image with a linear node's weight, which has such a shape for packing."""
    channels, features = node.weights["weight"].shape
    weight = shape or (channels, features, 1)
    activation = low.activation(node.attrs.get("activation"))
    work = channels * features * pixels
    # one above the other, not side by side: rows are what units are cut from
    x = Ref(source.reshaped(pixels, 1, features))
    y = Ref(target.reshaped(pixels, 1, channels))
    z = None if residual is None else Ref(residual.reshaped(pixels, 1, channels))
    if low.double:
        low.emit(_on_blas(low, node, x, y, z, weight, activation, work))
        return
    alone = pixels == 1 and z is None
    epilogue = {"activation": activation, "pool": low.fused_pool()}
    record = tile_record(low, node, weight, 1, [0], features, (1, 1), (pixels, 1), epilogue)
    count = panels(low.kernels, channels, 1)

    def cut(images: int) -> tuple[int, int, int, int]:
        if alone:
            return 1, max(1, images), -(-count // low.kernels.PANELS_AT_ONCE), 0
        return cut_rows(low, x.tensor, pixels, count, images, channels * features * 4)

    kernel = "linear" if alone else "conv_direct"
    low.emit(Step(kernel, node.name, x, y, record, z=z, label="linear tile", work=work, cut=cut))


def _on_blas(
    low: Lowering,
    node: Node,
    x: Ref,
    y: Ref,
    z: Ref | None,
    weight: tuple[int, int, int],
    activation: dict[str, Any],
    work: int,
) -> Step:
    """Return the step for float64, one product for each row: its bits must not depend on how many rows there are."""
    from ..conv.im2col import blas_record, cut_blocks

    window = {"kh": 1, "kw": 1, "sh": 1, "sw": 1, "dh": 1, "dw": 1, "top": 0, "left": 0, "groups": 1, "ow": 1}
    record = blas_record(low, node, window, weight, activation)

    def cut(images: int) -> tuple[int, int, int, int]:
        return cut_blocks(y.tensor.h, weight[1] * weight[2], weight[0], low.dtype.itemsize)

    return Step("conv_im2col", node.name, x, y, record, z=z, label="BLAS", work=work, cut=cut, serial=True)


def _matmul(low: Lowering, node: Node) -> Emit:
    """Matrices in PyTorch's order, each product by one thread; the right one is put into panels as it comes."""
    (*lead, m, k), out = low.graph.shapes[node.inputs[0]], low.graph.shapes[node.name][-1]
    first, second = (low.read(name, NCHW, contiguous=True) for name in node.inputs)
    value = low.write(node, NCHW)
    value.contiguous.add(value.made)
    record = {"count": prod(lead), "m": m, "k": k, "o": out}
    if low.double:
        from ..conv.im2col import bind_blas

        bind_blas()
    scratch = 0 if low.double else k * panels(low.kernels, out, 1) * low.kernels.NR * 4

    def emit() -> None:
        x, z, y = low.ref(first), low.ref(second), Ref(low.result(value))
        work = prod(lead) * m * k * out
        units = (prod(lead), 1, 1, scratch)
        low.emit(Step("matmul", node.name, x, y, record, z=z, work=work, cut=lambda images: units, serial=low.double))

    return emit


LOWER = {"linear": _linear, "matmul": _matmul}
