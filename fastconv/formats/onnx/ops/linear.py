"""Products with a constant matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ShapeError
from ....graph.ops import OPS
from ...einsum import einsum
from ..values import Value
from .arithmetic import affine, of_two
from .table import Functions

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["FUNCTIONS", "times", "turned"]

FUNCTIONS = Functions()


@FUNCTIONS("MatMul", mixed=True)
def _matmul(reader: Reader, x: Any, y: Any) -> Value:
    """The product of the last two axes, for each index of the others."""
    if isinstance(x, Value) and isinstance(y, Value):
        x, y = reader.alike(reader.arranged(x), reader.arranged(y))
        try:
            OPS["matmul"].infer([reader.sizes(x), reader.sizes(y)], {}, {})
        except ShapeError:
            raise reader.unsupported("of two tensors of other leading axes") from None
        return reader.trailing("matmul", x, y, count=2)
    if isinstance(x, Value) and y.ndim == 2:
        return times(reader, x, reader.weight(y, transposed=True))
    if isinstance(y, Value) and x.ndim == 2:
        return turned(times(reader, turned(y), reader.weight(x)))
    raise reader.unsupported("with constants that are not matrices")


def times(reader: Reader, x: Value, weight: np.ndarray) -> Value:
    """Each row times the transposed weight."""
    return reader.trailing("linear", x, count=1, weights={"weight": weight})


def turned(x: Value) -> Value:
    """Return a value with the last two axes exchanged."""
    return Value(x.name, (*x.axes[:-2], *x.axes[:-3:-1]), x.floating)


@FUNCTIONS("Einsum", mixed=True)
def _einsum(reader: Reader, *operands: Any, equation: str) -> Value:
    try:
        plan = einsum(equation)
        sizes = [plan.sizes(*(_shape(reader, x, batch) for x in operands)) for batch in reader.batches]
    except ValueError as error:
        raise reader.unsupported(f"{equation!r} {error}") from None
    matrices = []
    for operand, way in zip(operands, (plan.first, plan.second), strict=True):
        if isinstance(operand, Value):
            permuted = Value(operand.name, tuple(operand.axes[dim] for dim in way.dims), operand.floating)
            matrices.append(reader.reshape(permuted, [way.shape(each) for each in sizes]))
        else:
            matrices.append(operand.transpose(way.dims).reshape(way.shape(sizes[0])))
    product = _matmul(reader, *matrices)
    product = reader.reshape(product, [[each[x] for x in plan.made] for each in sizes])
    return Value(product.name, tuple(product.axes[dim] for dim in plan.dims), product.floating)


def _shape(reader: Reader, x: Any, batch: int) -> tuple[int, ...]:
    return reader.shape(x, batch) if isinstance(x, Value) else tuple(x.shape)


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
    y = reader.trailing("linear", a, count=1, weights={"weight": weight, "bias": bias})
    if not added:
        return y
    if beta != 1:
        c = affine(reader, c, beta)
    return of_two(reader, "add", y, c)


def _row(reader: Reader, c: np.ndarray, beta: float, out: int) -> np.ndarray:
    """What is added to every row of the product."""
    bias = reader.weight(c)
    if bias.ndim > 2 or (bias.ndim == 2 and len(bias) != 1) or bias.shape[-1:] not in ((), (1,), (out,)):
        raise reader.unsupported(f"with C of shape {bias.shape}")
    if beta != 1:
        bias = (bias.astype(np.float64) * beta).astype(bias.dtype)
    return np.broadcast_to(bias.reshape(-1), (out,))
