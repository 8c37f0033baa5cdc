"""Pooling as steps: every kind is one kernel, whose windows are tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..tensors import Ref, Step

if TYPE_CHECKING:
    from ...graph import Node
    from ..lowering import Emit, Lowering
    from ..tensors import Tensor

__all__ = ["LOWER", "emit_pool"]


def emit_pool(
    low: Lowering,
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
    """Emit a pool of x into y, with PyTorch's attributes."""
    windows = [
        low.kernels.pool_windows(size, kernel[i], stride[i], padding[i], dilation[i], out, count_include_pad)
        for i, (size, out) in enumerate(((x.h, y.h), (x.w, y.w)))
    ]
    record = _record(low, kind, windows, dilation, float(divisor or 0))
    work = y.h * y.w * y.c * kernel[0] * kernel[1]
    low.emit(Step("pool", node.name, Ref(x), Ref(y), record, label=f"{kind} pool", work=work))


def _record(
    low: Lowering, kind: str, windows: list[np.ndarray], dilation: tuple[int, int], divisor: float
) -> dict[str, object]:
    """Return the fields of kernels/records.pxi's PoolRecord."""
    return {
        "kind": low.kernels.POOLS[kind],
        "windows": low.constant(np.concatenate(windows)),
        "dh": dilation[0],
        "dw": dilation[1],
        "divisor": divisor,
    }


def _pool2d(low: Lowering, node: Node) -> Emit:
    read, value, a = low.read(node.inputs[0]), low.write(node), node.attrs

    def emit() -> None:
        emit_pool(
            low,
            node,
            low.tensor(read),
            low.result(value),
            node.op[:3],
            a["kernel_size"],
            a["stride"],
            a["padding"],
            a.get("dilation", (1, 1)),
            a.get("count_include_pad", True),
            a.get("divisor_override"),
        )

    return emit


def _adaptive(low: Lowering, node: Node) -> Emit:
    read, value = low.read(node.inputs[0]), low.write(node)
    kind = node.op.split("_")[1]

    def emit() -> None:
        x, y = low.tensor(read), low.result(value)
        windows = [low.kernels.adaptive_windows(size, out) for size, out in ((x.h, y.h), (x.w, y.w))]
        record = _record(low, kind, windows, (1, 1), 0.0)
        work = x.h * x.w * x.c
        low.emit(Step("pool", node.name, Ref(x), Ref(y), record, label=f"adaptive {kind} pool", work=work))

    return emit


LOWER = {
    "max_pool2d": _pool2d,
    "avg_pool2d": _pool2d,
    "adaptive_avg_pool2d": _adaptive,
    "adaptive_max_pool2d": _adaptive,
}
