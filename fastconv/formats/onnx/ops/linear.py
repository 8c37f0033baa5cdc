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
    dims = list(range(len(x.axes)))
    return x.permuted([*dims[:-2], *dims[:-3:-1]])


@FUNCTIONS("Attention")
def _attention(
    reader: Reader,
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    *others: Any,
    is_causal: int,
    scale: float | None = None,
    softcap: float = 0.0,
    q_num_heads: int | None = None,
    kv_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    softmax_precision: int | None = None,
    left_window_size: int = -1,
    right_window_size: int = -1,
) -> Value:
    """softmax(scale * Q K^T + mask) V for each head (Vaswani et al., "Attention Is All You Need", 2017)."""
    if any(other is not None for other in others):
        raise reader.unsupported("with keys and values of the past")
    if isinstance(mask, Value) or not all(isinstance(x, Value) for x in (query, key, value)):
        raise reader.unsupported("whose mask is computed from the input, or whose queries, keys or values are not")
    if softcap or (left_window_size, right_window_size) != (-1, -1):
        raise reader.unsupported("with softcap or a window")
    rows = len(query.axes) == 3
    if rows and (q_num_heads is None or kv_num_heads is None):
        raise reader.error("needs q_num_heads and kv_num_heads for three axes")
    parts = [
        _heads(reader, x, heads) if rows else x
        for x, heads in ((query, q_num_heads), (key, kv_num_heads), (value, kv_num_heads))
    ]
    shapes = [reader.shape(x, reader.batches[0]) for x in parts]
    if any(len(shape) != 4 for shape in shapes) or shapes[0][3] != shapes[1][3] or shapes[1][2] != shapes[2][2]:
        raise reader.error(f"cannot compute with queries, keys and values of shapes {shapes}")
    if shapes[0][1] != shapes[1][1]:
        raise reader.unsupported("with other heads of queries than of keys")
    scores = _matmul(
        reader, affine(reader, parts[0], shapes[0][3] ** -0.5 if scale is None else scale), turned(parts[1])
    )
    for added in (_causal(reader, shapes[0][2], shapes[1][2]) if is_causal else None, mask):
        if added is not None:
            if added.dtype.kind == "b":
                added = np.where(added, 0.0, -np.inf)
            scores = affine(reader, scores, shift=added)
    y = _matmul(reader, reader.along("softmax", scores, dim=reader.axis(scores, -1)), parts[2])
    if not rows:
        return y
    y = y.permuted((0, 2, 1, 3))
    sizes = [reader.shape(y, batch) for batch in reader.batches]
    return reader.reshape(y, [(*shape[:2], shape[2] * shape[3]) for shape in sizes])


def _heads(reader: Reader, x: Value, heads: int | None) -> Value:
    """(N, S, heads * D) as (N, heads, S, D)."""
    sizes = [reader.shape(x, batch) for batch in reader.batches]
    if not heads or len(sizes[0]) != 3 or sizes[0][2] % heads:
        raise reader.error(f"cannot divide {sizes[0]} into {heads} heads")
    return reader.reshape(x, [(n, length, heads, width // heads) for n, length, width in sizes]).permuted((0, 2, 1, 3))


def _causal(reader: Reader, queries: int, keys: int) -> np.ndarray:
    reader.charge(queries * keys)
    return np.tri(queries, keys, dtype=bool)


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
            permuted = operand.permuted(way.dims)
            matrices.append(reader.reshape(permuted, [way.shape(each) for each in sizes]))
        else:
            matrices.append(operand.transpose(way.dims).reshape(way.shape(sizes[0])))
    product = _matmul(reader, *matrices)
    product = reader.reshape(product, [[each[x] for x in plan.made] for each in sizes])
    return product.permuted(plan.dims)


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
        a = a.permuted((1, 0))
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
