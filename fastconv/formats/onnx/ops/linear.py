"""Products with a constant matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ShapeError
from ....graph.ops import OPS
from ..values import Value
from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()


@FUNCTIONS("MatMul", mixed=True)
def _matmul(reader: Reader, x: Any, y: Any) -> Value:
    if isinstance(x, Value) and isinstance(y, Value):
        x, y = reader.plain(x), reader.plain(y)
        try:
            OPS["matmul"].infer([reader.sizes(x), reader.sizes(y)], {}, {})
        except ShapeError:
            raise reader.unsupported("of two tensors of other leading axes") from None
        return reader.emit("matmul", x, y)
    if not isinstance(x, Value) or y.ndim != 2:
        raise reader.unsupported("without a constant matrix on its right")
    return reader.emit("linear", x, weights={"weight": reader.weight(y, transposed=True)})


@FUNCTIONS("Gemm", mixed=True)
def _gemm(
    reader: Reader, a: Any, b: Any, c: Any = None, *, alpha: float, beta: float, transA: int, transB: int
) -> Value:
    if not isinstance(a, Value) or isinstance(b, Value):
        raise reader.unsupported("without a constant matrix on its right")
    if b.ndim != 2 or len(a.axes) != 2:
        raise reader.error(f"needs two matrices, got {len(a.axes)} and {b.ndim} axes")
    if transA:
        a = Value(a.name, a.axes[::-1])
    weight = reader.weight(b, transposed=not transB)
    if alpha != 1:
        weight = (weight.astype(np.float64) * alpha).astype(weight.dtype)
    added = isinstance(c, Value)
    bias = None if c is None or added else _row(reader, c, beta, len(weight))
    y = reader.emit("linear", a, weights={"weight": weight, "bias": bias})
    if not added:
        return y
    if beta != 1:
        raise reader.unsupported(f"with beta={beta}")
    if reader.shape(c, reader.batches[0]) != reader.shape(y, reader.batches[0]):
        raise reader.unsupported("of tensors of different shapes")
    return reader.emit("add", y, c)


def _row(reader: Reader, c: np.ndarray, beta: float, out: int) -> np.ndarray:
    """What is added to every row of the product."""
    bias = reader.weight(c)
    if bias.ndim > 2 or (bias.ndim == 2 and len(bias) != 1) or bias.shape[-1:] not in ((), (1,), (out,)):
        raise reader.unsupported(f"with C of shape {bias.shape}")
    if beta != 1:
        bias = (bias.astype(np.float64) * beta).astype(bias.dtype)
    return np.broadcast_to(bias.reshape(-1), (out,))
